// What the server does for libc's own calls and for programs that do some of them by themselves.
#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"
#include "vmserver/vm/map_entry.h"

using namespace test;
using hal::Protection;
using hal::SimResult;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;
constexpr std::uint64_t kNone = 0;

/// A heap of malloc's: inaccessible, but for the first pages.
struct Heap {
  TestMachine machine;
  Program program{machine};
  std::uint64_t at = 0;

  explicit Heap(std::uint64_t pages) {
    const auto mapped = program.mmap(0, pages * kPage, kNone, kAnonPrivate);
    REQUIRE(mapped.ok());
    at = mapped.value;
  }

  /// The program does it, and then the server hears of it.
  bool done(std::uint64_t first, std::uint64_t pages, std::uint64_t protection) {
    hal::Plan plan;
    plan.protect(VirtualRange(VirtualAddress(at + first * kPage),
                              VirtualAddress(at + (first + pages) * kPage)),
                 Protection(static_cast<std::uint8_t>(protection)));
    REQUIRE(program.pmap().apply(plan) == 0);
    return tell(at + first * kPage, pages * kPage, protection);
  }
  bool tell(std::uint64_t address, std::uint64_t bytes, std::uint64_t protection) {
    return program.space().note(
        program.request(protocol::kCallMprotect, {address, bytes, protection}), 42);
  }
  Protection protection_of(Program& whose, std::uint64_t page) {
    return whose.space().map().find(VirtualAddress(at + page * kPage))->protection;
  }
};

}  // namespace

TEST_CASE("the map follows an mprotect that the program has done by itself", "[libc]") {
  Heap heap(64);
  REQUIRE(heap.done(0, 8, bsd::kReadWrite));
  heap.program.store(heap.at + 7 * kPage, 1);
  CHECK(heap.program.try_store(heap.at + 8 * kPage) == SimResult::segmentation_fault);
  CHECK(heap.protection_of(heap.program, 7) == Protection(bsd::kReadWrite));
  CHECK(heap.protection_of(heap.program, 8) == Protection::none());
  CHECK(heap.program.space().map().entry_count() == 2);
  // As one mapping it moves as one.
  REQUIRE(heap.done(8, 8, bsd::kReadWrite));
  CHECK(heap.program.space().map().entry_count() == 2);
  const auto moved = heap.program.mremap(heap.at, 16 * kPage, 16 * kPage, 3,
                                         heap.at + 1000 * kPage);
  REQUIRE(moved.ok());
  CHECK(heap.program.load(moved.value + 7 * kPage) == 1);
}

TEST_CASE("a program may do by itself only what nothing depends on", "[libc]") {
  Heap heap(8);
  CHECK_FALSE(heap.tell(heap.at, 8 * kPage, 7));         // may be run
  CHECK_FALSE(heap.tell(heap.at, 9 * kPage, 1));         // reaches behind it
  CHECK_FALSE(heap.tell(heap.at + 1, kPage, 1));
  CHECK_FALSE(heap.tell(heap.at, 0, 1));
  CHECK_FALSE(heap.tell(heap.at, ~std::uint64_t{0}, 1));
  CHECK_FALSE(heap.tell(heap.at, kPage, std::uint64_t{1} << 40));
  FakeFile& file = heap.machine.make_file(kPage);
  const auto mapped = heap.program.mmap(0, kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(mapped.ok());
  CHECK_FALSE(heap.tell(mapped.value, kPage, 3));
  CHECK(heap.protection_of(heap.program, 0) == Protection::none());
}

TEST_CASE("where a policy has to be asked a program does nothing by itself", "[libc]") {
  TestMachine machine({.policy = "deny prot x\n"});
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kRead, kAnonPrivate);
  REQUIRE(mapped.ok());
  CHECK_FALSE(program.space().note(
      program.request(protocol::kCallMprotect, {mapped.value, kPage, bsd::kReadWrite}), 42));
}

