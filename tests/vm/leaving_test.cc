// What leaves memory that is full: whose pages, in what order, and what waits for them meanwhile.
#include <catch2/catch.hpp>

#include <cerrno>
#include <sys/mman.h>

#include "tests/vm/paging_fixture.h"

using namespace test;
using hal::SimResult;
using vm::Transfer;

TEST_CASE("a program uses more memory than there is, and finds what it stored", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(400);
  f.check(*f.program, at, 400);
  f.fill(*f.program, at, 400, 5);
  f.check(*f.program, at, 400, 5);
  CHECK(f.machine.machine.counters().pageouts > 0);
  CHECK(f.machine.machine.counters().pageins > 0);
}

TEST_CASE("nobody is given a page beyond the limit", "[paging]") {
  PagingFixture f;
  Program other(f.machine);
  const std::uint64_t at = f.map(200);
  const auto second = other.mmap(0, 200 * kPage, bsd::kReadWrite, kAnonPrivate);
  for (std::uint64_t i = 0; i < 200; ++i) {
    f.program->store(at + i * kPage, 1);
    other.store(second.value + i * kPage, 2);
    const std::uint64_t in_programs =
        PagingFixture::resident(*f.program) + PagingFixture::resident(other);
    REQUIRE(in_programs + f.memory.swap_pages() <= PagingFixture::kPages);
    REQUIRE(in_programs == f.memory.private_pages());
  }
}

TEST_CASE("pages that fit stay", "[paging]") {
  PagingFixture f;
  f.filled(40);
  while (f.machine.pump()) continue;
  CHECK(PagingFixture::resident(*f.program) == 40);
  CHECK(f.figures().held == 0);
}

TEST_CASE("a page of zeroes needs no slot", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.map(30);
  CHECK(f.program->touch(at, 30, true) == SimResult::done);
  f.page_everything_out();
  CHECK(PagingFixture::resident(*f.program) == 0);
  CHECK(f.figures().held == 0);
  CHECK(f.program->load(at + 29 * kPage) == 0);
}

TEST_CASE("laundry goes out in clusters", "[paging]") {
  PagingFixture f;
  f.in_swap(48);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_out).size() <= 2);
}

TEST_CASE("FreeBSD's MADV_DONTNEED says what leaves first", "[paging]") {
  PagingFixture f;
  f.filled(16);
  const std::uint64_t second = f.filled(16);
  REQUIRE(f.program->madvise(second, 16 * kPage, bsd::kDontNeed).ok());
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().carry_out_taking());
  CHECK(f.program->pmap().first_mapped({hal::VirtualAddress(second),
                                        hal::VirtualAddress(second + 16 * kPage)}, 1).empty());
}

TEST_CASE("a plan waits for pages that are leaving and then takes them, too", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled_on_linux(16);
  REQUIRE(f.program->space().start_leaving());
  SECTION("discard") {
    const auto call = f.program->start(
        f.program->request(protocol::kCallMadvise, {at, 16 * kPage, MADV_DONTNEED}));
    CHECK_FALSE(call->finished());
    REQUIRE(f.program->pmap().carry_out_taking());
    REQUIRE(call->finished());
    CHECK(call->result().ok());
    for (std::uint64_t i = 0; i < 16; ++i) CHECK(f.program->load(at + i * kPage) == 0);
  }
  SECTION("munmap") {
    const auto call =
        f.program->start(f.program->request(protocol::kCallMunmap, {at, 16 * kPage}));
    CHECK_FALSE(call->finished());
    REQUIRE(f.program->pmap().take_ordered());
    CHECK_FALSE(call->finished());
    REQUIRE(f.program->pmap().answer_taken());
    CHECK(call->finished());
    CHECK(f.figures().held == 0);
  }
  SECTION("mremap") {
    const auto call = f.program->start(f.program->request(
        protocol::kCallMremap, {at, 16 * kPage, 16 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                                at + 256 * kPage}));
    REQUIRE(f.program->pmap().carry_out_taking());
    REQUIRE(call->finished());
    f.check(*f.program, at + 256 * kPage, 16);
  }
}

