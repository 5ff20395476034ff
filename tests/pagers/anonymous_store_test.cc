#include "pagers/anon/anonymous_store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <map>
#include <thread>
#include <vector>

#include "pagers/common/failure.h"
#include "tests/pagers/support.h"

using Catch::Matchers::Contains;
using pager::AnonymousStore;
using pager::Compression;
using pager::SwapFile;
using pager::SwapSpace;
using pager::WorkspacePool;
using test::Memory;
using test::range;

namespace {

/// What the store itself gives for these pages, in memory of its own.
std::string content(AnonymousStore& store, std::uint64_t first, std::uint64_t count) {
  Memory memory(first + count);
  store.page_in(range(first, count), memory.get());
  return memory.read(first, count);
}

/// The errno with which it fails; 0 when it does not.
template <class Work>
int error_of(Work&& work) {
  try {
    work();
  } catch (const pager::Failure& failure) {
    return failure.error();
  }
  return 0;
}

struct Store {
  explicit Store(std::vector<SwapFile> files, Compression compression = Compression::none)
      : swap(std::move(files)), workspaces(compression) {}

  std::uint64_t sectors() const { return swap.usage().sectors; }

  SwapSpace swap;
  WorkspacePool workspaces;
  AnonymousStore store{swap, workspaces};
};

/// No file of this process grows beyond `bytes`, as if the file system were full.
class FileLimit {
 public:
  explicit FileLimit(std::uint64_t bytes) {
    old_handler_ = ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    ::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_;
  sighandler_t old_handler_;
};

/// One object and what it has to be like.
struct Modelled {
  static constexpr std::uint64_t kPages = 600;

  Modelled(SwapSpace& swap, WorkspacePool& workspaces) : store(swap, workspaces) {}

  std::string stored_page(std::uint64_t page) const {
    const auto known = stored.find(page);
    return known == stored.end() ? test::zero_page() : known->second;
  }
  /// The first page in the range that differs; -1 when none does.
  long differs(std::uint64_t first, std::uint64_t count) {
    const std::string data = content(store, first, count);
    for (std::uint64_t i = 0; i < count; ++i)
      if (data.compare(i * test::kPage, test::kPage, stored_page(first + i)) != 0)
        return static_cast<long>(first + i);
    return -1;
  }
  void forget(std::uint64_t first, std::uint64_t end) {
    stored.erase(stored.lower_bound(first), stored.lower_bound(end));
  }

