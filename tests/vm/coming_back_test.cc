// What has left programs, or is just leaving: they and their children find it again, and nobody
// finds what was given up.
#include <catch2/catch.hpp>

#include <sys/mman.h>

#include "tests/vm/paging_fixture.h"

using namespace test;
using hal::SimResult;
using vm::Transfer;

TEST_CASE("a page that is not with the pager only comes back without it", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().carry_out_taking());
  REQUIRE(PagingFixture::resident(*f.program) == 0);
  REQUIRE(f.figures().filled == 16);
  f.machine.pagers.hold(true);
  f.check(*f.program, at, 16);
  CHECK(f.machine.machine.counters().reactivations == 16);
  CHECK(f.figures().held == 0);
}

TEST_CASE("a fault of a page that is leaving waits, and finds it", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  // It is nowhere for the moment; the answer comes from the pump.
  CHECK(f.program->load(at + 3 * kPage) == PagingFixture::value_of(3));
}

TEST_CASE("pages come back in clusters", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(32);
  REQUIRE(f.figures().away == 32);
  f.machine.pagers.forget_records();
  f.check(*f.program, at, 32);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).size() <= 3);
}

TEST_CASE("what is unmapped leaves the swap", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(32);
  REQUIRE(f.machine.pagers.anonymous_pages() == 32);
  REQUIRE(f.program->munmap(at + 8 * kPage, 24 * kPage).ok());
  CHECK(f.figures().held == 8);
  f.swap.flush_discards();
  CHECK(f.machine.pagers.anonymous_pages() == 8);
  f.check(*f.program, at, 8);
}

TEST_CASE("a program that ends leaves the swap", "[paging]") {
  PagingFixture f;
  f.in_swap(32);
  f.program->kill();
  CHECK(f.figures().held == 0);
  f.swap.flush_discards();
  CHECK(f.machine.pagers.anonymous_pages() == 0);
  CHECK(f.memory.used() == 0);
}

TEST_CASE("a new mapping over pages in swap is empty", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(32);
  REQUIRE(f.program->mmap(at, 16 * kPage, bsd::kReadWrite, kAnonPrivate | bsd::kFixed).ok());
  for (std::uint64_t i = 0; i < 16; ++i) CHECK(f.program->load(at + i * kPage) == 0);
  CHECK(f.program->load(at + 16 * kPage) == PagingFixture::value_of(16));
}

TEST_CASE("mremap takes along what is in swap", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled_on_linux(32);
  f.page_everything_out();
  f.program->store(at + 5 * kPage, PagingFixture::value_of(5));
  const auto moved = f.program->mremap(at, 32 * kPage, 64 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                                       at + 1024 * kPage);
  REQUIRE(moved.ok());
  f.check(*f.program, moved.value, 32);
  CHECK(f.program->load(moved.value + 40 * kPage) == 0);
}

TEST_CASE("a late fault in the middle of mremap costs nothing of what is in swap", "[paging]") {
  PagingFixture f;
  const std::uint64_t to = f.map(64);
  const std::uint64_t at = f.filled_on_linux(32);
  f.page_everything_out();
  std::uint64_t late = 0;
  const auto touch_late = [&] { f.program->space().fault(hal::VirtualAddress(late), false); };
  SECTION("of what moves, before") {
    late = at + 3 * kPage;
    f.program->before_plan = touch_late;
  }
  SECTION("of the target, before") {
    late = to + 3 * kPage;
    f.program->before_plan = touch_late;
  }
  SECTION("of the target, after") {
    late = to + 3 * kPage;
    f.program->after_plan = touch_late;
  }
  REQUIRE(f.program->mremap(at, 32 * kPage, 32 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to).ok());
  f.check(*f.program, to, 32);
}

TEST_CASE("the host's MADV_DONTNEED drops what is in swap, FreeBSD's does not", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(32);
  REQUIRE(f.program->madvise(at, 32 * kPage, bsd::kDontNeed).ok());
  CHECK(f.program->load(at) == PagingFixture::value_of(0));
  f.page_everything_out();
  f.program->abi = protocol::kAbiLinux;
  REQUIRE(f.program->madvise(at, 32 * kPage, MADV_DONTNEED).ok());
  CHECK(f.program->load(at) == 0);
  CHECK(f.figures().held == 0);
}

TEST_CASE("a child has what was in swap, and each keeps its own", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(32);
  const auto child = f.program->fork();
  CHECK(f.figures().held == 32);
  f.fill(*f.program, at, 16, 9);
  f.check(*child, at, 32);
  f.fill(*child, at, 32, 77);
  f.check(*f.program, at, 16, 9);
  for (std::uint64_t i = 16; i < 32; ++i) {
    CHECK(f.program->load(at + i * kPage) == PagingFixture::value_of(i));
  }
  f.page_everything_out();
  f.check(*child, at, 32, 77);
}

TEST_CASE("a child of a fork in the middle of leaving has the pages as well", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  const auto child = f.program->fork_unannounced();
  const auto grandchild = child->fork_unannounced();
  // Touched before it is said where they are.
  CHECK(child->load(at + 2 * kPage) == PagingFixture::value_of(2));
  f.fill(*f.program, at, 16, 3);
  f.check(*child, at, 16);
  f.check(*grandchild, at, 16);
}

