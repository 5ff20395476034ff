#include "pagers/anon/swap_index.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "pagers/anon/anonymous_store.h"
#include "pagers/common/failure.h"
#include "tests/pagers/support.h"

using Catch::Matchers::Contains;
using hal::PageIndex;
using hal::PageRange;
using pager::AnonymousStore;
using pager::Compression;
using pager::ServerId;
using pager::StoredPages;
using pager::SwapFile;
using pager::SwapIndex;
using pager::SwapSpace;
using pager::WorkspacePool;
using test::Memory;
using test::range;

namespace {

constexpr ServerId kServer{1, 2};
constexpr ServerId kOtherServer{1, 3};

/// What one pager process has of the files.
struct Pager {
  explicit Pager(std::vector<SwapFile> files, Compression compression = Compression::none)
      : swap(std::move(files)), index(swap), workspaces(compression) {}

  /// Whether anything of the object was kept.
  bool open(std::uint64_t object, const ServerId& server = kServer) {
    std::optional<StoredPages> kept = index.take(server, object);
    const bool is_kept = kept.has_value();
    stores[object] = std::make_unique<AnonymousStore>(swap, workspaces, index, object,
                                                      std::move(kept).value_or(StoredPages()));
    return is_kept;
  }
  AnonymousStore& at(std::uint64_t object) { return *stores.at(object); }