  AnonymousStore store;
  Memory memory{kPages};
  std::map<std::uint64_t, std::string> resident;
  std::map<std::uint64_t, std::string> stored;
};

struct Counts {
  unsigned written = 0;
  unsigned refused = 0;
};

/// One random request, carried out and checked. Without Catch, for threads; gives what is wrong.
std::string step(Modelled& object, test::Random& random, Counts& counts) {
  constexpr std::uint64_t kPages = Modelled::kPages;
  const std::uint64_t first = random.below(kPages);
  const std::uint64_t most = random.one_in(10) ? kPages : 40;
  const std::uint64_t count = std::min(kPages - first, random.between(1, most));
  switch (random.below(10)) {
    case 0:
    case 1:
    case 2:  // the program stores
      for (std::uint64_t page = first; page < first + count; ++page) {
        if (random.one_in(5)) continue;
        object.resident[page] = test::any_page(random);
        object.memory.write(page, object.resident[page]);
      }
      return "";
    case 3:
    case 4:
    case 5: {
      const int error =
          error_of([&] { object.store.page_out(range(first, count), object.memory.get()); });
      if (error == 0) {
        ++counts.written;
        for (auto page = object.resident.lower_bound(first);
             page != object.resident.end() && page->first < first + count; ++page)
          object.stored[page->first] = page->second;
      } else {
        ++counts.refused;
        if (error != ENOSPC) return "page_out: errno " + std::to_string(error);
      }
      break;
    }
    case 6:  // the server takes the memory back
      object.memory.drop(first, count);
      object.resident.erase(object.resident.lower_bound(first),
                            object.resident.lower_bound(first + count));
      return "";
    case 7:
      object.store.discard(range(first, count));
      object.forget(first, first + count);
      break;
    case 8:
      if (!random.one_in(5)) break;
      object.store.resize(hal::bytes_from_pages(first) - (first > 0 ? random.below(4096) : 0));
      object.forget(first, kPages);
      break;
    default:
      break;
  }
  const long page = object.differs(first, count);
  return page < 0 ? "" : "page " + std::to_string(page) + " differs";
}

}  // namespace

TEST_CASE("objects are what was written out of them last, whatever the order of requests") {
  test::Random random;
  const Compression compression = GENERATE(Compression::none, Compression::zstd, Compression::lz4);
  INFO("VM_TEST_SEED=" << random.seed() << " compression " << static_cast<int>(compression));
  const test::Directory directory;
  // Objects come to about 800 pages that are not zero.
  const bool compresses = compression != Compression::none;
  SwapSpace swap({directory.swap(compresses ? 90 : 200, "a"), directory.swap(101, "b")});
  WorkspacePool workspaces(compression);
  Counts counts;
  {
    std::vector<std::unique_ptr<Modelled>> objects;
    for (int i = 0; i < 2; ++i) objects.push_back(std::make_unique<Modelled>(swap, workspaces));
    for (int i = 0; i < 1500; ++i) {
      Modelled& object = *objects[random.below(objects.size())];
      REQUIRE(step(object, random, counts) == "");
      if (random.one_in(100))
        for (const auto& each : objects) REQUIRE(each->differs(0, Modelled::kPages) == -1);
    }
    for (const auto& each : objects) REQUIRE(each->differs(0, Modelled::kPages) == -1);
  }
  CHECK(counts.written > 100);
  CHECK(counts.refused > 0);
  CHECK(swap.usage().sectors == 0);
}

TEST_CASE("objects of several threads share a swap without touching each other") {
  test::Random seeds;
  const Compression compression = GENERATE(Compression::none, Compression::zstd);
  INFO("VM_TEST_SEED=" << seeds.seed());
  const test::Directory directory;
  SwapSpace swap({directory.swap(500, "a"), directory.swap(500, "b")});
  WorkspacePool workspaces(compression);
  std::vector<std::string> errors(4);
  std::vector<std::thread> threads;
  for (std::string& error : errors) {
    threads.emplace_back([&, seed = seeds.below(~0ull)] {
      test::Random random(seed);
      Modelled object(swap, workspaces);
      Counts counts;
      for (int i = 0; i < 400 && error.empty(); ++i) error = step(object, random, counts);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& error : errors) CHECK(error == "");
  CHECK(swap.usage().sectors == 0);
}

TEST_CASE("a page-out into a full swap is refused whole, and what was stored before stays") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  const test::Directory directory;
  Store a({directory.swap(64)});
  Memory memory(100);
  std::string data;
  for (int i = 0; i < 64; ++i) data += test::random_page(random);
  memory.write(0, data);
  a.store.page_out(range(0, 60), memory.get());
  REQUIRE(a.sectors() == 60 * 8);
  const std::string before = data.substr(0, 60 * test::kPage);

  // Of these eight one too many is new: 60 + 5.
  for (int page = 57; page < 65; ++page) memory.write(page, test::random_page(random));
  CHECK_THROWS_WITH(a.store.page_out(range(57, 8), memory.get()),
                    "keep 32 KiB at 228 KiB of an anonymous object: the swap is full "
                    "(60 of 64 pages in use): ENOSPC");
  CHECK(content(a.store, 0, 60) == before);
  CHECK(content(a.store, 60, 10) == std::string(10 * test::kPage, '\0'));
  CHECK(a.sectors() == 60 * 8);
}

TEST_CASE("a full swap takes pages again that it has") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  const Compression compression = GENERATE(Compression::none, Compression::zstd);
  const test::Directory directory;
  Store a({directory.swap(16)}, compression);
  Memory memory(16);
  for (int round = 0; round < 3; ++round) {
    for (int page = 0; page < 16; ++page) memory.write(page, test::random_page(random));
    a.store.page_out(range(0, 16), memory.get());
    CHECK(content(a.store, 0, 16) == memory.read(0, 16));
    CHECK(a.sectors() == 16 * 8);
  }
}

TEST_CASE("a page that was lost while it replaced its older copy is an error and never zeroes") {
  test::Random random;
  const test::Directory directory;
  Store a({directory.swap(4)});
  Memory memory(4);
  for (int page = 0; page < 4; ++page) memory.write(page, test::random_page(random));
  a.store.page_out(range(0, 4), memory.get());
  {
    const FileLimit limit(0);
    CHECK(error_of([&] { a.store.page_out(range(1, 2), memory.get()); }) == ENOSPC);
  }
  CHECK(content(a.store, 0, 1) == memory.read(0));
  Memory other(4);
  CHECK_THROWS_WITH(a.store.page_in(range(0, 4), other.get()),
                    Contains("fill 4 KiB at 4 KiB of an anonymous object") && Contains("lost"));
  CHECK(error_of([&] { a.store.page_in(range(2, 1), other.get()); }) == EIO);
  a.store.page_out(range(1, 2), memory.get());
  CHECK(content(a.store, 0, 4) == memory.read(0, 4));
}

TEST_CASE("where the file system is full a page-out is refused whole, and space comes again") {
  test::Random random;
  const test::Directory directory;
  Store a({SwapFile::open(directory / "swap", std::nullopt)});
  Memory memory(64);
  for (int page = 0; page < 64; ++page) memory.write(page, test::random_page(random));
  const std::string before = memory.read(0, 40);
  const FileLimit limit(64 * test::kPage);
  a.store.page_out(range(0, 40), memory.get());
  for (int page = 0; page < 64; ++page) memory.write(page, test::random_page(random));
  CHECK_THROWS_WITH(
      a.store.page_out(range(4, 60), memory.get()),
      Contains("the swap is full (40 pages in use), no space left") && Contains("ENOSPC"));
  CHECK(content(a.store, 0, 64) == before + std::string(24 * test::kPage, '\0'));
  CHECK(a.sectors() == 40 * 8);
  a.store.discard(range(0, 40));
  a.store.page_out(range(4, 60), memory.get());
  CHECK(content(a.store, 4, 60) == memory.read(4, 60));
}

TEST_CASE("where one file system is full the other swap file takes what it could not") {
  test::Random random;
  const test::Directory directory;
  Store a({SwapFile::open(directory / "a", std::nullopt), directory.swap(64, "b")});
  Memory memory(32);
  for (int page = 0; page < 32; ++page) memory.write(page, test::random_page(random));
  // The limit is that of each file, and the first one is used up to there.
  const FileLimit limit(32 * test::kPage);
  SwapSpace::FileSet second;
  second.set(1);
  REQUIRE(a.swap.allocate(std::vector<std::uint8_t>(32, 8), second));
  for (int first = 0; first < 32; first += 16) a.store.page_out(range(first, 16), memory.get());
  CHECK(content(a.store, 0, 32) == memory.read(0, 32));
}

TEST_CASE("zero pages take no room, and free what was stored of them before") {
  test::Random random;
  const test::Directory directory;
  Store a({directory.swap(64)});
  Memory memory(32);
  memory.write(0, std::string(32 * test::kPage, '\0'));
  a.store.page_out(range(0, 32), memory.get());
  CHECK(a.sectors() == 0);
  memory.write(4, test::random_page(random));
  memory.write(9, test::random_page(random));
  a.store.page_out(range(0, 32), memory.get());
  CHECK(a.sectors() == 2 * 8);
  CHECK(content(a.store, 0, 32) == memory.read(0, 32));
  memory.write(4, test::zero_page());
  a.store.page_out(range(0, 32), memory.get());
  CHECK(a.sectors() == 8);
  CHECK(content(a.store, 0, 32) == memory.read(0, 32));
}

TEST_CASE("a page that compression does not make 3/4 or less is stored as it is") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  const Compression compression = GENERATE(Compression::zstd, Compression::lz4);
  const test::Directory directory;
  const SwapFile file = directory.swap(64);
  Store a({file}, compression);
  Memory memory(3);
  memory.write(0, test::random_page(random));
  a.store.page_out(range(0, 1), memory.get());
  CHECK(a.sectors() == 8);
  std::string on_disk(test::kPage, '\0');
  file.read({0, 8}, on_disk.data());
  CHECK(on_disk == memory.read(0));
  memory.write(1, test::compressible_page(random));
  a.store.page_out(range(1, 1), memory.get());
  CHECK(a.sectors() > 8);
  CHECK(a.sectors() <= 8 + 4);
  CHECK(content(a.store, 0, 3) == memory.read(0, 2) + test::zero_page());
}

