// Limits of single programs: what they may have in memory.
#include <catch2/catch.hpp>

#include <chrono>

#include "tests/vm/paging_fixture.h"

using namespace test;

TEST_CASE("a program keeps to a limit of its own, and others keep what they have",
          "[paging][limit]") {
  PagingFixture f;
  Program other(f.machine);
  const auto theirs = other.mmap(0, 20 * kPage, bsd::kReadWrite, kAnonPrivate);
  f.fill(other, theirs.value, 20, 9);
  f.program->space().set_limit(8);
  const std::uint64_t at = f.map(20);
  for (std::uint64_t i = 0; i < 20; ++i) {
    f.program->store(at + i * kPage, PagingFixture::value_of(i));
    REQUIRE(PagingFixture::resident(*f.program) <= 8);
  }
  for (std::uint64_t i = 0; i < 20; ++i) {
    REQUIRE(f.program->load(at + i * kPage) == PagingFixture::value_of(i));
    REQUIRE(PagingFixture::resident(*f.program) <= 8);
  }
  CHECK(PagingFixture::resident(other) == 20);
  // There was room for all of it.
  CHECK(f.machine.machine.counters().pageouts == 0);
}

TEST_CASE("a limit that is set later has a program give up what is more", "[paging][limit]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(40);
  REQUIRE(PagingFixture::resident(*f.program) == 40);
  f.program->space().set_limit(10);
  while (f.machine.pump()) continue;
  CHECK(PagingFixture::resident(*f.program) <= 10);
  f.program->space().set_limit(0);
  f.check(*f.program, at, 40);
  CHECK(PagingFixture::resident(*f.program) == 40);
}

TEST_CASE("a child has its parent's limit", "[paging][limit]") {
  PagingFixture f;
  f.program->space().set_limit(8);
  const std::uint64_t at = f.filled(20);
  const auto child = f.program->fork();
  CHECK(child->space().limit() == 8);
  f.check(*child, at, 20);
  f.fill(*child, at, 20, 3);
  while (f.machine.pump()) continue;
  CHECK(PagingFixture::resident(*child) <= 8);
  f.check(*f.program, at, 20);
}

TEST_CASE("what cannot leave takes nothing from what a program can still do", "[paging][limit]") {
  PagingFixture f;
  const std::uint64_t at = f.filled(30);
  REQUIRE(f.program->mlock(at, 30 * kPage).ok());
  f.program->space().set_limit(8);
  const std::uint64_t more = f.filled(4);
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
    greedy.store(large.value + i * kPage, PagingFixture::value_of(i));
  }
  CHECK(PagingFixture::resident(modest) == 200);
  CHECK(PagingFixture::resident(greedy) < 824);
}
