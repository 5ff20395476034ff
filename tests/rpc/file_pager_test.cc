#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
#include <list>
#include <thread>

#include "support.h"

using hal::PageIndex;
using hal::PageRange;
using vm::Error;
using vm::PagerKind;

namespace {

constexpr std::size_t kPage = hal::kPageSize;

std::string zeroes(std::size_t bytes) { return std::string(bytes, '\0'); }

}  // namespace

TEST_CASE("a page-in brings the file's bytes and zeroes behind its end") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  for (const std::size_t size :
       {0ul, 1ul, 4095ul, 4096ul, 4097ul, 300 * 1024ul, 3000 * 1024ul + 5}) {
    INFO("size " << size);
    const std::string path = server.directory() / ("file" + std::to_string(size));
    const std::string data = test::pattern(size);
    test::write_file(path, data);
    auto opened = server.open(PagerKind::file, path, O_RDONLY);
    REQUIRE(opened);
    test::Object& object = opened.value();
    // The memory is larger than the file: pages past the end are asked for too.
    const std::uint64_t pages = hal::pages_for_bytes(size) + 3;
    object.memory->resize(pages);
    REQUIRE(object.page_in(0, pages) == Error::none);
    CHECK(object.memory->next_absent(PageRange(PageIndex(0), pages)).empty());
    CHECK(object.memory->pages() == pages);
    const bool same = object.read(0, pages * kPage) == data + zeroes(pages * kPage - size);
    CHECK(same);
  }
}

TEST_CASE("a page-in fills the pages that were asked for and no others") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  const std::string data = test::pattern(64 * kPage);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  test::Object& object = opened.value();
  REQUIRE(object.page_in(7, 5) == Error::none);
  CHECK(object.memory->next_resident(PageRange(PageIndex(0), 64)) == PageRange(PageIndex(7), 5));
  CHECK(object.memory->resident_pages() == 5);
  CHECK(object.read(7 * kPage, 5 * kPage) == data.substr(7 * kPage, 5 * kPage));
}

TEST_CASE("no page is seen before it has its content") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  constexpr std::size_t kPages = 512;
  const std::string data = test::pattern(kPages * kPage - 77);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  test::Object& object = opened.value();
  const std::string whole = data + zeroes(77);
  const PageRange all(PageIndex(0), kPages);
  void* const address =
      ::mmap(nullptr, all.bytes(), PROT_READ, MAP_SHARED, object.memory->reopen(false).get(), 0);
  REQUIRE(address != MAP_FAILED);
  const char* const mapped = static_cast<const char*>(address);

  std::uint64_t seen = 0;
  std::uint64_t torn = 0;
  for (int round = 0; round < 60 || (seen < 100 && round < 600); ++round) {
    object.memory->discard(all);
    std::atomic<bool> filled = false;
    std::thread reader([&] {
      while (!filled) {
        // The newest page is the one that could be half-filled. One that is absent is not touched:
        // without userfaultfd the kernel would make it.
        const PageRange run = object.memory->next_resident(all);
        if (run.empty()) continue;
        const std::size_t at = (run.end().value() - 1) * kPage;
        ++seen;
        if (std::memcmp(mapped + at, whole.data() + at, kPage) != 0) ++torn;
      }
    });
    const Error error = object.page_in(0, kPages);
    filled = true;
    reader.join();
    REQUIRE(error == Error::none);
  }
  // With one processor the two may never have run at the same time.
  if (seen == 0) WARN("the reader saw no page while it came: nothing was proved");
  CHECK(torn == 0);
  ::munmap(address, all.bytes());
}

TEST_CASE("a page-out writes the pages and nothing behind the end of the file") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  for (const std::size_t size : {1ul, 4095ul, 4096ul, 4097ul, 300 * 1024ul, 2500 * 1024ul + 9}) {
    INFO("size " << size);
    const std::string path = server.directory() / ("file" + std::to_string(size));
    test::write_file(path, test::pattern(size));
    auto opened = server.open(PagerKind::file, path, O_RDWR);
    REQUIRE(opened);
    test::Object& object = opened.value();
    const std::uint64_t pages = hal::pages_for_bytes(size);
    REQUIRE(object.page_in(0, pages) == Error::none);
    const std::string stored = test::pattern(pages * kPage, 2);
    object.write(0, stored);
    REQUIRE(object.page_out(0, pages) == Error::none);
    CHECK(object.sync() == Error::none);
    const bool same = test::read_file(path) == stored.substr(0, size);
    CHECK(same);
  }
}

