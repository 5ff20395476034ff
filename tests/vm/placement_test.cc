// Where mappings may be and what they grow into: FreeBSD's MAP_STACK and the host's MAP_GROWSDOWN,
// MAP_GUARD, MAP_ALIGNED, MAP_32BIT; and how far PROT_MAX() lets protections go.
#include <catch2/catch.hpp>

#include <cerrno>
#include <sys/mman.h>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;

namespace {

constexpr std::uint64_t kSize = std::uint64_t{1} << 20;
constexpr std::uint64_t kFirst = vm::kStackGrowth;
constexpr std::uint64_t kGuardFlag = 0x2000;
constexpr std::uint64_t kExclusive = 0x4000;

std::uint64_t managed(Program& program) { return program.space().map().managed_bytes(); }

struct Fixture {
  explicit Fixture(const char* personality = "freebsd-7")
      : machine({.personality = personality}), program(machine) {
    at = program.mmap(0, kSize, bsd::kReadWrite, bsd::kStack).value;
  }
  TestMachine machine;
  Program program;
  std::uint64_t at = 0;
};

}  // namespace

TEST_CASE("a stack begins with 128 KiB at its top and grows down on touch", "[placement]") {
  Fixture f;
  CHECK(managed(f.program) == kFirst);
  f.program.store(f.at + kSize - 1, 1);
  CHECK(managed(f.program) == kFirst);
  f.program.store(f.at + kSize - kFirst - 1, 2);
  CHECK(managed(f.program) == 2 * kFirst);
  CHECK(f.program.load(f.at + kSize - kFirst - 1) == 2);
  f.program.store(f.at, 3);
  CHECK(managed(f.program) == kSize);
  CHECK(f.program.load(f.at) == 3);
  CHECK(f.program.load(f.at + kSize - 1) == 1);
  CHECK(f.program.try_load(f.at - 1) == SimResult::segmentation_fault);
}

TEST_CASE("a small stack is there at once", "[placement]") {
  TestMachine machine;
  Program program(machine);
  const auto small = program.mmap(0, 2 * kPage, bsd::kReadWrite, bsd::kStack);
  CHECK(managed(program) == 2 * kPage);
  program.store(small.value, 1);
  CHECK(program.munmap(small.value, 2 * kPage).ok());
}

TEST_CASE("what a stack has not grown into is a hole", "[placement]") {
  Fixture f;
  CHECK(f.program.munmap(f.at, kSize).error == EINVAL);
  CHECK(f.program.mincore(f.at, kSize).error == ENOMEM);
  CHECK(f.program.mlock(f.at, kSize).error == ENOMEM);
  f.program.store(f.at, 3);
  CHECK(f.program.munmap(f.at, kSize).ok());
  CHECK(f.program.try_load(f.at) == SimResult::segmentation_fault);
  CHECK(managed(f.program) == 0);
}

TEST_CASE("nothing is put where a stack may grow, unless it must be there", "[placement]") {
  Fixture f;
  const auto other = f.program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  CHECK((other.value < f.at || other.value >= f.at + kSize));
  // MAP_FIXED takes part of the room; the stack grows to there.
  const std::uint64_t middle = f.at + kSize / 2;
  REQUIRE(f.program.mmap(middle, kPage, bsd::kReadWrite,
                         bsd::kAnon | bsd::kPrivate | bsd::kFixed).value == middle);
  f.program.store(middle, 7);
  f.program.store(middle + kPage, 8);
  CHECK(f.program.load(middle) == 7);
  CHECK(f.program.load(middle + kPage) == 8);
}

TEST_CASE("with the lowest part of a stack goes what it could have grown into", "[placement]") {
  Fixture f;
  REQUIRE(f.program.munmap(f.at + kSize - kFirst, kFirst).ok());
  CHECK(f.program.try_load(f.at + kSize - kFirst - 1) == SimResult::segmentation_fault);
  CHECK(f.program.space().map().entry_count() == 0);
  // Of the upper part, nothing of that goes.
  Fixture g;
  REQUIRE(g.program.munmap(g.at + kSize - kPage, kPage).ok());
  g.program.store(g.at, 1);
}

TEST_CASE("a stack grows in a child, apart from its parent's", "[placement]") {
  Fixture f;
  f.program.store(f.at + kSize - 1, 1);
  const auto child = f.program.fork();
  child->store(f.at, 2);
  f.program.store(f.at, 3);
  CHECK(child->load(f.at) == 2);
  CHECK(f.program.load(f.at) == 3);
  CHECK(child->load(f.at + kSize - 1) == 1);
}

TEST_CASE("a wired stack counts what it grows by", "[placement]") {
  Fixture f;
  REQUIRE(f.program.mlock(f.at + kSize - kFirst, kFirst).ok());
  CHECK(f.program.space().wired_pages() == kFirst / kPage);
  f.program.store(f.at + kSize - kFirst - 1, 2);
  CHECK(f.program.space().wired_pages() == 2 * kFirst / kPage);
  REQUIRE(f.program.munlockall().ok());
  CHECK(f.program.space().wired_pages() == 0);
}

