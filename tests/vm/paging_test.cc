// Private memory that leaves the programs and comes back.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <sys/mman.h>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;
using vm::Transfer;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;
constexpr std::uint64_t kLimit = 64;

struct Fixture {
  TestMachine machine{{.memory_limit_pages = kLimit}};
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  vm::Memory& memory = machine.machine.memory();
  vm::SwapSpace& swap = machine.machine.swap();

  std::uint64_t map(std::uint64_t pages, std::uint64_t flags = kAnonPrivate) {
    const auto mapped = program->mmap(0, pages * kPage, bsd::kReadWrite, flags);
    REQUIRE(mapped.ok());
    return mapped.value;
  }
  static unsigned value_of(std::uint64_t page, unsigned salt = 0) {
    return static_cast<unsigned>((page * 7 + salt) % 251 + 1);
  }
  void fill(Program& who, std::uint64_t at, std::uint64_t pages, unsigned salt = 0) {
    for (std::uint64_t i = 0; i < pages; ++i) who.store(at + i * kPage, value_of(i, salt));
  }
  void check(Program& who, std::uint64_t at, std::uint64_t pages, unsigned salt = 0) {
    for (std::uint64_t i = 0; i < pages; ++i) {
      INFO("page " << i);
      REQUIRE(who.load(at + i * kPage) == value_of(i, salt));
    }
  }
  /// Has all that can leave do so, and get to the pager.
  void page_everything_out() {
    for (int i = 0; i < 1000; ++i) {
      bool any = false;
      for (Program* one : machine.programs) {
        any = one->space().start_leaving() || any;
        while (one->pmap().carry_out_taking()) continue;
      }
      std::uint64_t left = 0;
      for (Program* one : machine.programs) left += resident(*one);
      if (left == 0 || !any) break;
    }
    swap.launder(~std::uint64_t{0});
    machine.pagers.pump_all();
    swap.reclaim(~std::uint64_t{0});
  }
  static std::uint64_t resident(Program& who) { return who.space().private_pages(); }
  vm::SwapSpace::Figures figures() const { return swap.figures(); }
};

}  // namespace

TEST_CASE("a program uses more memory than there is, and finds what it stored", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(400);
  f.fill(*f.program, at, 400);
  f.check(*f.program, at, 400);
  f.fill(*f.program, at, 400, 5);
  f.check(*f.program, at, 400, 5);
  CHECK(f.machine.machine.counters().pageouts > 0);
  CHECK(f.machine.machine.counters().pageins > 0);
}

TEST_CASE("nobody is given a page beyond the limit", "[paging]") {
  Fixture f;
  Program other(f.machine);
  const std::uint64_t at = f.map(200);
  const auto second = other.mmap(0, 200 * kPage, bsd::kReadWrite, kAnonPrivate);
  for (std::uint64_t i = 0; i < 200; ++i) {
    f.program->store(at + i * kPage, 1);
    other.store(second.value + i * kPage, 2);
    const std::uint64_t in_programs = Fixture::resident(*f.program) + Fixture::resident(other);
    REQUIRE(in_programs + f.memory.swap_pages() <= kLimit);
    REQUIRE(in_programs == f.memory.private_pages());
  }
}

TEST_CASE("pages that fit stay", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(40);
  f.fill(*f.program, at, 40);
  while (f.machine.pump()) continue;
  CHECK(Fixture::resident(*f.program) == 40);
  CHECK(f.figures().held == 0);
}

TEST_CASE("a page of zeroes needs no slot", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(30);
  CHECK(f.program->touch(at, 30, true) == SimResult::done);
  f.page_everything_out();
  CHECK(Fixture::resident(*f.program) == 0);
  CHECK(f.figures().held == 0);
  CHECK(f.program->load(at + 29 * kPage) == 0);
}

