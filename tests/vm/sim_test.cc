// The simulated hardware itself: its page table, and that it refuses what a host would.
#include <catch2/catch.hpp>

#include <cerrno>
#include <map>

#include "hal/sim/sim_cpu.h"
#include "tests/vm/test_random.h"

using namespace hal;

namespace {

VirtualRange range(std::uint64_t start, std::uint64_t pages) {
  return {VirtualAddress(start), VirtualAddress(start + pages * kPageSize)};
}

constexpr std::uint64_t kBase = 0x7000'0000'0000;

struct Fixture {
  std::shared_ptr<SimMemory> memory = std::make_shared<SimMemory>();
  SimPmap pmap{memory};
  std::shared_ptr<SimBacking> backing = std::make_shared<SimBacking>(memory, "test", 16);

  int apply(Step::Kind kind, VirtualRange where) {
    Plan plan;
    plan.add(kind, where);
    return pmap.apply(plan);
  }
  int map(VirtualRange where, Sharing sharing, Protection protection) {
    Plan plan;
    Step& step = plan.add(Step::Kind::map_backing, where);
    step.backing = backing;
    step.sharing = sharing;
    plan.protect(where, protection);
    return pmap.apply(plan);
  }
  // Faults go nowhere.
  SimCpu cpu{pmap, [](VirtualAddress, bool) {}, [] { return false; }};

  SimResult store(std::uint64_t address, unsigned char value) {
    const std::byte byte{value};
    return cpu.write(VirtualAddress(address), std::span(&byte, 1));
  }
  int load(std::uint64_t address) {
    std::byte byte{};
    const SimResult result = cpu.read(VirtualAddress(address), std::span(&byte, 1));
    return result == SimResult::done ? static_cast<int>(byte) : -1;
  }
};

const Protection kReadWrite = Protection::read() | Protection::write();

}  // namespace

TEST_CASE("a page table finds what was entered, across all of its levels", "[sim]") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  SimPageTable table;
  std::map<std::uint64_t, SimFramePointer> model;
  for (int i = 0; i < 5000; ++i) {
    // Close together and far apart.
    const std::uint64_t page = (random.below(4) << 30) + random.below(3000);
    const VirtualAddress address(page << kPageShift);
    if (random.one_in(4)) {
      const std::uint64_t count = random.between(1, 700);
      table.erase({address, address + count * kPageSize});
      model.erase(model.lower_bound(page), model.lower_bound(page + count));
    } else {
      table.entry(address).frame = model[page] = std::make_shared<SimFrame>();
    }
  }
  auto expected = model.begin();
  table.for_each({VirtualAddress(0), VirtualAddress(std::uint64_t{1} << 47)},
                 [&](VirtualAddress address, SimPage& page) {
                   REQUIRE(expected != model.end());
                   CHECK(address.value() >> kPageShift == expected->first);
                   CHECK(page.frame == expected->second);
                   CHECK(table.find(address) == &page);
                   ++expected;
                 });
  CHECK(expected == model.end());
  table.erase({VirtualAddress(0), VirtualAddress(std::uint64_t{1} << 47)});
  CHECK(table.table_count() == 1);
}

TEST_CASE("a claim is refused where something is, a replacement is not", "[sim]") {
  Fixture f;
  CHECK(f.apply(Step::Kind::claim, range(kBase, 4)) == 0);
  CHECK(f.apply(Step::Kind::claim, range(kBase + 3 * kPageSize, 4)) == EEXIST);
  CHECK(f.apply(Step::Kind::replace, range(kBase + 3 * kPageSize, 4)) == 0);
}

TEST_CASE("protecting or locking a hole is refused", "[sim]") {
  Fixture f;
  CHECK(f.apply(Step::Kind::claim, range(kBase, 4)) == 0);
  CHECK(f.apply(Step::Kind::protect, range(kBase, 5)) == ENOMEM);
  CHECK(f.apply(Step::Kind::lock, range(kBase, 5)) == ENOMEM);
  CHECK(f.apply(Step::Kind::lock, range(kBase, 4)) == ENOMEM);  // inaccessible
}

TEST_CASE("a step that fails ends the plan", "[sim]") {
  Fixture f;
  Plan plan;
  plan.add(Step::Kind::claim, range(kBase, 2));
  plan.protect(range(kBase, 3), kReadWrite);
  plan.add(Step::Kind::give_back, range(kBase, 2));
  CHECK(f.pmap.apply(plan) == ENOMEM);
  CHECK(f.pmap.regions(range(kBase, 4)).size() == 1);
}