  SwapSpace swap;
  SwapIndex index;
  WorkspacePool workspaces;
  std::map<std::uint64_t, std::unique_ptr<AnonymousStore>> stores;
};

std::vector<SwapFile> one_file(const test::Directory& directory, std::uint64_t pages) {
  std::vector<SwapFile> files;
  files.push_back(SwapFile::keep(directory / "swap", pages * test::kPage));
  return files;
}

void write_out(AnonymousStore& store, std::uint64_t page, const std::string& data) {
  const std::uint64_t count = data.size() / test::kPage;
  Memory memory(page + count);
  memory.write(page, data);
  store.page_out(range(page, count), memory.get());
}

std::string content(AnonymousStore& store, std::uint64_t page, std::uint64_t count = 1) {
  Memory memory(page + count);
  store.page_in(range(page, count), memory.get());
  return memory.read(page, count);
}

bool has(const AnonymousStore& store, std::uint64_t page) {
  const auto kept = store.kept(PageIndex(page), 1);
  return !kept.empty() && kept.front().contains(PageIndex(page));
}

int error_of_reading(AnonymousStore& store, std::uint64_t page) {
  try {
    content(store, page);
  } catch (const pager::Failure& failure) {
    return failure.error();
  }
  return 0;
}

std::string refusal(std::vector<SwapFile> files) {
  try {
    Pager pager(std::move(files));
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("what was written out is there for the next process, and the files keep their names") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  const auto files = [&] {
    std::vector<SwapFile> files;
    files.push_back(SwapFile::keep(directory / "one", 512 * test::kPage));
    files.push_back(SwapFile::keep(directory / "two", std::nullopt));
    return files;
  };
  const Compression compression = random.one_in(2)   ? Compression::zstd
                                  : random.one_in(2) ? Compression::lz4
                                                     : Compression::none;
  std::string first;
  std::string second;
  for (int i = 0; i < 700; ++i) first += test::any_page(random);
  for (int i = 0; i < 300; ++i) second += test::any_page(random);
  std::uint64_t sectors = 0;
  {
    Pager pager(files(), compression);
    CHECK_FALSE(pager.open(1));
    CHECK_FALSE(pager.open(2));
    write_out(pager.at(1), 5, first);
    write_out(pager.at(2), 1000000, second);
    sectors = pager.swap.usage().sectors;
  }
  struct stat status;
  REQUIRE(::stat((directory / "one").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  Pager pager(files(), compression);
  CHECK(pager.swap.usage().sectors == sectors);
  REQUIRE(pager.open(1));
  REQUIRE(pager.open(2));
  CHECK_FALSE(pager.open(3));
  CHECK(pager.at(1).kept(PageIndex(0), 10) == std::vector<PageRange>{range(5, 700)});
  CHECK(pager.at(2).kept(PageIndex(0), 10) == std::vector<PageRange>{range(1000000, 300)});
  CHECK(content(pager.at(1), 5, 700) == first);
  CHECK(content(pager.at(2), 1000000, 300) == second);
}

TEST_CASE("what was forgotten or written again does not come back as it was") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  const std::string again = test::random_page(random);
  {
    Pager pager(one_file(directory, 256));
    pager.open(1);
    pager.open(2);
    std::string data;
    for (int i = 0; i < 20; ++i) data += test::random_page(random);
    write_out(pager.at(1), 0, data);
    write_out(pager.at(2), 0, data);
    pager.at(1).discard(range(3, 4));
    write_out(pager.at(1), 10, again);
    pager.at(1).resize(15 * test::kPage);
    pager.at(2).forget();
  }
  Pager pager(one_file(directory, 256));
  REQUIRE(pager.open(1));
  CHECK(pager.at(1).kept(PageIndex(0), 10) == std::vector<PageRange>{range(0, 3), range(7, 8)});
  CHECK(content(pager.at(1), 3) == test::zero_page());
  CHECK(content(pager.at(1), 10) == again);
  CHECK_FALSE(pager.open(2));
}

TEST_CASE("content of another server is never taken, and is gone once a server was served") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  {
    Pager pager(one_file(directory, 256));
    pager.open(1);
    write_out(pager.at(1), 0, test::random_page(random));
  }
  {
    Pager pager(one_file(directory, 256));
    CHECK_FALSE(pager.open(1, kOtherServer));
    CHECK(content(pager.at(1), 0) == test::zero_page());
    CHECK(pager.swap.usage().sectors == SwapSpace::kHeaderSectors);
  }
  Pager pager(one_file(directory, 256));
  CHECK_FALSE(pager.open(1, kServer));
}

TEST_CASE("objects that nobody opens again are forgotten") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  {
    Pager pager(one_file(directory, 256));
    for (const std::uint64_t object : {1, 2}) {
      pager.open(object);
      write_out(pager.at(object), 0, test::random_page(random));
    }
  }
  Pager pager(one_file(directory, 256));
  REQUIRE(pager.open(1));
  const std::uint64_t before = pager.swap.usage().sectors;
  pager.index.forget_untaken();
  CHECK(pager.swap.usage().sectors == before - pager::kPageSectors);
  CHECK_FALSE(pager.open(2));
  CHECK(has(pager.at(1), 0));
}

TEST_CASE("an index of several directories is found again") {
  const test::Directory directory;
  constexpr std::uint64_t kBlocks = 600;
  constexpr std::uint64_t kApart = 254;
  {
    Pager pager(one_file(directory, 2048));
    pager.open(1);
    for (std::uint64_t i = 0; i < kBlocks; ++i)
      write_out(pager.at(1), i * kApart, std::string(test::kPage, static_cast<char>(1 + i % 99)));
  }
  Pager pager(one_file(directory, 2048));
  REQUIRE(pager.open(1));
  for (std::uint64_t i = 0; i < kBlocks; ++i)
    REQUIRE(content(pager.at(1), i * kApart) ==
            std::string(test::kPage, static_cast<char>(1 + i % 99)));
}

TEST_CASE("a full swap keeps what it has, also through a page-out in the place of older copies") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  std::vector<std::string> pages(16);
  {
    Pager pager(one_file(directory, 16 + 3));  // a header, a directory, a block
    pager.open(1);
    for (std::uint64_t i = 0; i < pages.size(); ++i)
      write_out(pager.at(1), i, pages[i] = test::random_page(random));
    CHECK_THROWS_AS(write_out(pager.at(1), 16, test::random_page(random)), pager::Failure);
    write_out(pager.at(1), 7, pages[7] = test::random_page(random));
  }
  Pager pager(one_file(directory, 16 + 3));
  REQUIRE(pager.open(1));
  for (std::uint64_t i = 0; i < pages.size(); ++i) REQUIRE(content(pager.at(1), i) == pages[i]);
  CHECK_FALSE(has(pager.at(1), 16));
}