TEST_CASE("pages that a fork shares leave when there is nothing else", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(40);
  const auto child = f.program->fork();
  const auto big = child->mmap(0, 100 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(big.ok());
  f.fill(*child, big.value, 100, 8);
  f.check(*child, big.value, 100, 8);
  f.check(*child, at, 40);
  f.check(*f.program, at, 40);
}

TEST_CASE("wired pages stay", "[paging]") {
  PagingFixture f;
  const std::uint64_t wired = f.filled(8);
  REQUIRE(f.program->mlock(wired, 8 * kPage).ok());
  f.filled(200);
  CHECK(PagingFixture::resident(*f.program) >= 8);
  CHECK(f.program->pmap().first_mapped(
            {hal::VirtualAddress(wired), hal::VirtualAddress(wired + 8 * kPage)}, 8).pages() == 8);
  REQUIRE(f.program->munlock(wired, 8 * kPage).ok());
  f.page_everything_out();
  CHECK(PagingFixture::resident(*f.program) == 0);
  f.check(*f.program, wired, 8);
}

TEST_CASE("a page-out that fails loses nothing and is made again", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(32);
  f.machine.pagers.fail_next(Transfer::Kind::page_out, vm::error_from_errno(ENOSPC));
  f.page_everything_out();
  CHECK(f.figures().filled == 32);
  CHECK(f.swap.stuck());
  f.page_everything_out();
  CHECK(f.figures().away == 32);
  CHECK_FALSE(f.swap.stuck());
  f.check(*f.program, at, 32);
}

TEST_CASE("memory that programs share may be more than there is", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.map(300, bsd::kAnon | bsd::kShared);
  f.fill(*f.program, at, 150);
  const auto child = f.program->fork();
  for (std::uint64_t i = 150; i < 300; ++i) {
    child->store(at + i * kPage, PagingFixture::value_of(i));
  }
  f.check(*f.program, at, 300);
  f.fill(*child, at, 300, 9);
  f.check(*f.program, at, 300, 9);
  CHECK(f.machine.machine.counters().pageouts > 0);
  // What is not in memory can be unmapped by one and is still the other's.
  REQUIRE(f.program->munmap(at, 300 * kPage).ok());
  f.check(*child, at, 300, 9);
}

TEST_CASE("a hole in memory that is shared is zero, wherever the page was", "[paging][madvise]") {
  PagingFixture f;
  f.program->abi = protocol::kAbiLinux;
  const auto mapped = f.program->mmap(0, 200 * kPage, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS);
  REQUIRE(mapped.ok());
  f.fill(*f.program, mapped.value, 200);
  REQUIRE(f.program->madvise(mapped.value, 100 * kPage, MADV_REMOVE).ok());
  for (std::uint64_t i = 0; i < 100; ++i) CHECK(f.program->load(mapped.value + i * kPage) == 0);
  for (std::uint64_t i = 100; i < 200; ++i) {
    CHECK(f.program->load(mapped.value + i * kPage) == PagingFixture::value_of(i));
  }
}

TEST_CASE("a file larger than the memory is read and changed through a mapping", "[paging]") {
  PagingFixture f;
  FakeFile& file = f.machine.make_file(300 * kPage);
  const auto mapped =
      f.program->mmap(0, 300 * kPage, bsd::kReadWrite, bsd::kShared, file.open());
  REQUIRE(mapped.ok());
  for (std::uint64_t i = 0; i < 300; ++i) {
    REQUIRE(f.program->load(mapped.value + i * kPage) ==
            static_cast<unsigned>(
                FakePagerDirectory::pattern(file.attributes.inode, i * kPage)));
  }
  f.fill(*f.program, mapped.value, 300, 3);
  f.check(*f.program, mapped.value, 300, 3);
  REQUIRE(f.program->msync(mapped.value, 300 * kPage, bsd::kSync).ok());
  for (std::uint64_t i = 0; i < 300; ++i) {
    REQUIRE(static_cast<unsigned>(file.at(i * kPage)) == PagingFixture::value_of(i, 3));
  }
}

TEST_CASE("clean pages of files go before any page is laundered", "[paging]") {
  PagingFixture f;
  FakeFile& file = f.machine.make_file(200 * kPage);
  f.filled(30);
  const auto mapped = f.program->mmap(0, 200 * kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(mapped.ok());
  for (std::uint64_t i = 0; i < 200; ++i) f.program->load(mapped.value + i * kPage);
  CHECK(f.machine.machine.counters().pageouts == 0);
  CHECK(PagingFixture::resident(*f.program) == 30);
}

TEST_CASE("a page that somebody was through with stays when it is wanted again", "[paging]") {
  PagingFixture f;
  FakeFile& file = f.machine.make_file(200 * kPage);
  const auto walked = f.program->mmap(0, 200 * kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(walked.ok());
  for (std::uint64_t i = 0; i < 200; ++i) f.program->load(walked.value + i * kPage);
  // Not all of what the walk has marked has been dropped, and dropped it was before it is read
  // again.
  Program other(f.machine);
  const auto again = other.mmap(0, 200 * kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(other.madvise(again.value, 200 * kPage, bsd::kRandom).ok());
  for (std::uint64_t i = 0; i < 16; ++i) other.load(again.value + i * 7 * kPage);
  f.machine.pagers.forget_records();
  f.filled(20);
  for (std::uint64_t i = 0; i < 16; ++i) other.load(again.value + i * 7 * kPage);
  std::uint64_t brought_in = 0;
  for (const auto& record : f.machine.pagers.records(Transfer::Kind::page_in)) {
    if (record.file == &file) brought_in += record.pages.count();
  }
  CHECK(brought_in == 0);
}

TEST_CASE("what is used again and again stays while a file is read once", "[paging]") {
  PagingFixture f;
  FakeFile& hot = f.machine.make_file(16 * kPage);
  FakeFile& cold = f.machine.make_file(2000 * kPage);
  const auto often = f.program->mmap(0, 16 * kPage, bsd::kRead, bsd::kShared, hot.open());
  const auto once = f.program->mmap(0, 2000 * kPage, bsd::kRead, bsd::kShared, cold.open());
  REQUIRE(often.ok());
  REQUIRE(once.ok());
  for (std::uint64_t i = 0; i < 2000; ++i) {
    f.program->load(once.value + i * kPage);
    for (std::uint64_t j = 0; j < 16; ++j) f.program->load(often.value + j * kPage);
  }
  std::uint64_t again = 0;
  for (const auto& record : f.machine.pagers.records(Transfer::Kind::page_in)) {
    if (record.file == &hot) again += record.pages.count();
  }
  // They come once, and again only for what was dropped before the walk was seen to be one.
  CHECK(again <= 3 * 16);
}

// The kernel clears a word there when the thread has ended, and does not wait for the page.
TEST_CASE("the end of a thread's stack never leaves, as long as it is one", "[paging]") {
  PagingFixture f;
  f.program->abi = protocol::kAbiLinux;
  const auto map = [&](std::uint64_t at, std::uint64_t flags) {
    const auto mapped = f.program->mmap(at, 32 * kPage, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS | flags);
    REQUIRE(mapped.ok());
    f.fill(*f.program, mapped.value, 32);
    f.page_everything_out();
    return mapped.value;
  };
  const std::uint64_t at = map(0, MAP_STACK);
  CHECK(PagingFixture::resident(*f.program) == 2);
  CHECK(f.program->space().swapped_pages() == 30);
  // Both are there to be had without the server.
  const std::uint64_t faults = f.program->space().fault_count();
  CHECK(f.program->load(at + 30 * kPage) == PagingFixture::value_of(30));
  CHECK(f.program->load(at + 31 * kPage) == PagingFixture::value_of(31));
  CHECK(f.program->space().fault_count() == faults);
  SECTION("a child has it, too") {
    const auto child = f.program->fork();
    f.fill(*child, at, 32, 5);
    f.page_everything_out();
    CHECK(PagingFixture::resident(*child) >= 2);
    f.check(*child, at, 32, 5);
  }
  SECTION("what was thrown away is one still") {
    REQUIRE(f.program->madvise(at, 32 * kPage, MADV_DONTNEED).ok());
    f.fill(*f.program, at, 32, 6);
    f.page_everything_out();
    CHECK(PagingFixture::resident(*f.program) == 2);
  }
  SECTION("what is mapped there later may leave") {
    REQUIRE(f.program->munmap(at, 32 * kPage).ok());
    CHECK(map(at, MAP_FIXED) == at);
    CHECK(PagingFixture::resident(*f.program) == 0);
  }
}
