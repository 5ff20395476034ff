// How much of the swap space one page-in reads.
#include <catch2/catch.hpp>

#include "vmserver/vm/swap_window.h"

using vm::Advice;
using vm::SwapWindow;

TEST_CASE("single pages are read where nothing is used that came along", "[swap_window]") {
  SwapWindow window;
  for (std::uint64_t page : {1000, 5, 700, 300, 9000}) CHECK(window.miss(page, Advice::normal) == 1);
}

TEST_CASE("pages that came along and were touched make the next window larger", "[swap_window]") {
  SwapWindow window;
  CHECK(window.miss(1000, Advice::normal) == 1);
  CHECK(window.miss(1001, Advice::normal) == 2);
  window.hit(1);
  CHECK(window.miss(1003, Advice::normal) == 4);
  window.hit(3);
  CHECK(window.miss(1007, Advice::normal) == 8);
  window.hit(7);
  CHECK(window.miss(1015, Advice::normal) == 16);
  window.hit(100);
  CHECK(window.miss(1031, Advice::normal) == SwapWindow::kMost);
}

TEST_CASE("a page behind others that are there may be one of a walk", "[swap_window]") {
  SwapWindow window;
  CHECK(window.miss(1000, Advice::normal, true) == 2);
  CHECK_FALSE(window.down());
  CHECK(window.miss(5, Advice::normal, false) == 1);
}

TEST_CASE("a window that is not used falls by half at a time", "[swap_window]") {
  SwapWindow window;
  window.hit(100);
  CHECK(window.miss(1000, Advice::normal) == 64);
  CHECK(window.miss(5, Advice::normal) == 32);
  CHECK(window.miss(700, Advice::normal) == 16);
  CHECK(window.miss(300, Advice::normal) == 8);
  CHECK(window.miss(2, Advice::normal) == 4);
  CHECK(window.miss(900, Advice::normal) == 2);
  CHECK(window.miss(10, Advice::normal) == 1);
}

TEST_CASE("a program that walks down is read ahead downwards", "[swap_window]") {
  SwapWindow window;
  (void)window.miss(1000, Advice::normal);
  CHECK_FALSE(window.down());
  CHECK(window.miss(999, Advice::normal) == 2);
  CHECK(window.down());
  window.touched(997);
  CHECK(window.miss(996, Advice::normal) == 2);
  CHECK(window.down());
  (void)window.miss(3, Advice::normal);
  CHECK_FALSE(window.down());
}

TEST_CASE("MADV_RANDOM and MADV_SEQUENTIAL say it at once", "[swap_window]") {
  SwapWindow window;
  CHECK(window.miss(1000, Advice::sequential) == SwapWindow::kMost);
  window.hit(50);
  CHECK(window.miss(1064, Advice::random) == 1);
}