TEST_CASE("compressed pages fit into a swap that is smaller than they are") {
  test::Random random;
  const Compression compression = GENERATE(Compression::zstd, Compression::lz4);
  const test::Directory directory;
  Store a({directory.swap(128)}, compression);
  Memory memory(240);
  for (int page = 0; page < 240; ++page) memory.write(page, test::compressible_page(random));
  a.store.page_out(range(0, 240), memory.get());
  CHECK(a.sectors() <= 128 * 8);
  CHECK(content(a.store, 0, 240) == memory.read(0, 240));
}

TEST_CASE("what an object forgets is free for others at once") {
  test::Random random;
  const test::Directory directory;
  Store a({directory.swap(32)});
  AnonymousStore other(a.swap, a.workspaces);
  Memory memory(32);
  for (int page = 0; page < 32; ++page) memory.write(page, test::random_page(random));
  const auto is_full = [&] {
    return error_of([&] { other.page_out(range(0, 32), memory.get()); }) == ENOSPC;
  };
  a.store.page_out(range(0, 32), memory.get());
  CHECK(is_full());
  SECTION("by discard") {
    a.store.discard(range(0, 31));
    CHECK(is_full());
    a.store.discard(range(0, 1000));
  }
  SECTION("by a smaller size") {
    a.store.resize(1);
    CHECK(is_full());
    a.store.resize(0);
  }
  SECTION("by pages that are zero now") {
    memory.write(0, std::string(32 * test::kPage, '\0'));
    a.store.page_out(range(0, 32), memory.get());
    for (int page = 0; page < 32; ++page) memory.write(page, test::random_page(random));
  }
  CHECK_FALSE(is_full());
  CHECK(content(other, 0, 32) == memory.read(0, 32));
  CHECK(content(a.store, 0, 32) == std::string(32 * test::kPage, '\0'));
}