TEST_CASE("a page that is not with the pager only comes back without it", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(16);
  f.fill(*f.program, at, 16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().carry_out_taking());
  REQUIRE(Fixture::resident(*f.program) == 0);
  REQUIRE(f.figures().filled == 16);
  f.machine.pagers.hold(true);
  f.check(*f.program, at, 16);
  CHECK(f.machine.machine.counters().reactivations == 16);
  CHECK(f.figures().held == 0);
}

TEST_CASE("a fault of a page that is leaving waits, and finds it", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(16);
  f.fill(*f.program, at, 16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  // It is nowhere for the moment; the answer comes from the pump.
  CHECK(f.program->load(at + 3 * kPage) == Fixture::value_of(3));
}

TEST_CASE("pages come back in clusters", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  REQUIRE(f.figures().away == 32);
  f.machine.pagers.forget_records();
  f.check(*f.program, at, 32);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).size() <= 3);
}

TEST_CASE("laundry goes out in clusters", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(48);
  f.fill(*f.program, at, 48);
  f.page_everything_out();
  CHECK(f.machine.pagers.records(Transfer::Kind::page_out).size() <= 2);
}

TEST_CASE("what is unmapped leaves the swap", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  REQUIRE(f.machine.pagers.anonymous_pages() == 32);
  REQUIRE(f.program->munmap(at + 8 * kPage, 24 * kPage).ok());
  CHECK(f.figures().held == 8);
  f.swap.flush_discards();
  CHECK(f.machine.pagers.anonymous_pages() == 8);
  f.check(*f.program, at, 8);
}

TEST_CASE("a program that ends leaves the swap", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  f.program->kill();
  CHECK(f.figures().held == 0);
  f.swap.flush_discards();
  CHECK(f.machine.pagers.anonymous_pages() == 0);
  CHECK(f.memory.used() == 0);
}

TEST_CASE("a new mapping over pages in swap is empty", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  REQUIRE(f.program->mmap(at, 16 * kPage, bsd::kReadWrite, kAnonPrivate | bsd::kFixed).ok());
  for (std::uint64_t i = 0; i < 16; ++i) CHECK(f.program->load(at + i * kPage) == 0);
  CHECK(f.program->load(at + 16 * kPage) == Fixture::value_of(16));
}

TEST_CASE("mremap takes along what is in swap", "[paging]") {
  Fixture f;
  f.program->abi = protocol::kAbiLinux;
  const std::uint64_t at =
      f.program->mmap(0, 32 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS).value;
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  f.program->store(at + 5 * kPage, Fixture::value_of(5));
  const auto moved = f.program->mremap(at, 32 * kPage, 64 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                                       at + 1024 * kPage);
  REQUIRE(moved.ok());
  f.check(*f.program, moved.value, 32);
  CHECK(f.program->load(moved.value + 40 * kPage) == 0);
}

TEST_CASE("the host's MADV_DONTNEED drops what is in swap, FreeBSD's does not", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  REQUIRE(f.program->madvise(at, 32 * kPage, bsd::kDontNeed).ok());
  CHECK(f.program->load(at) == Fixture::value_of(0));
  f.page_everything_out();
  f.program->abi = protocol::kAbiLinux;
  REQUIRE(f.program->madvise(at, 32 * kPage, MADV_DONTNEED).ok());
  CHECK(f.program->load(at) == 0);
  CHECK(f.figures().held == 0);
}

TEST_CASE("FreeBSD's MADV_DONTNEED says what leaves first", "[paging]") {
  Fixture f;
  const std::uint64_t first = f.map(16);
  const std::uint64_t second = f.map(16);
  f.fill(*f.program, first, 16);
  f.fill(*f.program, second, 16);
  REQUIRE(f.program->madvise(second, 16 * kPage, bsd::kDontNeed).ok());
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().carry_out_taking());
  CHECK(f.program->pmap().first_mapped({hal::VirtualAddress(second),
                                        hal::VirtualAddress(second + 16 * kPage)}, 1).empty());
}