TEST_CASE("resident pages of a backing are mapped without the server", "[sim]") {
  Fixture f;
  const std::byte content[] = {std::byte{42}};
  REQUIRE(f.backing->write(PageIndex(1), content));
  CHECK_FALSE(f.backing->write(PageIndex(1), content));
  CHECK_FALSE(f.backing->write(PageIndex(16), content));
  REQUIRE(f.map(range(kBase, 20), Sharing::shared_tracked, kReadWrite) == 0);
  CHECK(f.load(kBase + kPageSize) == 42);
  std::byte byte{};
  CHECK(f.cpu.read(VirtualAddress(kBase), std::span(&byte, 1)) == SimResult::stuck);
  CHECK(f.cpu.read(VirtualAddress(kBase + 16 * kPageSize), std::span(&byte, 1)) ==
        SimResult::bus_error);
}

TEST_CASE("written pages are told once, as runs", "[sim]") {
  Fixture f;
  f.backing->zero_fill({PageIndex(0), 16});
  REQUIRE(f.map(range(kBase, 16), Sharing::shared_tracked, kReadWrite) == 0);
  for (std::uint64_t page : {1, 2, 7}) f.store(kBase + page * kPageSize, 1);
  f.load(kBase + 5 * kPageSize);
  std::vector<VirtualRange> runs;
  const auto sink = [&](VirtualRange run) { runs.push_back(run); };
  CHECK(f.pmap.collect_written(range(kBase, 16), sink));
  CHECK(runs == std::vector{range(kBase + kPageSize, 2), range(kBase + 7 * kPageSize, 1)});
  runs.clear();
  CHECK(f.pmap.collect_written(range(kBase, 16), sink));
  CHECK(runs.empty());
  f.pmap.kill();
  CHECK_FALSE(f.pmap.collect_written(range(kBase, 16), sink));
}

TEST_CASE("what a backing drops goes from page tables; private copies only past its end",
          "[sim]") {
  Fixture f;
  f.backing->zero_fill({PageIndex(0), 16});
  REQUIRE(f.map(range(kBase, 16), Sharing::copy_on_write, kReadWrite) == 0);
  f.store(kBase, 9);
  f.store(kBase + 8 * kPageSize, 9);
  f.load(kBase + kPageSize);
  f.backing->discard({PageIndex(0), 16});
  CHECK(f.load(kBase) == 9);
  CHECK(f.load(kBase + kPageSize) == -1);
  f.backing->resize(8);
  CHECK(f.load(kBase) == 9);
  CHECK(f.load(kBase + 8 * kPageSize) == -1);
  CHECK(f.backing->next_absent({PageIndex(0), 16}) == PageRange(PageIndex(0), 8));
}

TEST_CASE("zero pages are entered up to the first that is there", "[sim]") {
  Fixture f;
  REQUIRE(f.apply(Step::Kind::claim, range(kBase, 8)) == 0);
  CHECK(f.pmap.enter_zero(range(kBase + 4 * kPageSize, 1), false).pages == 1);
  const auto entered = f.pmap.enter_zero(range(kBase, 8), true);
  CHECK(entered.pages == 4);
  CHECK(entered.outcome == Pmap::Outcome::entered);
  CHECK(f.pmap.enter_zero(range(kBase, 8), true).pages == 0);
  CHECK(f.pmap.enter_zero(range(kBase + 100 * kPageSize, 1), true).outcome ==
        Pmap::Outcome::retry);
  f.pmap.kill();
  CHECK(f.pmap.enter_zero(range(kBase, 1), true).outcome == Pmap::Outcome::gone);
}

TEST_CASE("absent and resident runs of a backing", "[sim]") {
  Fixture f;
  f.backing->zero_fill({PageIndex(2), 3});
  f.backing->zero_fill({PageIndex(10), 100});
  CHECK(f.backing->resident_pages() == 9);
  CHECK(f.backing->next_absent({PageIndex(0), 16}) == PageRange(PageIndex(0), 2));
  CHECK(f.backing->next_absent({PageIndex(3), 13}) == PageRange(PageIndex(5), 5));
  CHECK(f.backing->next_absent({PageIndex(11), 100}).empty());
  CHECK(f.backing->next_resident({PageIndex(0), 4}) == PageRange(PageIndex(2), 2));
  CHECK(f.backing->next_resident({PageIndex(5), 5}).empty());
  CHECK(f.backing->next_resident({PageIndex(5), 100}) == PageRange(PageIndex(10), 6));
}