TEST_CASE("freebsd-14 keeps one page below a stack out of reach", "[placement]") {
  Fixture f("freebsd-14");
  f.program.store(f.at + kPage, 1);
  CHECK(f.program.try_load(f.at) == SimResult::segmentation_fault);
  CHECK(f.program.mmap(0, kPage, bsd::kReadWrite, bsd::kStack).error == EINVAL);
  CHECK(f.program.munmap(f.at, kSize).ok());
}

TEST_CASE("the host's MAP_GROWSDOWN is there at once and grows below", "[placement]") {
  TestMachine machine({.personality = "linux"});
  Program program(machine);
  program.abi = protocol::kAbiLinux;
  constexpr std::uint64_t kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN;
  const std::uint64_t at = program.mmap(0, 4 * kPage, PROT_READ | PROT_WRITE, kFlags).value;
  CHECK(managed(program) == 4 * kPage);
  program.store(at, 1);
  program.store(at - 1, 2);
  CHECK(program.load(at - 1) == 2);
  CHECK(program.load(at) == 1);
  // As far as RLIMIT_STACK.
  program.store(at + 4 * kPage - program.stack_limit, 3);
  CHECK(program.try_load(at + 4 * kPage - program.stack_limit - 1) ==
        SimResult::segmentation_fault);
}

TEST_CASE("MAP_GUARD keeps room free until it is taken or unmapped", "[placement]") {
  TestMachine machine({.personality = "freebsd-14"});
  Program program(machine);
  const auto guard = program.mmap(0, 4 * kPage, bsd::kNone, kGuardFlag);
  REQUIRE(guard.ok());
  CHECK(program.try_load(guard.value) == SimResult::segmentation_fault);
  CHECK(program.mprotect(guard.value, 4 * kPage, bsd::kReadWrite).ok());
  CHECK(program.try_load(guard.value) == SimResult::segmentation_fault);
  const auto other = program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  CHECK(other.value >= guard.value + 4 * kPage);
  constexpr std::uint64_t kFlags = bsd::kAnon | bsd::kPrivate | bsd::kFixed;
  CHECK(program.mmap(guard.value, kPage, bsd::kReadWrite, kFlags | kExclusive).error == EINVAL);
  REQUIRE(program.mmap(guard.value, kPage, bsd::kReadWrite, kFlags).ok());
  program.store(guard.value, 1);
  CHECK(program.munmap(guard.value, 4 * kPage).ok());
  CHECK(program.space().map().managed_bytes() == kPage);
}

TEST_CASE("MAP_ALIGNED and MAP_32BIT say where a mapping may be", "[placement]") {
  TestMachine machine({.personality = "freebsd-14"});
  Program program(machine);
  constexpr std::uint64_t kFlags = bsd::kAnon | bsd::kPrivate;
  REQUIRE(program.mmap(0, kPage, bsd::kReadWrite, kFlags).ok());
  const auto aligned = program.mmap(0, kPage, bsd::kReadWrite, kFlags | std::uint64_t{24} << 24);
  CHECK(aligned.value % (std::uint64_t{1} << 24) == 0);
  const auto super = program.mmap(0, kPage, bsd::kReadWrite, kFlags | std::uint64_t{1} << 24);
  CHECK(super.value % (std::uint64_t{1} << 21) == 0);
  CHECK(program.mmap(0, kPage, bsd::kReadWrite, kFlags | std::uint64_t{50} << 24).error == ENOMEM);
  const auto low = program.mmap(0, kPage, bsd::kReadWrite, kFlags | 0x80000);
  REQUIRE(low.ok());
  CHECK(low.value + kPage <= std::uint64_t{1} << 31);
  program.store(low.value, 1);
  CHECK(program.mmap(std::uint64_t{1} << 31, kPage, bsd::kReadWrite,
                     kFlags | bsd::kFixed | 0x80000).error == EINVAL);
}

TEST_CASE("PROT_MAX() is the most that mprotect gives", "[placement]") {
  TestMachine machine({.personality = "freebsd-14"});
  Program program(machine);
  constexpr std::uint64_t kFlags = bsd::kAnon | bsd::kPrivate;
  const auto mapped = program.mmap(0, kPage, bsd::kRead | bsd::kReadWrite << 16, kFlags);
  REQUIRE(mapped.ok());
  CHECK(program.mprotect(mapped.value, kPage, bsd::kReadWrite).ok());
  CHECK(program.mprotect(mapped.value, kPage, bsd::kExec).error == EACCES);
  CHECK(program.mprotect(mapped.value, kPage, bsd::kReadWrite | bsd::kRead << 16).error ==
        EOPNOTSUPP);
  CHECK(program.mprotect(mapped.value, kPage, bsd::kRead | bsd::kRead << 16).ok());
  CHECK(program.mprotect(mapped.value, kPage, bsd::kReadWrite).error == EACCES);
  CHECK(program.mmap(0, kPage, bsd::kReadWrite | bsd::kRead << 16, kFlags).error == EOPNOTSUPP);
}
