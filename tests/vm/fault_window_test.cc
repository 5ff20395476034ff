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
    CHECK(window.grow(page, Advice::normal).count == expected);
    page += expected;
  }
}

TEST_CASE("one wrong guess falls back, and jumping about ends with single pages",
          "[fault_window]") {
  FaultWindow window;
  std::uint64_t page = 1000;
  for (int i = 0; i < 6; ++i) page += window.grow(page, Advice::normal).count;
  CHECK(window.grow(9000, Advice::normal).count == 16);
  CHECK(window.grow(5000, Advice::normal).count == 4);
  CHECK(window.grow(3000, Advice::normal).count == 1);
  CHECK(window.grow(7000, Advice::normal).count == 1);
  // And from there a walk starts anew.
  CHECK(window.grow(7001, Advice::normal).count == 16);
  CHECK(window.grow(7017, Advice::normal).count == 32);
}

TEST_CASE("advice sets the window: random one page, sequential the most", "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100, Advice::random).count == 1);
  CHECK(window.grow(101, Advice::random).count == 1);
  CHECK(window.grow(5000, Advice::sequential).count == FaultWindow::kMost);
}

TEST_CASE("a window that ended early goes on from where it ended", "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100, Advice::normal).count == 16);
  window.ended_at(104);
  CHECK(window.grow(104, Advice::normal).count == 32);
}

TEST_CASE("a fault inside the last window changes no pattern", "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100, Advice::normal).count == 16);
  CHECK(window.grow(105, Advice::normal).count == 11);
  CHECK(window.grow(116, Advice::normal).count == 32);
}

TEST_CASE("a long walk reads ahead, and goes on in what was read ahead and behind it",
          "[fault_window]") {
  constexpr std::uint64_t kMost = FaultWindow::kMost;
  FaultWindow window;
  std::uint64_t page = 1000;
  for (std::uint32_t expected : {16, 32, 64, 128, 256}) {
    CHECK(window.grow(page, Advice::normal).count == expected);
    CHECK(window.read_ahead() == 0);
    page += expected;
  }
  CHECK(window.grow(page, Advice::normal).count == kMost);
  CHECK(window.read_ahead() == kMost);
  SECTION("the program is there before its pages") {
    CHECK(window.grow(page + kMost, Advice::normal) == FaultWindow::Span{0, kMost});
    CHECK(window.read_ahead() == kMost);
  }
  SECTION("the program is there after the first of them") {
    CHECK(window.grow(page + kMost + 100, Advice::normal) == FaultWindow::Span{0, kMost - 100});
    CHECK(window.read_ahead() == kMost);
    CHECK(window.grow(page + 2 * kMost, Advice::normal) == FaultWindow::Span{0, kMost});
  }
  SECTION("the program is there after all of them") {
    CHECK(window.grow(page + 2 * kMost, Advice::normal) == FaultWindow::Span{0, kMost});
    CHECK(window.read_ahead() == kMost);
  }
  SECTION("the program jumps away, and comes back before it has been elsewhere too often") {
    CHECK(window.grow(10, Advice::normal).count == 16);
    CHECK(window.read_ahead() == 0);
    CHECK(window.grow(500, Advice::normal).count == 4);
    CHECK(window.grow(page + kMost, Advice::normal) == FaultWindow::Span{0, kMost});
    CHECK(window.read_ahead() == kMost);
  }
  SECTION("the program jumps away more often than is remembered: nothing is left of it") {
    for (std::uint64_t elsewhere = 0; elsewhere < FaultWindow::kWalks; ++elsewhere)
      window.grow(10 + 100 * elsewhere, Advice::normal);
    CHECK(window.grow(page + kMost, Advice::normal).count == 1);
  }
  SECTION("a walk downwards has nothing ahead") {
    CHECK(window.grow(page - 1, Advice::normal).before == kMost - 1);
    CHECK(window.read_ahead() == 0);
  }
}