TEST_CASE("a byte of the index that was changed costs pages, and gives none a content it had not") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  constexpr std::uint64_t kPages = 200;
  {
    // Zeroes: all that is in the file besides the header is the index.
    Pager pager(one_file(directory, 64));
    pager.open(1);
    write_out(pager.at(1), 0, std::string(kPages * test::kPage, '\0'));
  }
  const int file = ::open((directory / "swap").c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(file >= 0);
  struct stat status;
  REQUIRE(::fstat(file, &status) == 0);
  std::uint64_t lost = 0;
  for (int i = 0; i < 400; ++i) {
    const auto at = static_cast<off_t>(random.between(test::kPage, status.st_size - 1));
    char before = 0;
    REQUIRE(::pread(file, &before, 1, at) == 1);
    const char changed = static_cast<char>(before ^ (1 << random.below(8)));
    REQUIRE(::pwrite(file, &changed, 1, at) == 1);
    CAPTURE(at);
    {
      Pager pager(one_file(directory, 64));
      const bool kept = pager.open(1);
      for (std::uint64_t page = 0; page < kPages + 60; ++page) {
        const int error = error_of_reading(pager.at(1), page);
        if (kept) REQUIRE((error == 0 || error == EIO));
        REQUIRE(has(pager.at(1), page) == (kept && page < kPages && error == 0));
        lost += error != 0 ? 1 : 0;
      }
    }
    REQUIRE(::pwrite(file, &before, 1, at) == 1);
  }
  ::close(file);
  CHECK(lost > 0);
}

TEST_CASE("files that are no set of swap files are refused") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  const auto files = [&](std::initializer_list<const char*> names, std::uint64_t pages = 64) {
    std::vector<SwapFile> files;
    for (const char* name : names)
      files.push_back(SwapFile::keep(directory / name, pages * test::kPage));
    return files;
  };
  {
    Pager pager(files({"one", "two"}));
    pager.open(1);
    std::string data;
    for (int i = 0; i < 80; ++i) data += test::random_page(random);
    write_out(pager.at(1), 0, data);
  }
  { Pager other(files({"other"})); }
  CHECK_THAT(refusal(files({"two", "one"})), Contains("is not in its place"));
  CHECK_THAT(refusal(files({"one"})), Contains("is of a set of other files"));
  CHECK_THAT(refusal(files({"one", "new"})), Contains("is new, but the first one has content"));
  CHECK_THAT(refusal(files({"one", "other"})), Contains("belongs to another set"));
  CHECK_THAT(refusal(files({"one", "two"}, 16)), Contains("holds more than its size is now"));
  const int file = ::open((directory / "letter").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  REQUIRE(::write(file, "Dear", 4) == 4);
  ::close(file);
  CHECK_THAT(refusal(files({"letter"})), Contains("has content that is not a swap file's"));
  CHECK(refusal(files({"one", "two"})).empty());
}

namespace {

/// What a process that is going to be killed has done, in memory that its parent sees. A page's
/// content follows from its number and version; version 0 is a page that nobody has written.
struct Told {
  static constexpr std::uint64_t kPages = 700;

