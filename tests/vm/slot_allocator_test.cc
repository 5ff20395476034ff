// Which slots of the swap space are handed out.
#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <vector>

#include "tests/vm/test_random.h"
#include "vmserver/vm/slot_allocator.h"

using hal::PageIndex;
using hal::PageRange;
using vm::SlotAllocator;

namespace {

constexpr std::uint64_t kMost = 1 << 20;

/// `pages` slots, in as many runs as it takes.
std::vector<PageRange> take_all(SlotAllocator& allocator, std::uint64_t pages) {
  std::vector<PageRange> runs;
  while (pages != 0) {
    const PageRange run = allocator.take(pages);
    REQUIRE_FALSE(run.empty());
    REQUIRE(run.count() <= pages);
    runs.push_back(run);
    pages -= run.count();
  }
  return runs;
}

}  // namespace

TEST_CASE("slots that are taken one after the other lie one behind the other", "[slots]") {
  SlotAllocator allocator(kMost);
  PageIndex next(0);
  for (const std::uint64_t pages : {1, 3, 16, 64, 7, 200}) {
    for (const PageRange run : take_all(allocator, pages)) {
      CHECK(run.first() == next);
      next = run.end();
    }
  }
}

TEST_CASE("a cluster is used again once all of it is free", "[slots]") {
  SlotAllocator allocator(kMost);
  const PageRange first = allocator.take(64);
  const PageRange second = allocator.take(64);
  (void)allocator.take(10);
  allocator.give(PageRange(second.first(), 63));
  CHECK(allocator.take(64).first() == second.end() + 10);
  allocator.give(PageRange(second.first() + 63, 1));
  CHECK(allocator.take(64) == second);
  allocator.give(first);
  CHECK(allocator.take(64) == first);
}

TEST_CASE("gaps are filled before there are too many slots", "[slots]") {
  SlotAllocator allocator(kMost);
  // Of every 64 slots one stays in use.
  for (int i = 0; i < 1000; ++i) {
    std::vector<PageRange> runs = take_all(allocator, 64);
    runs.front() = PageRange(runs.front().first() + 1, runs.front().count() - 1);
    for (const PageRange run : runs) allocator.give(run);
  }
  CHECK(allocator.in_use() == 1000);
  CHECK(allocator.end().value() <= 4 * (1000 + 64) + 4096 + 64);
}

TEST_CASE("all slots can be had, and no more", "[slots]") {
  SlotAllocator allocator(256);
  std::uint64_t taken = 0;
  for (PageRange run = allocator.take(1000); !run.empty(); run = allocator.take(1000)) {
    taken += run.count();
  }
  CHECK(taken == 256);
  allocator.give(PageRange(PageIndex(77), 1));
  CHECK(allocator.take(5) == PageRange(PageIndex(77), 1));
  CHECK(allocator.take(1).empty());
}

TEST_CASE("no slot is handed out twice", "[slots][random]") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  SlotAllocator allocator(4096);
  std::map<std::uint64_t, std::uint64_t> held;  // first slot: how many
  std::vector<bool> in_use(4096);
  for (int step = 0; step < 20'000; ++step) {
    if (random.below(100) < 52) {
      const PageRange run = allocator.take(random.between(1, 80));
      for (PageIndex at = run.first(); at < run.end(); at = at + 1) {
        REQUIRE_FALSE(in_use[at.value()]);
        in_use[at.value()] = true;
      }
      if (!run.empty()) held.emplace(run.first().value(), run.count());
    } else if (!held.empty()) {
      auto it = held.lower_bound(random.below(4096));
      if (it == held.end()) it = held.begin();
      const std::uint64_t given = random.between(1, it->second);
      const PageRange run(PageIndex(it->first), given);
      for (PageIndex at = run.first(); at < run.end(); at = at + 1) in_use[at.value()] = false;
      allocator.give(run);
      if (given < it->second) held.emplace(it->first + given, it->second - given);
      held.erase(it);
    }
    REQUIRE(allocator.in_use() == static_cast<std::uint64_t>(
                                      std::count(in_use.begin(), in_use.end(), true)));
  }
}