TEST_CASE("a page-out writes only the pages that were asked for and are there") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  std::string data = test::pattern(8 * kPage);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDWR);
  REQUIRE(opened);
  test::Object& object = opened.value();
  const std::string stored = test::pattern(2 * kPage, 2);
  object.write(2 * kPage, stored);  // pages 2 and 3; 4 stays absent
  object.write(5 * kPage, stored);
  REQUIRE(object.page_out(2, 3) == Error::none);
  data.replace(2 * kPage, 2 * kPage, stored);
  CHECK(test::read_file(path) == data);
}

TEST_CASE("a page-out goes by the size that was told last, and a shortened file stays short") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  test::write_file(path, test::pattern(100));
  auto opened = server.open(PagerKind::file, path, O_RDWR);
  REQUIRE(opened);
  test::Object& object = opened.value();
  object.memory->resize(3);
  const std::string stored = test::pattern(3 * kPage, 2);
  object.write(0, stored);

  REQUIRE(::truncate(path.c_str(), 9000) == 0);
  object.pager->resize(9000);
  REQUIRE(object.page_out(0, 3) == Error::none);
  CHECK(test::read_file(path) == stored.substr(0, 9000));

  REQUIRE(::truncate(path.c_str(), 5000) == 0);
  REQUIRE(object.page_out(0, 3) == Error::none);
  CHECK(test::read_file(path) == stored.substr(0, 5000));
}

TEST_CASE("a file that was opened for appending is written in place") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  test::write_file(path, test::pattern(5000));
  auto opened = server.open(PagerKind::file, path, O_RDWR | O_APPEND);
  REQUIRE(opened);
  test::Object& object = opened.value();
  const std::string stored = test::pattern(2 * kPage, 2);
  object.write(0, stored);
  REQUIRE(object.page_out(0, 2) == Error::none);
  CHECK(test::read_file(path) == stored.substr(0, 5000));
}

TEST_CASE("what a descriptor may not do is refused, and a granted one may") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  test::write_file(path, test::pattern(kPage));

  hal::HostFile file = test::host_file(path, O_WRONLY);
  file.descriptor = hal::SharedDescriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  auto write_only = server.open_file(PagerKind::file, file, kPage);
  REQUIRE(write_only);
  CHECK(write_only.value().page_in(0, 1) == Error::access);

  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  test::Object& object = opened.value();
  const std::string stored = test::pattern(kPage, 2);
  object.write(0, stored);
  CHECK(object.page_out(0, 1) == Error::access);
  CHECK(test::captured_log().find("write 4 KiB at 0 of inode ") != std::string::npos);
  object.pager->grant(test::host_file(path, O_RDWR).descriptor);
  CHECK(object.page_out(0, 1) == Error::none);
  CHECK(test::read_file(path) == stored);
}

namespace {

/// A page that is stored to and written out is in the file.
void check_written(vm::Result<test::Object>& opened, const std::string& path) {
  REQUIRE(opened);
  test::Object& object = opened.value();
  const std::string stored = test::pattern(kPage, 2);
  object.write(0, stored);
  CHECK(object.page_out(0, 1) == Error::none);
  CHECK(test::read_file(path) == stored);
}

}  // namespace

TEST_CASE("what may be written is written through a descriptor that only reads") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  test::write_file(path, test::pattern(kPage));
  // What the server keeps of a program's that may write: see HostFile.
  const hal::HostFile file = test::host_file(path, O_RDWR);
  CHECK(file.attributes.writable);
  CHECK((::fcntl(file.descriptor.get(), F_GETFL) & O_ACCMODE) == O_RDONLY);
  auto opened = server.open(PagerKind::file, path, O_RDWR);
  check_written(opened, path);
}

TEST_CASE("a pager takes a descriptor that may write, too") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  test::write_file(path, test::pattern(kPage));
  hal::HostFile file = test::host_file(path, O_RDWR);
  file.descriptor = hal::SharedDescriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  auto opened = server.open_file(PagerKind::file, file, kPage);
  check_written(opened, path);
}