TEST_CASE("only pages that are resident are written out") {
  test::Random random;
  const test::Directory directory;
  Store a({directory.swap(64)});
  Memory memory(32);
  const std::string page = test::random_page(random);
  memory.write(7, page);
  memory.write(8, page);
  a.store.page_out(range(0, 32), memory.get());
  CHECK(a.sectors() == 16);
  memory.drop(7, 1);
  memory.write(20, page);
  a.store.page_out(range(0, 32), memory.get());
  CHECK(a.sectors() == 24);
  CHECK(content(a.store, 7, 2) == page + page);
}

TEST_CASE("a stored page costs 8 bytes, and a forgotten one nothing") {
  STATIC_REQUIRE(sizeof(pager::StoredPage) == 8);
  const pager::SwapRun run{255, {pager::SectorMap::kMostSectors, 6}};
  const auto page = pager::StoredPage::at(run, 2817);
  CHECK(page.run() == run);
  CHECK(page.bytes() == 2817);
  CHECK(page.is_compressed());
  CHECK_FALSE(pager::StoredPage().is_known());
  CHECK_FALSE(pager::StoredPage::lost().is_stored());
}

TEST_CASE("requests for different pages of one object may come at the same time") {
  test::Random seeds;
  CAPTURE(seeds.seed());
  const test::Directory directory;
  constexpr std::uint64_t kPagesEach = 150;  // borders lie within what is kept together
  std::vector<SwapFile> files;
  files.push_back(directory.swap(2 * 3 * kPagesEach));
  Store store(std::move(files), Compression::lz4);
  std::atomic<unsigned> wrong = 0;
  const auto use = [&](std::uint64_t begin, std::uint64_t seed) {
    test::Random random(seed);
    std::vector<std::string> model(kPagesEach, test::zero_page());
    for (int step = 0; step < 400; ++step) {
      const std::uint64_t first = random.below(kPagesEach);
      const std::uint64_t count = std::min(1 + random.below(30), kPagesEach - first);
      const hal::PageRange pages = range(begin + first, count);
      Memory memory(begin + first + count);
      switch (random.below(4)) {
        case 0:
          store.store.discard(pages);
          for (std::uint64_t i = 0; i < count; ++i) model[first + i] = test::zero_page();
          break;
        case 1:
          for (std::uint64_t i = 0; i < count; ++i)
            memory.write(begin + first + i, model[first + i] = test::any_page(random));
          store.store.page_out(pages, memory.get());
          break;
        default:
          if (random.one_in(2) || !store.store.page_in_at_once(pages, memory.get()))
            store.store.page_in(pages, memory.get());
          for (std::uint64_t i = 0; i < count; ++i)
            wrong += memory.read(begin + first + i) != model[first + i] ? 1 : 0;
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 3; ++i) threads.emplace_back(use, i * kPagesEach, seeds.seed() + i);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("a page-in that must not wait fills all of its pages or none") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  std::vector<SwapFile> files;
  files.push_back(directory.swap(64));
  const int file = ::dup(files.front().descriptor());
  REQUIRE(file >= 0);
  Store store(std::move(files));
  std::string stored;
  for (int i = 0; i < 32; ++i) stored += test::random_page(random);
  Memory memory(40);
  memory.write(0, stored);
  store.store.page_out(range(0, 32), memory.get());
  memory.drop(0, 40);
  CHECK(store.store.page_in_at_once(range(32, 8), memory.get()));
  CHECK(memory.read(32, 8) == std::string(8 * test::kPage, '\0'));
  memory.drop(0, 40);
  // Now the disk alone has them, where there is one.
  REQUIRE(::fdatasync(file) == 0);
  REQUIRE(::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0);
  ::close(file);
  if (!store.store.page_in_at_once(range(0, 32), memory.get())) {
    CHECK(memory.get().next_resident(range(0, 40)).empty());
    store.store.page_in(range(0, 32), memory.get());
  }
  CHECK(memory.read(0, 32) == stored);
}