TEST_CASE("a walk downwards gets windows that end with the page it touched", "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100000, Advice::normal) == FaultWindow::Span{0, 16});
  std::uint64_t page = 100000;
  for (std::uint32_t expected : {32, 64, 128, 256, 512, 512}) {
    --page;
    CHECK(window.grow(page, Advice::normal) == FaultWindow::Span{expected - 1, expected});
    page -= expected - 1;
  }
  // A page that did not come with its window comes with what is left of it.
  CHECK(window.grow(page + 9, Advice::normal) == FaultWindow::Span{9, 10});
  // Where the address space begins there is nothing before.
  FaultWindow low;
  CHECK(low.grow(5, Advice::normal) == FaultWindow::Span{0, 16});
  CHECK(low.grow(4, Advice::normal) == FaultWindow::Span{4, 5});
}

TEST_CASE("a walk downwards through private memory faults ever more seldom", "[fault_window]") {
  using namespace test;
  TestMachine machine;
  Program program(machine);
  constexpr std::uint64_t kPages = 1 + 32 + 64 + 128 + 256 + 512 + 512;
  const auto mapped = program.mmap(0, kPages * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  REQUIRE(mapped.ok());
  for (std::uint64_t page = kPages; page-- > 0;)
    REQUIRE(program.touch(mapped.value + page * kPage, 1, true) == hal::SimResult::done);
  CHECK(program.space().fault_count() == 7);
  CHECK(machine.machine.counters().zero_fills == kPages);
}

TEST_CASE("a walk downwards over pages that are there skips them and loses none",
          "[fault_window]") {
  using namespace test;
  TestMachine machine;
  Program program(machine);
  constexpr std::uint64_t kPages = 600;
  const auto mapped = program.mmap(0, kPages * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  REQUIRE(mapped.ok());
  for (std::uint64_t page = 0; page < kPages; page += 37)
    REQUIRE(program.touch(mapped.value + page * kPage, 1, true) == hal::SimResult::done);
  for (std::uint64_t page = kPages; page-- > 0;)
    REQUIRE(program.touch(mapped.value + page * kPage, 1, true) == hal::SimResult::done);
  CHECK(machine.machine.counters().zero_fills == kPages);
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

TEST_CASE("a walk downwards through a file asks its pager ever more seldom", "[fault_window]") {
  using namespace test;
  TestMachine machine;
  constexpr std::uint64_t kPages = 16 + 64 + 256 + 512;
  FakeFile& file = machine.make_file(kPages * kPage);
  Program program(machine);
  const auto mapped =
      program.mmap(0, kPages * kPage, bsd::kRead, bsd::kShared, file.open(true, false));
  REQUIRE(mapped.ok());
  for (std::uint64_t page = kPages; page-- > 0;)
    REQUIRE(program.load(mapped.value + page * kPage) ==
            static_cast<unsigned>(file.at(page * kPage)));
  CHECK(machine.pagers.records(vm::Transfer::Kind::page_in).size() == 4);
}

TEST_CASE("a walk may leave out a few pages between two windows", "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100, Advice::normal).count == 16);
  CHECK(window.grow(116 + FaultWindow::kLeftOut - 1, Advice::normal).count == 32);
  CHECK(window.grow(116 + FaultWindow::kLeftOut - 1 + 32 + FaultWindow::kLeftOut, Advice::normal).count ==
        16);
}

TEST_CASE("what a walk left out comes along where a page costs as little as another",
          "[fault_window]") {
  FaultWindow window;
  CHECK(window.grow(100, Advice::normal, {.left_out = FaultWindow::kLeftOut}).count == 16);
  CHECK(window.grow(118, Advice::normal, {.left_out = FaultWindow::kLeftOut}) == FaultWindow::Span{2, 2 + 32});
  CHECK(window.grow(150 + 20, Advice::normal, {.left_out = FaultWindow::kLeftOutAtEnd}) ==
        FaultWindow::Span{20, 20 + 64});
  CHECK(window.grow(234 + 20, Advice::normal, {.left_out = FaultWindow::kLeftOut}).count == 16);
}

TEST_CASE("a heap that grows a few pages at a time, written from its end, faults ever more seldom",
          "[fault_window]") {
  using namespace test;
  TestMachine machine;
  Program program(machine);
  constexpr std::uint64_t kPages = 512;
  constexpr std::uint64_t kGrowth = 7;
  const auto mapped = program.mmap(0, kPages * kPage, bsd::kNone, bsd::kAnon | bsd::kPrivate);
  REQUIRE(mapped.ok());
  std::uint64_t pages = 33;
  REQUIRE(program.mprotect(mapped.value, pages * kPage, bsd::kReadWrite).ok());
  REQUIRE(program.touch(mapped.value, pages, true) == hal::SimResult::done);
  for (; pages + kGrowth <= kPages; pages += kGrowth) {
    REQUIRE(program.mprotect(mapped.value + pages * kPage, kGrowth * kPage, bsd::kReadWrite).ok());
    for (const std::uint64_t page : {6, 3, 0, 1, 2, 4, 5})
      REQUIRE(program.touch(mapped.value + (pages + page) * kPage, 1, true) == hal::SimResult::done);
  }
  CHECK(program.space().fault_count() < 10);
  CHECK(machine.machine.counters().zero_fills <= kPages);
}

TEST_CASE("walks in turns, one up and one down, each have their own window", "[fault_window]") {
  FaultWindow window;
  std::uint64_t up = 1000;
  std::uint64_t down = 100000;
  CHECK(window.grow(up, Advice::normal).count == 16);
  up += 16;
  CHECK(window.grow(down, Advice::normal).count == 4);
  CHECK(window.grow(--down, Advice::normal) == FaultWindow::Span{15, 16});
  down -= 15;
  for (std::uint32_t expected : {32, 64, 128, 256, 512, 512}) {
    CHECK(window.grow(up, Advice::normal) == FaultWindow::Span{0, expected});
    up += expected;
    --down;
    CHECK(window.grow(down, Advice::normal) == FaultWindow::Span{expected - 1, expected});
    down -= expected - 1;
  }
}

TEST_CASE("a program that goes on wherever it jumps to starts with a whole window", "[fault_window]") {
  FaultWindow window;
  for (std::uint64_t place = 1; place < 10; ++place) {
    CHECK(window.grow(10000 * place, Advice::normal).count == 16);
    CHECK(window.grow(10000 * place + 16, Advice::normal).count == 32);
  }
}

TEST_CASE("as many walks as are remembered fault ever more seldom", "[fault_window]") {
  using namespace test;
  TestMachine machine;
  Program program(machine);
  constexpr std::uint64_t kWalks = FaultWindow::kWalks;
  constexpr std::uint64_t kPages = 4096;  // of each
  const auto mapped =
      program.mmap(0, kWalks * kPages * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  REQUIRE(mapped.ok());
  for (std::uint64_t page = 0; page < kPages; ++page) {
    for (std::uint64_t walk = 0; walk < kWalks; ++walk) {
      const std::uint64_t at = mapped.value + (walk * kPages + page) * kPage;
      REQUIRE(program.touch(at, 1, true) == hal::SimResult::done);
    }
  }
  // Each: 16 (the later ones less, and then 16), 32, 64, 128, 256, and 512 from there on.
  CHECK(program.space().fault_count() < kWalks * (kPages / FaultWindow::kMost + 8));
}

TEST_CASE("a walk that goes on where the program has jumped to starts anew", "[fault_window]") {
  FaultWindow window;
  for (const std::uint64_t page : {1000, 9000, 5000, 2000}) window.grow(page, Advice::normal);
  CHECK(window.go_on(7000) == FaultWindow::Span{0, 16});
  CHECK(window.grow(7016, Advice::normal).count == 32);
}