TEST_CASE("a plan waits for pages that are leaving and then takes them, too", "[paging]") {
  Fixture f;
  f.program->abi = protocol::kAbiLinux;
  const std::uint64_t at =
      f.program->mmap(0, 16 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS).value;
  f.fill(*f.program, at, 16);
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

TEST_CASE("a child has what was in swap, and each keeps its own", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  const auto child = f.program->fork();
  CHECK(f.figures().held == 32);
  f.fill(*f.program, at, 16, 9);
  f.check(*child, at, 32);
  f.fill(*child, at, 32, 77);
  f.check(*f.program, at, 16, 9);
  for (std::uint64_t i = 16; i < 32; ++i) {
    CHECK(f.program->load(at + i * kPage) == Fixture::value_of(i));
  }
  f.page_everything_out();
  f.check(*child, at, 32, 77);
}

TEST_CASE("a child of a fork in the middle of leaving has the pages as well", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(16);
  f.fill(*f.program, at, 16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  const auto child = f.program->fork_unannounced();
  const auto grandchild = child->fork_unannounced();
  // Touched before it is said where they are.
  CHECK(child->load(at + 2 * kPage) == Fixture::value_of(2));
  f.fill(*f.program, at, 16, 3);
  f.check(*child, at, 16);
  f.check(*grandchild, at, 16);
}

TEST_CASE("a child that has a page itself needs nothing of what its parent took out", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(16);
  f.fill(*f.program, at, 16);
  REQUIRE(f.program->mprotect(at, 16 * kPage, bsd::kRead).ok());
  REQUIRE(f.program->space().start_leaving());
  // The order is carried out after the fork: the pages have been copied, and leave the parent alone.
  const auto child = f.program->fork_unannounced();
  (void)f.program->pmap().carry_out_taking();
  REQUIRE(child->space().swapped_pages() == 16);
  // This brings back what is in swap first.
  REQUIRE(child->minherit(at, 16 * kPage, bsd::kInheritShare).ok());
  f.check(*child, at, 16);
  f.check(*f.program, at, 16);
}

TEST_CASE("a grandchild has what left its grandparent, though its parent has ended", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(16);
  f.fill(*f.program, at, 16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  auto child = f.program->fork_unannounced();
  const auto grandchild = child->fork_unannounced();
  child.reset();
  f.check(*grandchild, at, 16);
}

TEST_CASE("a child that was left nothing gets nothing of what leaves its parent", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(16);
  f.fill(*f.program, at, 16);
  REQUIRE(f.program->minherit(at, 16 * kPage, bsd::kInheritNone).ok());
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  const auto child = f.program->fork_unannounced();
  const auto mapped = child->mmap(at, 16 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(mapped.value == at);
  while (f.machine.pump()) continue;
  for (std::uint64_t i = 0; i < 16; ++i) CHECK(child->load(at + i * kPage) == 0);
  f.check(*f.program, at, 16);
}

TEST_CASE("what a parent took along without a word is lost, and never zero", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(48);
  f.fill(*f.program, at, 8);
  REQUIRE(f.program->space().start_leaving());
  SECTION("it had taken the pages out before the fork") {
    REQUIRE(f.program->pmap().take_ordered());
    const auto child = f.program->fork_unannounced();
    f.program.reset();
    CHECK(child->try_load(at + 3 * kPage) == SimResult::bus_error);
    // What nobody had stored to is still there to be had.
    CHECK(child->load(at + 40 * kPage) == 0);
  }
  SECTION("it had not got to it") {
    const auto child = f.program->fork_unannounced();
    f.program.reset();
    f.check(*child, at, 8);
    CHECK(child->load(at + 40 * kPage) == 0);
  }
}

TEST_CASE("pages that a fork shares leave when there is nothing else", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(40);
  f.fill(*f.program, at, 40);
  const auto child = f.program->fork();
  const auto big = child->mmap(0, 100 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(big.ok());
  f.fill(*child, big.value, 100, 8);
  f.check(*child, big.value, 100, 8);
  f.check(*child, at, 40);
  f.check(*f.program, at, 40);
}

TEST_CASE("children share what they are told to, wherever it was", "[paging][minherit]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  f.program->store(at, Fixture::value_of(0));
  REQUIRE(f.program->minherit(at, 32 * kPage, bsd::kInheritShare).ok());
  f.check(*f.program, at, 32);
  const auto child = f.program->fork();
  child->store(at + kPage, 99);
  CHECK(f.program->load(at + kPage) == 99);
}

TEST_CASE("wired pages stay", "[paging]") {
  Fixture f;
  const std::uint64_t wired = f.map(8);
  f.fill(*f.program, wired, 8);
  REQUIRE(f.program->mlock(wired, 8 * kPage).ok());
  const std::uint64_t at = f.map(200);
  f.fill(*f.program, at, 200);
  CHECK(Fixture::resident(*f.program) >= 8);
  CHECK(f.program->pmap().first_mapped(
            {hal::VirtualAddress(wired), hal::VirtualAddress(wired + 8 * kPage)}, 8).pages() == 8);
  REQUIRE(f.program->munlock(wired, 8 * kPage).ok());
  f.page_everything_out();
  CHECK(Fixture::resident(*f.program) == 0);
  f.check(*f.program, wired, 8);
}

TEST_CASE("a pager that dies takes along what only it had, and nothing else", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  f.page_everything_out();
  f.check(*f.program, at, 8);  // back in memory
  f.machine.pagers.lose_anonymous();
  f.check(*f.program, at, 8);
  CHECK(f.program->try_load(at + 31 * kPage) == SimResult::bus_error);
  // And what is stored from then on is kept.
  REQUIRE(f.program->mmap(at, 32 * kPage, bsd::kReadWrite, kAnonPrivate | bsd::kFixed).ok());
  f.fill(*f.program, at, 32, 4);
  f.page_everything_out();
  f.check(*f.program, at, 32, 4);
}

TEST_CASE("clean pages in memory outlive the pager", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().carry_out_taking());
  f.swap.launder(~std::uint64_t{0});
  f.machine.pagers.pump_all();
  REQUIRE(f.figures().clean == 32);
  f.machine.pagers.lose_anonymous();
  CHECK(f.figures().filled == 32);
  f.page_everything_out();
  f.check(*f.program, at, 32);
}

TEST_CASE("a page-out that fails loses nothing and is made again", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(32);
  f.fill(*f.program, at, 32);
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
  Fixture f;
  const std::uint64_t at = f.map(300, bsd::kAnon | bsd::kShared);
  f.fill(*f.program, at, 150);
  const auto child = f.program->fork();
  for (std::uint64_t i = 150; i < 300; ++i) child->store(at + i * kPage, Fixture::value_of(i));
  f.check(*f.program, at, 300);
  f.fill(*child, at, 300, 9);
  f.check(*f.program, at, 300, 9);
  CHECK(f.machine.machine.counters().pageouts > 0);
  // What is not in memory can be unmapped by one and is still the other's.
  REQUIRE(f.program->munmap(at, 300 * kPage).ok());
  f.check(*child, at, 300, 9);
}

TEST_CASE("a hole in memory that is shared is zero, wherever the page was", "[paging][madvise]") {
  Fixture f;
  f.program->abi = protocol::kAbiLinux;
  const auto mapped = f.program->mmap(0, 200 * kPage, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS);
  REQUIRE(mapped.ok());
  f.fill(*f.program, mapped.value, 200);
  REQUIRE(f.program->madvise(mapped.value, 100 * kPage, MADV_REMOVE).ok());
  for (std::uint64_t i = 0; i < 100; ++i) CHECK(f.program->load(mapped.value + i * kPage) == 0);
  for (std::uint64_t i = 100; i < 200; ++i) {
    CHECK(f.program->load(mapped.value + i * kPage) == Fixture::value_of(i));
  }
}

TEST_CASE("a file larger than the memory is read and changed through a mapping", "[paging]") {
  Fixture f;
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
    REQUIRE(static_cast<unsigned>(file.at(i * kPage)) == Fixture::value_of(i, 3));
  }
}

TEST_CASE("clean pages of files go before any page is laundered", "[paging]") {
  Fixture f;
  FakeFile& file = f.machine.make_file(200 * kPage);
  const std::uint64_t at = f.map(30);
  f.fill(*f.program, at, 30);
  const auto mapped = f.program->mmap(0, 200 * kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(mapped.ok());
  for (std::uint64_t i = 0; i < 200; ++i) f.program->load(mapped.value + i * kPage);
  CHECK(f.machine.machine.counters().pageouts == 0);
  CHECK(Fixture::resident(*f.program) == 30);
}

TEST_CASE("a page that somebody was through with stays when it is wanted again", "[paging]") {
  Fixture f;
  FakeFile& file = f.machine.make_file(200 * kPage);
  const auto walked = f.program->mmap(0, 200 * kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(walked.ok());
  for (std::uint64_t i = 0; i < 200; ++i) f.program->load(walked.value + i * kPage);
  // Not all of what the walk has marked has been dropped, and dropped it was before it is read again.
  Program other(f.machine);
  const auto again = other.mmap(0, 200 * kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(other.madvise(again.value, 200 * kPage, bsd::kRandom).ok());
  for (std::uint64_t i = 0; i < 16; ++i) other.load(again.value + i * 7 * kPage);
  f.machine.pagers.forget_records();
  const std::uint64_t at = f.map(20);
  f.fill(*f.program, at, 20);
  for (std::uint64_t i = 0; i < 16; ++i) other.load(again.value + i * 7 * kPage);
  std::uint64_t brought_in = 0;
  for (const auto& record : f.machine.pagers.records(Transfer::Kind::page_in)) {
    if (record.file == &file) brought_in += record.pages.count();
  }
  CHECK(brought_in == 0);
}

TEST_CASE("what is used again and again stays while a file is read once", "[paging]") {
  Fixture f;
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

namespace {

std::uint64_t pages_in(Fixture& f) {
  std::uint64_t pages = 0;
  for (const auto& record : f.machine.pagers.records(Transfer::Kind::page_in)) {
    pages += record.pages.count();
  }
  return pages;
}

}  // namespace

TEST_CASE("touches all over what is in swap read single pages", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(1000);
  f.fill(*f.program, at, 1000);
  f.page_everything_out();
  f.machine.pagers.forget_records();
  for (std::uint64_t i = 0; i < 300; ++i) {
    const std::uint64_t page = i * 387 % 1000;
    REQUIRE(f.program->load(at + page * kPage) == Fixture::value_of(page));
  }
  // The first ones of what it was taught while it was filled come with some more.
  CHECK(pages_in(f) < 300 + 100);
}

TEST_CASE("two walks through what is in swap are both read ahead", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(1000);
  f.fill(*f.program, at, 1000);
  f.page_everything_out();
  f.machine.pagers.forget_records();
  for (std::uint64_t i = 0; i < 400; ++i) {
    REQUIRE(f.program->load(at + i * kPage) == Fixture::value_of(i));
    REQUIRE(f.program->load(at + (500 + i) * kPage) == Fixture::value_of(500 + i));
  }
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).size() < 400);
}

TEST_CASE("a walk down through what is in swap is read ahead", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(400);
  f.fill(*f.program, at, 400);
  f.page_everything_out();
  f.machine.pagers.forget_records();
  for (std::uint64_t i = 400; i-- != 0;) {
    REQUIRE(f.program->load(at + i * kPage) == Fixture::value_of(i));
  }
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).size() < 150);
}

TEST_CASE("what is read ahead is no more than is free", "[paging]") {
  Fixture f;
  const std::uint64_t at = f.map(300);
  f.fill(*f.program, at, 300);
  for (std::uint64_t round = 0; round < 3; ++round) {
    for (std::uint64_t i = 0; i < 300; ++i) {
      REQUIRE(f.program->load(at + i * kPage) == Fixture::value_of(i));
      REQUIRE(Fixture::resident(*f.program) + f.memory.swap_pages() <= kLimit);
      REQUIRE(f.memory.private_pages() == Fixture::resident(*f.program));
    }
  }
}

TEST_CASE("a program keeps to a limit of its own, and others keep what they have",
          "[paging][limit]") {
  Fixture f;
  Program other(f.machine);
  const auto theirs = other.mmap(0, 20 * kPage, bsd::kReadWrite, kAnonPrivate);
  f.fill(other, theirs.value, 20, 9);
  f.program->space().set_limit(8);
  const std::uint64_t at = f.map(20);
  for (std::uint64_t i = 0; i < 20; ++i) {
    f.program->store(at + i * kPage, Fixture::value_of(i));
    REQUIRE(Fixture::resident(*f.program) <= 8);
  }
  for (std::uint64_t i = 0; i < 20; ++i) {
    REQUIRE(f.program->load(at + i * kPage) == Fixture::value_of(i));
    REQUIRE(Fixture::resident(*f.program) <= 8);
  }
  CHECK(Fixture::resident(other) == 20);
  // There was room for all of it.
  CHECK(f.machine.machine.counters().pageouts == 0);
}

TEST_CASE("a limit that is set later has a program give up what is more", "[paging][limit]") {
  Fixture f;
  const std::uint64_t at = f.map(40);
  f.fill(*f.program, at, 40);
  REQUIRE(Fixture::resident(*f.program) == 40);
  f.program->space().set_limit(10);
  while (f.machine.pump()) continue;
  CHECK(Fixture::resident(*f.program) <= 10);
  f.program->space().set_limit(0);
  f.check(*f.program, at, 40);
  CHECK(Fixture::resident(*f.program) == 40);
}

TEST_CASE("a child has its parent's limit", "[paging][limit]") {
  Fixture f;
  f.program->space().set_limit(8);
  const std::uint64_t at = f.map(20);
  f.fill(*f.program, at, 20);
  const auto child = f.program->fork();
  CHECK(child->space().limit() == 8);
  f.check(*child, at, 20);
  f.fill(*child, at, 20, 3);
  while (f.machine.pump()) continue;
  CHECK(Fixture::resident(*child) <= 8);
  f.check(*f.program, at, 20);
}

TEST_CASE("what cannot leave takes nothing from what a program can still do", "[paging][limit]") {
  Fixture f;
  const std::uint64_t at = f.map(30);
  f.fill(*f.program, at, 30);
  REQUIRE(f.program->mlock(at, 30 * kPage).ok());
  f.program->space().set_limit(8);
  const std::uint64_t more = f.map(4);
  f.fill(*f.program, more, 4);
  f.check(*f.program, more, 4);
  f.check(*f.program, at, 30);
}

TEST_CASE("who has more than its RLIMIT_RSS gives before others do", "[paging][limit]") {
  TestMachine machine({.memory_limit_pages = 1024});
  Program modest(machine);
  Program greedy(machine);
  greedy.pmap().set_resident_limit(100);
  // It is asked for now and then.
  machine.time += std::chrono::seconds(1);
  (void)machine.pump();
  const auto small = modest.mmap(0, 200 * kPage, bsd::kReadWrite, kAnonPrivate);
  for (std::uint64_t i = 0; i < 200; ++i) modest.store(small.value + i * kPage, 1);
  const auto large = greedy.mmap(0, 3000 * kPage, bsd::kReadWrite, kAnonPrivate);
  for (std::uint64_t i = 0; i < 3000; ++i) {
    greedy.store(large.value + i * kPage, Fixture::value_of(i));
  }
  CHECK(Fixture::resident(modest) == 200);
  CHECK(Fixture::resident(greedy) < 824);
}
