// Which mappings the shim brings in whole.
#include "libshim/fill_history.h"

#include <catch2/catch.hpp>
#include <set>

using shim::FillHistory;

namespace {

constexpr std::uint64_t kArena = 1 << 20;
constexpr std::uint64_t kAt = 0x110000000000;

std::set<std::uint64_t> full;
bool is_full(std::uint64_t start, std::uint64_t) { return full.contains(start); }

/// A program that maps, uses and perhaps unmaps.
struct Fixture {
  FillHistory history{is_full};
  std::uint64_t at = kAt;

  Fixture() { full.clear(); }
  /// Whether the mapping was brought in whole.
  bool map(bool fills, std::uint64_t bytes = kArena) {
    const bool whole = history.expects(bytes);
    history.mapped(at, bytes, whole);
    if (fills) full.insert(at);
    at += bytes;
    return whole;
  }
};

}  // namespace

TEST_CASE("after two mappings of a size that were filled the next come whole, but each eighth",
          "[fill_history]") {
  Fixture f;
  CHECK_FALSE(f.map(true));
  CHECK_FALSE(f.map(true));
  for (unsigned round = 0; round < 3; ++round) {
    for (unsigned i = 1; i < FillHistory::kEach; ++i) CHECK(f.map(true));
    CHECK_FALSE(f.map(true));
  }
}

TEST_CASE("a mapping that is not filled starts the count anew", "[fill_history]") {
  Fixture f;
  CHECK_FALSE(f.map(true));
  CHECK_FALSE(f.map(false));
  CHECK_FALSE(f.map(true));
  CHECK_FALSE(f.map(true));
  for (unsigned i = 1; i < FillHistory::kEach; ++i) CHECK(f.map(true));
  // This one is left to its faults, and tells that the program does something else now.
  CHECK_FALSE(f.map(false));
  CHECK_FALSE(f.map(false));
}

TEST_CASE("a mapping is looked at before it goes, or a part of it", "[fill_history]") {
  Fixture f;
  CHECK_FALSE(f.map(true));
  f.history.unmapping(f.at - kArena, kArena);
  full.clear();
  CHECK_FALSE(f.map(true));
  f.history.unmapping(f.at - 4096, 4096);
  full.clear();
  CHECK(f.map(true));
}

TEST_CASE("what is unmapped beside it tells nothing", "[fill_history]") {
  Fixture f;
  CHECK_FALSE(f.map(false));
  f.history.unmapping(f.at, kArena);
  f.history.unmapping(f.at - kArena - 4096, 4096);
  full.insert(f.at - kArena);
  CHECK_FALSE(f.map(true));
  CHECK(f.map(true));
}

TEST_CASE("sizes do not mix, and the oldest of too many is forgotten", "[fill_history]") {
  Fixture f;
  for (unsigned i = 0; i < 3; ++i) {
    f.map(true, kArena);
    f.map(true, 2 * kArena);
    CHECK_FALSE(f.map(false, 3 * kArena));
  }
  CHECK(f.map(true, kArena));
  CHECK(f.map(true, 2 * kArena));
  for (std::uint64_t size = 4; size < 8; ++size) f.map(true, size * kArena);
  CHECK_FALSE(f.map(true, kArena));
}
