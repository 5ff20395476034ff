#include "vmserver/rpc/page_set.h"

#include <catch2/catch.hpp>
#include <random>
#include <vector>

using hal::PageIndex;
using hal::PageRange;

TEST_CASE("a PageSet answers like a plain list of pages") {
  constexpr std::uint64_t kPages = 64;
  std::mt19937 random(3);
  server::PageSet set;
  std::vector<bool> plain(kPages, false);
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t first = random() % kPages;
    const PageRange range(PageIndex(first), random() % (kPages - first + 1));
    const bool add = random() % 2 == 0;
    if (add) {
      set.add(range);
    } else {
      set.remove(range);
    }
    for (std::uint64_t i = 0; i < range.count(); ++i) plain[first + i] = add;

    const std::uint64_t from = random() % kPages;
    const PageRange within(PageIndex(from), random() % (kPages - from + 1));
    std::vector<bool> inside(kPages, false);
    std::vector<bool> outside(kPages, false);
    for (const PageRange run : set.inside(within))
      for (std::uint64_t i = 0; i < run.count(); ++i) inside[run.first().value() + i] = true;
    for (const PageRange run : set.outside(within))
      for (std::uint64_t i = 0; i < run.count(); ++i) outside[run.first().value() + i] = true;
    std::uint64_t count = 0;
    for (std::uint64_t page = 0; page < kPages; ++page) {
      const bool asked = within.contains(PageIndex(page));
      REQUIRE(inside[page] == (asked && plain[page]));
      REQUIRE(outside[page] == (asked && !plain[page]));
      count += plain[page] ? 1 : 0;
    }
    REQUIRE(set.count() == count);
  }
}