TEST_CASE("Transfers that overlap end in the order of submission") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  const std::string data = test::pattern(16 * kPage);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDWR);
  REQUIRE(opened);
  test::Object& object = opened.value();
  for (unsigned round = 0; round < 50; ++round) {
    // Written out, thrown away and read again: the page-in must not overtake the page-out.
    const std::string stored = test::pattern(16 * kPage, round + 2);
    object.write(0, stored);
    test::Transfer out(vm::Transfer::Kind::page_out, PageRange(PageIndex(0), 16));
    test::Transfer in(vm::Transfer::Kind::page_in, PageRange(PageIndex(0), 16));
    object.pager->submit(out);
    object.pager->submit(in);
    REQUIRE(out.wait() == Error::none);
    REQUIRE(in.wait() == Error::none);
    REQUIRE(test::read_file(path) == stored);
    REQUIRE(object.read(0, 16 * kPage) == stored);
  }
}

TEST_CASE("when a pager is killed, Transfers end at the next one and resident pages stay") {
  test::Server server;
  auto first = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  const std::string data = test::pattern(64 * kPage);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDWR);
  REQUIRE(opened);
  test::Object& object = opened.value();
  REQUIRE(object.page_in(0, 1) == Error::none);

  first->freeze();
  test::Transfer in(vm::Transfer::Kind::page_in, PageRange(PageIndex(0), 40));
  in.pages = PageRange(PageIndex(1), 39);
  object.pager->submit(in);
  // As if the pager had come this far, and a program had stored into what came.
  const std::string stored = test::pattern(3 * kPage, 2);
  object.write(5 * kPage, stored);
  test::Transfer out(vm::Transfer::Kind::page_out, PageRange(PageIndex(50), 2));
  object.write(50 * kPage, stored.substr(0, 2 * kPage));
  object.pager->submit(out);
  test::Transfer sync(vm::Transfer::Kind::sync, {});
  object.pager->submit(sync);
  first->kill();
  server.await_pagers(0);
  // Submitted while there is no pager at all.
  test::Transfer later(vm::Transfer::Kind::page_in, PageRange(PageIndex(60), 4));
  object.pager->submit(later);
  CHECK_FALSE(in.ended());
  CHECK_FALSE(later.ended());

  const auto second = server.start_pager(PAGER_FILE);
  CHECK(in.wait() == Error::none);
  CHECK(out.wait() == Error::none);
  CHECK(sync.wait() == Error::none);
  CHECK(later.wait() == Error::none);
  std::string expected = data.substr(0, 40 * kPage);
  expected.replace(5 * kPage, 3 * kPage, stored);
  CHECK(object.read(0, 40 * kPage) == expected);
  CHECK(object.read(60 * kPage, 4 * kPage) == data.substr(60 * kPage));
  CHECK(test::read_file(path).substr(50 * kPage, 2 * kPage) == stored.substr(0, 2 * kPage));
  CHECK(test::captured_log().find("is gone") != std::string::npos);
}

TEST_CASE("a pager that waits in line takes over at once") {
  test::Server server;
  auto first = server.start_pager(PAGER_FILE);
  const auto second = server.start_pager(PAGER_FILE);
  server.await_pagers(2);
  const std::string path = server.directory() / "file";
  const std::string data = test::pattern(8 * kPage);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  first->freeze();
  test::Transfer in(vm::Transfer::Kind::page_in, PageRange(PageIndex(0), 8));
  opened.value().pager->submit(in);
  first->kill();
  REQUIRE(in.wait() == Error::none);
  CHECK(opened.value().read(0, 8 * kPage) == data);
}

TEST_CASE("pagers killed again and again under load lose no Transfer and no store") {
  test::Server server;
  auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  constexpr std::size_t kPages = 2048;
  const std::string data = test::pattern(kPages * kPage);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  test::Object& object = opened.value();
  for (int round = 0; round < 5; ++round) {
    object.memory->discard(PageRange(PageIndex(0), kPages));
    std::list<test::Transfer> transfers;
    for (std::size_t page = 0; page < kPages; page += 64) {
      transfers.emplace_back(vm::Transfer::Kind::page_in, PageRange(PageIndex(page), 64));
      object.pager->submit(transfers.back());
    }
    REQUIRE(transfers.front().wait() == Error::none);
    pager->signal(SIGKILL);  // somewhere in the rest
    object.write(0, "store");
    auto next = server.start_pager(PAGER_FILE);
    pager->wait();
    pager = std::move(next);
    for (auto transfer = std::next(transfers.begin()); transfer != transfers.end(); ++transfer)
      REQUIRE(transfer->wait() == Error::none);
    std::string expected = data;
    expected.replace(0, 5, "store");
    const bool same = object.read(0, kPages * kPage) == expected;
    REQUIRE(same);
  }
}
