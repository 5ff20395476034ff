// VmMap against a model that keeps one record a page.
#include <catch2/catch.hpp>

#include <array>
#include <optional>
#include <string>

#include "tests/vm/test_random.h"
#include "vmserver/vm/vm_map.h"

using hal::Protection;
using hal::VirtualAddress;
using hal::VirtualRange;
using vm::MapEntry;
using vm::Source;
using vm::VmMap;

namespace {

constexpr std::uint64_t kPages = 200;
constexpr std::uint64_t kRoomFirst = 50;  // where mappings go that nobody placed
constexpr std::uint64_t kRoomEnd = 180;

VirtualAddress address(std::uint64_t page) {
  return VirtualAddress((page + 16) << hal::kPageShift);
}
VirtualRange range(std::uint64_t first, std::uint64_t end) { return {address(first), address(end)}; }

struct PageModel {
  std::uint8_t protection = 0;
  bool host = false;
  std::uint64_t number = 0;  // the object's page
  bool operator==(const PageModel&) const = default;
};

class MapModel {
 public:
  MapModel() : map_(range(0, kPages), range(kRoomFirst, kRoomEnd)) {}

  void step(test::Random& random) {
    std::uint64_t first = random.below(kPages);
    std::uint64_t end = random.between(first, std::min(kPages, first + 40));
    switch (step_ = random.below(7)) {
      case 0:
      case 1:
        return insert(first, end, random);
      case 2:
        map_.erase(range(first, end));
        for (std::uint64_t i = first; i < end; ++i) pages_[i].reset();
        return;
      case 3:
        return map_.clip(range(first, end));
      case 4:
        return map_.simplify(range(first, end));
      case 5:
        return set_host(first, end, random);
      default:
        return find_space(random);
    }
  }

  void check(test::Random& random) {
    std::array<std::optional<PageModel>, kPages> seen;
    VirtualAddress last(0);
    std::uint64_t managed = 0;
    for (const MapEntry& entry : map_) {
      const bool ordered = !entry.range.empty() && last <= entry.range.start();
      if (!ordered) FAIL("entries overlap after step " << step_);
      last = entry.range.end();
      if (entry.source != Source::host) managed += entry.range.bytes();
      for (std::uint64_t i = 0; i < entry.range.pages(); ++i) {
        const VirtualAddress at = entry.range.start() + hal::bytes_from_pages(i);
        const std::uint64_t page = (at - address(0)) >> hal::kPageShift;
        // Joined anonymous entries keep the first one's page number; it means nothing there.
        seen[page] = PageModel{entry.protection.bits(), entry.source == Source::host,
                               entry.source == Source::host ? entry.page_at(at).value() : 0};
        if (map_.find(at) != &entry) FAIL("page " << page << " finds another entry");
      }
    }
    for (std::uint64_t page = 0; page < kPages; ++page) {
      if (seen[page] == pages_[page]) continue;
      FAIL("page " << page << " after step " << step_ << ": " << describe(seen[page])
                   << " in the map, " << describe(pages_[page]) << " in the model");
    }
    REQUIRE(map_.managed_bytes() == managed);
    const std::uint64_t first = random.below(kPages);
    const std::uint64_t end = random.between(first, kPages);
    bool covered = true;
    bool free = true;
    for (std::uint64_t i = first; i < end; ++i) (pages_[i] ? free : covered) = false;
    REQUIRE(map_.covers(range(first, end)) == covered);
    if (first < end) REQUIRE(map_.is_free(range(first, end)) == free);
  }

 private:
  void insert(std::uint64_t first, std::uint64_t end, test::Random& random) {
    while (end > first && !is_free(first, end)) --end;
    if (first == end) return;
    auto entry = std::make_unique<MapEntry>();
    entry->range = range(first, end);
    entry->protection = Protection(static_cast<std::uint8_t>(random.below(2)));
    for (std::uint64_t i = first; i < end; ++i) pages_[i] = {entry->protection.bits(), false, 0};
    map_.insert(std::move(entry));
  }

  bool is_free(std::uint64_t first, std::uint64_t end) const {
    for (std::uint64_t i = first; i < end; ++i) {
      if (pages_[i]) return false;
    }
    return true;
  }

  // What is managed there stays.
  void set_host(std::uint64_t first, std::uint64_t end, test::Random& random) {
    if (first == end) return;
    std::vector<hal::HostMapping> mappings;
    for (std::uint64_t at = first; at < end;) {
      const std::uint64_t stop = random.between(at, end);
      if (stop > at && !random.one_in(3)) {
        hal::HostMapping mapping;
        mapping.range = range(at, stop);
        mapping.offset = hal::bytes_from_pages(at);
        mapping.protection = Protection(static_cast<std::uint8_t>(random.below(8)));
        mappings.push_back(mapping);
      }
      at = std::max(stop, at + 1);
    }
    // A picture of a range replaces host entries that reach out of it as a whole.
    map_.clip(range(first, end));
    map_.set_host(range(first, end), mappings);
    for (std::uint64_t i = first; i < end; ++i) {
      if (pages_[i] && pages_[i]->host) pages_[i].reset();
    }
    for (const hal::HostMapping& mapping : mappings) {
      for (std::uint64_t i = 0; i < mapping.range.pages(); ++i) {
        const std::uint64_t page = (mapping.offset >> hal::kPageShift) + i;
        if (!pages_[page]) pages_[page] = {mapping.protection.bits(), true, page};
      }
    }
  }

  void find_space(test::Random& random) {
    const std::uint64_t count = random.between(1, 60);
    std::optional<VirtualRange> expected;
    const std::uint64_t hint = random.one_in(2) ? 0 : random.between(kRoomFirst, kRoomEnd - 1);
    const auto search = [&](std::uint64_t from) {
      for (std::uint64_t at = from; !expected && at + count <= kRoomEnd; ++at) {
        if (is_free(at, at + count)) expected = range(at, at + count);
      }
    };
    if (hint != 0) search(hint);
    if (!expected) search(kRoomFirst);
    REQUIRE(map_.find_space(hal::bytes_from_pages(count),
                            hint == 0 ? VirtualAddress(0) : address(hint)) == expected);
  }

  static std::string describe(const std::optional<PageModel>& page) {
    if (!page) return "free";
    return (page->host ? "host " : "managed ") + std::to_string(page->protection) + " page " +
           std::to_string(page->number);
  }

  std::uint64_t step_ = 0;  // the last one, for messages
  VmMap map_;
  std::array<std::optional<PageModel>, kPages> pages_;
};

}  // namespace

TEST_CASE("the map agrees with one record a page", "[vm_map][random]") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  for (int round = 0; round < 20; ++round) {
    MapModel model;
    for (int i = 0; i < 1000; ++i) {
      model.step(random);
      model.check(random);
    }
  }
}