TEST_CASE("a child takes over protection that its parent has not told of yet", "[libc]") {
  Heap heap(16);
  hal::Plan plan;
  plan.protect(VirtualRange(VirtualAddress(heap.at), VirtualAddress(heap.at + 4 * kPage)),
               Protection(bsd::kReadWrite));
  REQUIRE(heap.program.pmap().apply(plan) == 0);
  const auto child = heap.program.fork();
  CHECK(heap.protection_of(*child, 0) == Protection::none());
  child->space().settle_lease(true);
  CHECK(heap.protection_of(*child, 0) == Protection(bsd::kReadWrite));
  CHECK(heap.protection_of(*child, 3) == Protection(bsd::kReadWrite));
  CHECK(heap.protection_of(*child, 4) == Protection::none());
  child->store(heap.at + 3 * kPage, 5);
}

TEST_CASE("faults that follow one another fill a heap ahead of its growth", "[libc]") {
  Heap heap(4096);
  REQUIRE(heap.done(0, 32, bsd::kReadWrite));
  for (std::uint64_t page = 0; page < 32; ++page) heap.program.store(heap.at + page * kPage, 1);
  const std::uint64_t faults = heap.program.space().fault_count();
  // 16 pages, then 32 from the 16th on: the last 16 of them are behind what is accessible.
  CHECK(faults == 2);
  CHECK(heap.program.try_load(heap.at + 32 * kPage) == SimResult::segmentation_fault);
  REQUIRE(heap.done(32, 16, bsd::kReadWrite));
  for (std::uint64_t page = 32; page < 48; ++page) {
    CHECK(heap.program.load(heap.at + page * kPage) == 0);
    heap.program.store(heap.at + page * kPage, 2);
  }
  CHECK(heap.program.space().fault_count() == faults);
}

TEST_CASE("a single fault at the end of what is accessible fills nothing behind it", "[libc]") {
  Heap heap(64);
  REQUIRE(heap.done(0, 4, bsd::kReadWrite));
  heap.program.store(heap.at, 1);
  std::uint64_t pages = 0;
  heap.program.pmap().mapped_pages(
      VirtualRange(VirtualAddress(heap.at), VirtualAddress(heap.at + 64 * kPage)),
      [&](hal::PageRun run) { pages += run.range.pages(); });
  CHECK(pages == 4);
}

TEST_CASE("memory that is handed over keeps its content and is the host's", "[hand_over]") {
  Heap heap(8);
  REQUIRE(heap.done(0, 8, bsd::kReadWrite));
  heap.program.store(heap.at + 2 * kPage, 7);
  const auto call = [&](std::uint64_t address, std::uint64_t bytes) {
    return heap.program.call(heap.program.request(protocol::kCallHandOver, {address, bytes})).error;
  };
  CHECK(call(heap.at + 1, kPage) == EINVAL);
  CHECK(call(heap.at, 0) == EINVAL);
  CHECK(call(~std::uint64_t{0} - kPage + 1, kPage) == EINVAL);
  REQUIRE(call(heap.at + 2 * kPage, 2 * kPage) == 0);
  CHECK(heap.program.load(heap.at + 2 * kPage) == 7);
  CHECK(heap.program.space().map().find(VirtualAddress(heap.at + 2 * kPage))->source ==
        vm::Source::host);
  CHECK(heap.program.space().map().find(VirtualAddress(heap.at))->source ==
        vm::Source::anonymous);
  CHECK(heap.program.space().map().managed_bytes() == 6 * kPage);
  // Again there is nothing to hand over.
  CHECK(call(heap.at + 2 * kPage, 2 * kPage) == EBUSY);
  CHECK(heap.program.munmap(heap.at, 8 * kPage).ok());
  CHECK(heap.program.try_load(heap.at + 2 * kPage) == SimResult::segmentation_fault);
}

TEST_CASE("what others share is not handed over", "[hand_over]") {
  TestMachine machine;
  Program program(machine);
  const auto shared = program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared);
  REQUIRE(shared.ok());
  CHECK(program.call(program.request(protocol::kCallHandOver, {shared.value, kPage})).error ==
        EBUSY);
}
