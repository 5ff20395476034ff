#include <catch2/catch.hpp>

#include "tests/vm/test_machine.h"
#include "vmserver/vm/vm_map.h"

using hal::Protection;
using hal::VirtualAddress;
using hal::VirtualRange;
using vm::MapEntry;
using vm::Source;
using vm::VmMap;

namespace {

constexpr std::uint64_t kBase = 0x100'0000;  // of the room for mappings, in pages 0x1000

VirtualRange range(std::uint64_t first, std::uint64_t pages) {
  const VirtualAddress start(kBase + first * hal::kPageSize);
  return {start, start + pages * hal::kPageSize};
}

struct Fixture {
  VmMap map{VirtualRange(VirtualAddress(0x1000), VirtualAddress(0x8000'0000)), range(0, 100)};

  MapEntry& add(std::uint64_t first, std::uint64_t pages,
                Protection protection = Protection::read()) {
    auto entry = std::make_unique<MapEntry>();
    entry->range = range(first, pages);
    entry->page = hal::PageIndex(first);
    entry->protection = protection;
    return map.insert(std::move(entry));
  }
  std::vector<VirtualRange> ranges() {
    std::vector<VirtualRange> result;
    for (const MapEntry& entry : map) result.push_back(entry.range);
    return result;
  }
};

hal::HostMapping host(VirtualRange where, const char* path = "/lib") {
  hal::HostMapping mapping;
  mapping.range = where;
  mapping.protection = Protection::read();
  mapping.path = path;
  return mapping;
}

}  // namespace

TEST_CASE("an entry is found by every address inside it and by none outside", "[vm_map]") {
  Fixture f;
  f.add(10, 3);
  CHECK(f.map.find(range(10, 1).start()) != nullptr);
  CHECK(f.map.find(range(12, 1).start() + 4095) != nullptr);
  CHECK(f.map.find(range(13, 1).start()) == nullptr);
  CHECK(f.map.find(range(9, 1).start() + 4095) == nullptr);
  CHECK(f.map.managed_bytes() == 3 * hal::kPageSize);
}

TEST_CASE("clip cuts at both ends, and the object's page follows", "[vm_map]") {
  Fixture f;
  f.add(10, 10);
  f.map.clip(range(13, 4));
  REQUIRE(f.ranges() == std::vector{range(10, 3), range(13, 4), range(17, 3)});
  CHECK(f.map.find(range(13, 1).start())->page == hal::PageIndex(13));
  CHECK(f.map.find(range(17, 1).start())->page == hal::PageIndex(17));
  CHECK(f.map.managed_bytes() == 10 * hal::kPageSize);
  f.map.clip(range(13, 4));
  CHECK(f.map.entry_count() == 3);
  f.map.clip(range(11, 0));
  CHECK(f.map.entry_count() == 3);
}

TEST_CASE("erase takes out the range and nothing else", "[vm_map]") {
  Fixture f;
  f.add(10, 10);
  f.add(20, 5);
  f.map.erase(range(15, 7));
  CHECK(f.ranges() == std::vector{range(10, 5), range(22, 3)});
  CHECK(f.map.managed_bytes() == 8 * hal::kPageSize);
  f.map.erase(range(0, 100));
  CHECK(f.map.entry_count() == 0);
  CHECK(f.map.managed_bytes() == 0);
}

TEST_CASE("covers means without a hole; nothing is always covered", "[vm_map]") {
  Fixture f;
  f.add(10, 5);
  f.add(15, 5);
  f.add(21, 5);
  CHECK(f.map.covers(range(10, 10)));
  CHECK(f.map.covers(range(12, 6)));
  CHECK_FALSE(f.map.covers(range(12, 10)));
  CHECK_FALSE(f.map.covers(range(9, 2)));
  CHECK_FALSE(f.map.covers(range(24, 3)));
  CHECK(f.map.covers(range(50, 0)));
}

TEST_CASE("is_free means that no entry is in the range", "[vm_map]") {
  Fixture f;
  f.add(10, 5);
  CHECK(f.map.is_free(range(5, 5)));
  CHECK(f.map.is_free(range(15, 5)));
  CHECK_FALSE(f.map.is_free(range(14, 5)));
  CHECK_FALSE(f.map.is_free(range(0, 50)));
}

TEST_CASE("visiting a range meets the entries that overlap it, by address", "[vm_map]") {
  Fixture f;
  f.add(20, 5);
  f.add(10, 5);
  f.add(30, 5);
  std::vector<VirtualRange> met;
  f.map.for_each_in(range(14, 10), [&](MapEntry& entry) { met.push_back(entry.range); });
  CHECK(met == std::vector{range(10, 5), range(20, 5)});
}

TEST_CASE("an empty range overlaps nothing, even inside an entry", "[vm_map]") {
  Fixture f;
  f.add(10, 5);
  f.map.for_each_in(range(12, 0), [](MapEntry&) { FAIL_CHECK("visited"); });
  f.map.erase(range(12, 0));
  CHECK(f.map.is_free(range(12, 0)));
  CHECK(f.ranges() == std::vector{range(10, 5)});
}

TEST_CASE("simplify joins neighbours that are alike", "[vm_map]") {
  Fixture f;
  f.add(10, 2);
  f.add(12, 2);
  f.add(14, 2, Protection::all());
  f.add(16, 2);
  f.add(19, 2);
  f.map.simplify(range(12, 1));
  CHECK(f.ranges() ==
        std::vector{range(10, 4), range(14, 2), range(16, 2), range(19, 2)});
  CHECK(f.map.managed_bytes() == 10 * hal::kPageSize);
  f.map.find(range(14, 1).start())->protection = Protection::read();
  f.map.simplify(range(14, 2));
  CHECK(f.ranges() == std::vector{range(10, 8), range(19, 2)});
}

TEST_CASE("room is found first fit from the start of the server's room", "[vm_map]") {
  Fixture f;
  CHECK(f.map.find_space(4 * hal::kPageSize, VirtualAddress(0)) == range(0, 4));
  f.add(0, 10);
  f.add(12, 3);
  CHECK(f.map.find_space(2 * hal::kPageSize, VirtualAddress(0)) == range(10, 2));
  CHECK(f.map.find_space(3 * hal::kPageSize, VirtualAddress(0)) == range(15, 3));
  CHECK(f.map.find_space(85 * hal::kPageSize, VirtualAddress(0)) == range(15, 85));
  CHECK_FALSE(f.map.find_space(86 * hal::kPageSize, VirtualAddress(0)));
  CHECK_FALSE(f.map.find_space(0, VirtualAddress(0)));
  CHECK_FALSE(f.map.find_space(~std::uint64_t{0} - 4095, VirtualAddress(0)));
}

TEST_CASE("a hint is taken at the place or above it, or else anywhere", "[vm_map]") {
  Fixture f;
  f.add(50, 10);
  CHECK(f.map.find_space(5 * hal::kPageSize, range(20, 1).start()) == range(20, 5));
  CHECK(f.map.find_space(5 * hal::kPageSize, range(48, 1).start()) == range(60, 5));
  CHECK(f.map.find_space(50 * hal::kPageSize, range(60, 1).start()) == range(0, 50));
  CHECK(f.map.find_space(5 * hal::kPageSize, VirtualAddress(0x1000)) == range(0, 5));
}

TEST_CASE("room that was given back is found again", "[vm_map]") {
  Fixture f;
  f.add(0, 100);
  CHECK_FALSE(f.map.find_space(hal::kPageSize, VirtualAddress(0)));
  f.map.erase(range(40, 2));
  f.map.erase(range(20, 1));
  CHECK(f.map.find_space(hal::kPageSize, VirtualAddress(0)) == range(20, 1));
  CHECK(f.map.find_space(2 * hal::kPageSize, VirtualAddress(0)) == range(40, 2));
}

TEST_CASE("room behind something that reaches into the place of mappings is found again",
          "[vm_map]") {
  VmMap map(VirtualRange(VirtualAddress(0x1000), VirtualAddress(0x8000'0000)), range(0, 10));
  map.set_host(range(0, 10), {host(VirtualRange(range(0, 1).start() - 0x4000, range(4, 1).start()))});
  CHECK(map.find_space(10 * hal::kPageSize, VirtualAddress(0)) == std::nullopt);
  map.set_host(range(0, 10), {});
  CHECK(map.find_space(10 * hal::kPageSize, VirtualAddress(0)) == range(0, 10));
}

TEST_CASE("the picture of the host's mappings is taken anew, around managed entries",
          "[vm_map]") {
  const VirtualRange bounds(VirtualAddress(0x1000), VirtualAddress(0x8000'0000));
  VmMap map(bounds, range(0, 100));
  auto entry = std::make_unique<MapEntry>();
  entry->range = range(5, 2);
  map.insert(std::move(entry));
  const std::uint64_t managed = map.managed_bytes();

  map.set_host(bounds, {host(range(0, 10)), host(range(20, 5))});
  std::vector<VirtualRange> hosts;
  for (const MapEntry& e : map) {
    if (e.source == Source::host) hosts.push_back(e.range);
  }
  CHECK(hosts == std::vector{range(0, 5), range(7, 3), range(20, 5)});
  CHECK(map.find(range(8, 1).start())->page == hal::PageIndex(7));
  CHECK(map.managed_bytes() == managed);

  map.set_host(range(0, 15), {host(range(1, 2))});
  hosts.clear();
  for (const MapEntry& e : map) {
    if (e.source == Source::host) hosts.push_back(e.range);
  }
  CHECK(hosts == std::vector{range(1, 2), range(20, 5)});
  CHECK(map.find(range(5, 1).start())->source == Source::anonymous);
}

