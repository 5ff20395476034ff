#include "pagers/anon/sector_map.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "tests/vm/test_random.h"

using pager::SectorMap;
using pager::SectorRun;

namespace {

constexpr std::uint64_t kBlock = SectorMap::kBlockSectors;

SectorRun take(SectorMap& map, std::uint64_t wanted, std::uint64_t least) {
  const SectorRun run = map.find(wanted, least);
  if (!run.empty()) map.take(run);
  return run;
}

void offer_all(SectorMap& map) {
  for (SectorRun run = map.next_emptied(); !run.empty(); run = map.next_emptied()) map.offer(run);
}

}  // namespace

TEST_CASE("sectors that are free are found, and those in use never") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  constexpr std::uint64_t kLimit = 20 * kBlock + 48;
  SectorMap map(kLimit);
  std::vector<bool> used(kLimit);
  std::vector<SectorRun> runs;
  const auto mark = [&](SectorRun run, bool as) {
    for (std::uint64_t at = run.first; at < run.end(); ++at) {
      REQUIRE(used.at(at) != as);
      used[at] = as;
    }
  };
  for (int step = 0; step < 20000; ++step) {
    if (random.below(100) < 52) {
      const std::uint64_t wanted =
          random.one_in(4) ? random.between(1, 4 * kBlock) : random.between(1, 40);
      const std::uint64_t least = std::min({wanted, kBlock, random.between(1, kBlock)});
      const SectorRun run = take(map, wanted, least);
      if (!run.empty()) {
        REQUIRE(run.count >= least);
        REQUIRE(run.count <= wanted);
        mark(run, true);
        runs.push_back(run);
      } else {
        // A whole block would have been found, and so would a page in one block.
        for (std::uint64_t first = 0; first < kLimit; first += kBlock) {
          const auto begin = used.begin() + static_cast<std::ptrdiff_t>(first);
          const auto end =
              used.begin() + static_cast<std::ptrdiff_t>(std::min(first + kBlock, kLimit));
          if (least <= 8)
            REQUIRE(std::search_n(begin, end, static_cast<long>(least), false) == end);
          if (end - begin == static_cast<long>(kBlock)) REQUIRE(std::count(begin, end, true) > 0);
        }
      }
    } else if (!runs.empty()) {
      const std::uint64_t at = random.below(runs.size());
      SectorRun run = runs[at];
      if (run.count > 1 && random.one_in(3)) {
        // Only the start of it.
        const std::uint64_t part = random.between(1, run.count - 1);
        runs[at] = {run.first + part, run.count - part};
        run.count = part;
      } else {
        runs.erase(runs.begin() + static_cast<std::ptrdiff_t>(at));
      }
      mark(run, false);
      map.release(run);
      if (random.one_in(2)) offer_all(map);
    }
    REQUIRE(map.used() == static_cast<std::uint64_t>(std::count(used.begin(), used.end(), true)));
  }
  for (const SectorRun run : runs) map.release(run);
  offer_all(map);
  CHECK(map.used() == 0);
  CHECK(map.find(kLimit, kBlock).count == 20 * kBlock);
}

TEST_CASE("a block that became free is held back until its space was given back") {
  SectorMap map(2 * kBlock);
  const SectorRun all = take(map, 2 * kBlock, kBlock);
  REQUIRE(all == SectorRun{0, 2 * kBlock});
  map.release({0, kBlock});
  const SectorRun emptied = map.next_emptied();
  CHECK(emptied == SectorRun{0, kBlock});
  CHECK(map.holds_back());
  CHECK(map.find(8, 8).empty());
  map.release({kBlock, 8});
  CHECK(map.find(16, 1) == SectorRun{kBlock, 8});
  map.offer(emptied);
  CHECK_FALSE(map.holds_back());
  CHECK(map.find(kBlock, kBlock) == SectorRun{0, kBlock});
}

TEST_CASE("only whole free blocks are given back, each once, neighbours together") {
  SectorMap map(16 * kBlock);
  REQUIRE(take(map, 8 * kBlock, kBlock).count == 8 * kBlock);
  for (std::uint64_t page = 1; page < 8 * kBlock / 8; ++page) map.release({page * 8, 8});
  CHECK(map.next_emptied() == SectorRun{kBlock, 7 * kBlock});
  CHECK(map.next_emptied().empty());
  map.release({0, 8});
  CHECK(map.next_emptied() == SectorRun{0, kBlock});
  CHECK(map.next_emptied().empty());
}

TEST_CASE("small runs fill blocks that are in use before a free one is begun") {
  SectorMap map(4 * kBlock);
  REQUIRE(take(map, 8, 8) == SectorRun{0, 8});
  for (std::uint64_t page = 1; page < kBlock / 8; ++page)
    REQUIRE(take(map, 8, 8) == SectorRun{page * 8, 8});
  REQUIRE(take(map, 8, 8) == SectorRun{kBlock, 8});
}
