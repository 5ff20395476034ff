#include <catch2/catch.hpp>

#include "tests/vm/test_machine.h"
#include "vmserver/vm/fault_window.h"

using vm::Advice;
using vm::FaultWindow;

TEST_CASE("a window starts with 16 pages and doubles to 512 while the pattern holds",
          "[fault_window]") {
  FaultWindow window;
  std::uint64_t page = 1000;
  for (std::uint32_t expected : {16, 32, 64, 128, 256, 512, 512, 512}) {
    CHECK(window.grow(page, Advice::normal) == expected);
    page += expected;
  }
}

TEST_CASE("one wrong guess falls back, and jumping about ends with single pages",
          "[fault_window]") {
  FaultWindow window;
  std::uint64_t page = 1000;
  for (int i = 0; i < 6; ++i) page += window.grow(page, Advice::normal);
  CHECK(window.grow(9000, Advice::normal) == 16);
  CHECK(window.grow(5000, Advice::normal) == 4);
  CHECK(window.grow(2000, Advice::normal) == 1);
  CHECK(window.grow(7000, Advice::normal) == 1);
  // And from there a walk starts anew.
  CHECK(window.grow(7001, Advice::normal) == 16);
  CHECK(window.grow(7017, Advice::normal) == 32);
}

TEST_CASE("advice sets the window: random one page, sequential the most", "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100, Advice::random) == 1);
  CHECK(window.grow(101, Advice::random) == 1);
  CHECK(window.grow(5000, Advice::sequential) == FaultWindow::kMost);
}

TEST_CASE("a window that ended early goes on from where it ended", "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100, Advice::normal) == 16);
  window.ended_at(104);
  CHECK(window.grow(104, Advice::normal) == 32);
}

TEST_CASE("a fault inside the last window changes no pattern", "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100, Advice::normal) == 16);
  CHECK(window.grow(105, Advice::normal) == 11);
  CHECK(window.grow(116, Advice::normal) == 32);
}

TEST_CASE("a walk through private memory faults ever more seldom", "[fault_window]") {
  using namespace test;
  TestMachine machine;
  Program program(machine);
  constexpr std::uint64_t kPages = 16 + 32 + 64 + 128 + 256 + 512 + 512;
  const auto mapped = program.mmap(0, kPages * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  REQUIRE(mapped.ok());
  REQUIRE(program.touch(mapped.value, kPages, true) == hal::SimResult::done);
  CHECK(program.space().fault_count() == 7);
  CHECK(machine.machine.counters().zero_fills == kPages);
}

TEST_CASE("pages touched at random bring in few others", "[fault_window]") {
  using namespace test;
  TestMachine machine;
  Program program(machine);
  const auto mapped =
      program.mmap(0, 10000 * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  for (std::uint64_t i = 0; i < 50; ++i) {
    program.touch(mapped.value + (i * 7919 % 10000) * kPage, 1, true);
  }
  CHECK(machine.machine.counters().zero_fills < 16 + 4 + 50);
}