  std::atomic<std::uint64_t> steps;
  std::atomic<std::uint64_t> versions;
  std::atomic<bool> failed;
  struct Page {
    std::atomic<std::uint32_t> done;       ///< what was acknowledged
    std::atomic<std::uint32_t> under_way;  ///< what was begun; the same when nothing is
  } pages[kPages];
};

std::string versioned_page(std::uint64_t page, std::uint32_t version) {
  test::Random random(page * 1000003 + version);
  return test::any_page(random);
}

/// Writes out and discards pages from `begin` to `end` - 1 for good.
void write_for_good(Told& told, AnonymousStore& store, std::uint64_t begin, std::uint64_t end,
                    std::uint64_t seed) {
  test::Random random(seed);
  for (;;) {
    const std::uint64_t first = random.between(begin, end - 1);
    const std::uint64_t count = std::min(1 + random.below(60), end - first);
    const bool discards = random.one_in(3);
    Memory memory(first + count);
    const auto version = static_cast<std::uint32_t>(++told.versions);
    for (std::uint64_t page = first; page < first + count; ++page) {
      if (!discards) memory.write(page, versioned_page(page, version));
      told.pages[page].under_way = discards ? 0 : version;
    }
    bool wrote = true;
    try {
      if (discards) {
        store.discard(range(first, count));
      } else {
        store.page_out(range(first, count), memory.get());
      }
    } catch (const pager::Failure& failure) {
      if (failure.error() != ENOSPC) throw;
      wrote = false;
    }
    for (std::uint64_t page = first; page < first + count; ++page) {
      auto& [done, under_way] = told.pages[page];
      if (wrote) done = under_way.load();
      under_way = done.load();
    }
    ++told.steps;
  }
}

/// Two threads do until somebody kills them, each with pages of its own.
[[noreturn]] void write_until_killed(Told& told, const test::Directory& directory,
                                     std::uint64_t swap_pages, Compression compression,
                                     std::uint64_t seed) {
  const auto say = [&](const std::exception& error) {
    ::fprintf(stderr, "%s\n", error.what());
    told.failed = true;
    ::_exit(1);
  };
  try {
    Pager pager(one_file(directory, swap_pages), compression);
    pager.open(1);
    // Their borders are in the middle of a block.
    constexpr std::uint64_t kBorder = Told::kPages / 2;
    std::thread other([&] {
      try {
        write_for_good(told, pager.at(1), kBorder, Told::kPages, seed + 1);
      } catch (const std::exception& error) {
        say(error);
      }
    });
    write_for_good(told, pager.at(1), 0, kBorder, seed);
  } catch (const std::exception& error) {
    say(error);
  }
  ::_exit(1);
}

}  // namespace

TEST_CASE(
    "whenever a process is killed, the next one finds what was acknowledged and nothing else") {
  test::Random random;
  CAPTURE(random.seed());
  const test::Directory directory;
  const Compression compression = random.one_in(2) ? Compression::lz4 : Compression::none;
  // Sometimes too small for all of them.
  const std::uint64_t swap_pages = random.one_in(2) ? 300 : 2000;
  void* const shared =
      ::mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(shared != MAP_FAILED);
  Told& told = *static_cast<Told*>(shared);
  for (int round = 0; round < 40; ++round) {
    CAPTURE(round);
    const std::uint64_t seed = random.below(1'000'000'000);
    const std::uint64_t enough = told.steps + random.below(60);
    const unsigned spins = static_cast<unsigned>(random.below(3000));
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) write_until_killed(told, directory, swap_pages, compression, seed);
    while (told.steps < enough && !told.failed) ::sched_yield();
    for (unsigned i = 0; i < spins; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
    ::kill(child, SIGKILL);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    REQUIRE_FALSE(told.failed);

    Pager pager(one_file(directory, swap_pages), compression);
    const bool kept = pager.open(1);
    AnonymousStore& store = pager.at(1);
    for (std::uint64_t page = 0; page < Told::kPages; ++page) {
      auto& [done, under_way] = told.pages[page];
      CAPTURE(page, done.load(), under_way.load());
      const bool is_there = has(store, page);
      const int error = error_of_reading(store, page);
      const std::string now = error == 0 ? content(store, page) : "";
      const auto is = [&](std::uint32_t version) {
        if (version == 0) return !is_there && error == 0 && now == test::zero_page();
        return is_there && kept && now == versioned_page(page, version);
      };
      // One that was being written in the place of its older copy may be lost; its writer has it.
      const bool was_cut_short = under_way != done && error == EIO && !is_there;
      REQUIRE((is(done) || is(under_way) || was_cut_short));
      if (is(under_way)) done = under_way.load();
      if (was_cut_short) {
        store.discard(range(page, 1));
        done = 0;
      }
      under_way = done.load();
    }
  }
  ::munmap(shared, sizeof(Told));
}