TEST_CASE("a child that has a page itself needs nothing of what its parent took out", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(16);
  REQUIRE(f.program->mprotect(at, 16 * kPage, bsd::kRead).ok());
  REQUIRE(f.program->space().start_leaving());
  // The order is carried out after the fork: the pages have been copied, and leave the parent
  // alone.
  const auto child = f.program->fork_unannounced();
  (void)f.program->pmap().carry_out_taking();
  REQUIRE(child->space().swapped_pages() == 16);
  // This brings back what is in swap first.
  REQUIRE(child->minherit(at, 16 * kPage, bsd::kInheritShare).ok());
  f.check(*child, at, 16);
  f.check(*f.program, at, 16);
}

// It would wait for the next pages that leave, and forget what it has of those.
TEST_CASE("a child that is forked when the pages have left waits for no others", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(128);
  f.check(*f.program, at, 16);  // back in memory
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  const auto first = f.program->fork_unannounced();
  // Once it has been told of the pages, before the parent is through with them.
  std::unique_ptr<Program> second;
  first->space().bring_all_back(hal::VirtualRange(),
                                [&](vm::Error) { second = f.program->fork_unannounced(); });
  while (!second && f.machine.pump()) continue;
  REQUIRE(second);
  first->space().let_leave();
  // What is elsewhere comes back to the parent, and leaves it once more.
  for (std::uint64_t i = 100; i < 116; ++i)
    CHECK(f.program->load(at + i * kPage) == PagingFixture::value_of(i));
  for (Program* one : {second.get(), first.get(), f.program.get()}) {
    f.page_everything_out();
    f.check(*one, at, 128);
  }
}

TEST_CASE("a child has what left its parent, though the parent has ended when that is told",
          "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  auto child = f.program->fork_unannounced();
  f.program->space().close();
  REQUIRE(f.program->pmap().answer_taken());
  CHECK(f.figures().held == 16);
  f.check(*child, at, 16);
  child.reset();
  CHECK(f.figures().held == 0);
}

TEST_CASE("a grandchild has what left its grandparent, though its parent has ended", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(16);
  REQUIRE(f.program->space().start_leaving());
  REQUIRE(f.program->pmap().take_ordered());
  auto child = f.program->fork_unannounced();
  const auto grandchild = child->fork_unannounced();
  child.reset();
  f.check(*grandchild, at, 16);
}

TEST_CASE("a child that was left nothing gets nothing of what leaves its parent", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(16);
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
  PagingFixture f;
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

TEST_CASE("children share what they are told to, wherever it was", "[paging][minherit]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(32);
  f.program->store(at, PagingFixture::value_of(0));
  REQUIRE(f.program->minherit(at, 32 * kPage, bsd::kInheritShare).ok());
  f.check(*f.program, at, 32);
  const auto child = f.program->fork();
  child->store(at + kPage, 99);
  CHECK(f.program->load(at + kPage) == 99);
}

TEST_CASE("a pager that dies takes along what only it had, and nothing else", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(32);
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
  PagingFixture f;
  const std::uint64_t at = f.filled(32);
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

namespace {

std::uint64_t pages_in(PagingFixture& f) {
  std::uint64_t pages = 0;
  for (const auto& record : f.machine.pagers.records(Transfer::Kind::page_in)) {
    pages += record.pages.count();
  }
  return pages;
}

}  // namespace

TEST_CASE("touches all over what is in swap read single pages", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(1000);
  f.machine.pagers.forget_records();
  for (std::uint64_t i = 0; i < 300; ++i) {
    const std::uint64_t page = i * 387 % 1000;
    REQUIRE(f.program->load(at + page * kPage) == PagingFixture::value_of(page));
  }
  // The first ones of what it was taught while it was filled come with some more.
  CHECK(pages_in(f) < 300 + 100);
}

TEST_CASE("two walks through what is in swap are both read ahead", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(1000);
  f.machine.pagers.forget_records();
  for (std::uint64_t i = 0; i < 400; ++i) {
    REQUIRE(f.program->load(at + i * kPage) == PagingFixture::value_of(i));
    REQUIRE(f.program->load(at + (500 + i) * kPage) == PagingFixture::value_of(500 + i));
  }
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).size() < 400);
}

TEST_CASE("a walk down through what is in swap is read ahead", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.in_swap(400);
  f.machine.pagers.forget_records();
  for (std::uint64_t i = 400; i-- != 0;) {
    REQUIRE(f.program->load(at + i * kPage) == PagingFixture::value_of(i));
  }
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).size() < 150);
}

TEST_CASE("what is read ahead is no more than is free", "[paging]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(300);
  for (std::uint64_t round = 0; round < 3; ++round) {
    for (std::uint64_t i = 0; i < 300; ++i) {
      REQUIRE(f.program->load(at + i * kPage) == PagingFixture::value_of(i));
      REQUIRE(PagingFixture::resident(*f.program) + f.memory.swap_pages() <= PagingFixture::kPages);
      REQUIRE(f.memory.private_pages() == PagingFixture::resident(*f.program));
    }
  }
}
