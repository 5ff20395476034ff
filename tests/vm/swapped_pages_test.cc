#include <catch2/catch.hpp>

#include <map>

#include "tests/vm/test_random.h"
#include "vmserver/vm/swapped_pages.h"

using hal::PageIndex;
using hal::PageRange;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

constexpr std::uint64_t kPages = 64;

VirtualAddress at(std::uint64_t page) { return VirtualAddress(0x1000'0000 + page * hal::kPageSize); }
VirtualRange range(std::uint64_t from, std::uint64_t to) { return {at(from), at(to)}; }

}  // namespace

TEST_CASE("pages that left one behind the other are one run", "[swapped_pages]") {
  vm::SwappedPages pages;
  pages.insert(at(0), PageRange(PageIndex(10), 4));
  pages.insert(at(4), PageRange(PageIndex(14), 4));
  const auto run = pages.run_at(at(2), at(100));
  REQUIRE(run);
  CHECK(run->pages == range(2, 8));
  CHECK(run->slots == PageRange(PageIndex(12), 6));
}

TEST_CASE("a run is cut, moved and forgotten as a model says", "[swapped_pages][random]") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  vm::SwappedPages pages;
  std::map<std::uint64_t, std::uint64_t> model;
  std::uint64_t next_slot = 1;
  for (int step = 0; step < 20000; ++step) {
    const std::uint64_t from = random.below(kPages);
    const std::uint64_t to = from + random.between(1, kPages - from);
    const auto forget = [&](std::uint64_t first, std::uint64_t end) {
      std::map<std::uint64_t, std::uint64_t> told;
      std::uint64_t count = 0;
      pages.erase(range(first, end), [&](PageRange slots) { count += slots.count(); });
      std::uint64_t expected = 0;
      for (std::uint64_t page = first; page < end; ++page) expected += model.erase(page);
      REQUIRE(count == expected);
    };
    switch (random.below(3)) {
      case 0:
        forget(from, to);
        pages.insert(at(from), PageRange(PageIndex(next_slot), to - from));
        for (std::uint64_t page = from; page < to; ++page) model[page] = next_slot++;
        if (random.one_in(3)) ++next_slot;
        break;
      case 1:
        forget(from, to);
        break;
      default: {
        const std::uint64_t target = 1000 + random.below(kPages);
        forget(target, target + (to - from));
        pages.move(range(from, to), at(target));
        for (std::uint64_t page = from; page < to; ++page) {
          const auto node = model.extract(page);
          if (node) model[target + (page - from)] = node.mapped();
        }
      }
    }
    REQUIRE(pages.count() == model.size());
    std::map<std::uint64_t, std::uint64_t> seen;
    pages.for_each_in(range(0, 2000), [&](const vm::SwappedPages::Run& run) {
      REQUIRE(run.pages.pages() == run.slots.count());
      for (std::uint64_t i = 0; i < run.slots.count(); ++i) {
        seen[(run.pages.start() - at(0)) / hal::kPageSize + i] = run.slots.first().value() + i;
      }
    });
    REQUIRE(seen == model);
    const std::uint64_t probe = random.below(kPages);
    REQUIRE(pages.run_at(at(probe), at(5000)).has_value() == model.contains(probe));
  }
}
