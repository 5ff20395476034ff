// What stays mapped after a program has unmapped it.
#include "libshim/kept_memory.h"

#include <catch2/catch.hpp>

using shim::FaultCount;
using shim::KeptMemory;

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kBuffer = 16 * kPage;
constexpr std::uint64_t kAt = 0x110000000000;

/// A program that maps memory at the start of its lease, touches some, and unmaps it again.
struct Fixture {
  KeptMemory kept;
  FaultCount faults;
  bool reserves = true;
  std::uint64_t lease = kAt;
  KeptMemory::Pages pages = 0;  // brought with the last mapping

  void fault(std::uint64_t page) {
    ++faults.begun;
    ++faults.ended;
    faults.last = page;
  }
  /// Whether it was made of what is kept.
  bool map(std::uint64_t bytes = kBuffer) {
    const bool taken = kept.offers(lease, bytes, reserves, pages);
    if (taken) {
      kept.take(lease, bytes);
    } else {
      pages = 0;
      kept.let_go();
    }
    kept.mapped(lease, bytes, reserves, faults);
    lease += bytes;
    return taken;
  }
  /// Whether it is kept.
  bool unmap(std::uint64_t bytes = kBuffer) {
    lease -= bytes;
    return kept.returns(lease, bytes, faults) && kept.keep(lease, bytes, faults);
  }
  /// As often as it takes for the next to be kept.
  void settle(std::uint64_t bytes = kBuffer) {
    for (unsigned i = 1; i < KeptMemory::kReturns; ++i) {
      CHECK_FALSE(map(bytes));
      CHECK_FALSE(unmap(bytes));
    }
  }
};

}  // namespace

TEST_CASE("what has been unmapped as it was mapped some times is kept, and is what is mapped next",
          "[kept_memory]") {
  Fixture f;
  f.settle();
  CHECK_FALSE(f.map());
  CHECK(f.unmap());
  CHECK(f.kept.start() == kAt);
  CHECK(f.kept.end() == kAt + kBuffer);
  for (unsigned round = 0; round < 3; ++round) {
    CHECK(f.map());
    CHECK(f.pages == 0);
    CHECK(f.kept.end() == 0);
    CHECK(f.unmap());
  }
}

TEST_CASE("a page at which a mapping of kept memory had a fault comes with the next", "[kept_memory]") {
  Fixture f;
  f.settle();
  CHECK_FALSE(f.map());
  CHECK(f.unmap());
  CHECK(f.map());
  f.fault(kAt + 3 * kPage);
  // Whatever the fault brought may still be on its way.
  CHECK_FALSE(f.unmap());
  CHECK_FALSE(f.map());
  CHECK(f.unmap());
  CHECK(f.map());
  CHECK(f.pages == KeptMemory::Pages{1} << 3);
  CHECK(f.unmap());
  CHECK(f.map());
}

TEST_CASE("memory of which many pages are touched is kept no longer, and tried more and more rarely",
          "[kept_memory]") {
  Fixture f;
  const auto mappings_until_kept = [&] {
    unsigned count = 0;
    do {
      CHECK_FALSE(f.map());
      ++count;
    } while (!f.unmap());
    return count;
  };
  const auto use_up = [&] {
    for (unsigned page = 0;; ++page) {
      CHECK(f.map());
      f.fault(kAt + page * kPage);
      CHECK_FALSE(f.unmap());
      if (page == KeptMemory::kMostTouched) return;
      CHECK(mappings_until_kept() == 1);
    }
  };
  unsigned needed = KeptMemory::kReturns;
  for (unsigned round = 0; round < 10; ++round) {
    CHECK(mappings_until_kept() == needed);
    use_up();
    if (needed < KeptMemory::kMostReturns) needed *= 2;
  }
  CHECK(needed == KeptMemory::kMostReturns);
}

TEST_CASE("nothing is kept with a fault under way, or where one has begun since it was mapped",
          "[kept_memory]") {
  Fixture f;
  f.settle();
  SECTION("begun before, and not over when it was mapped") {
    ++f.faults.begun;
    CHECK_FALSE(f.map());
    ++f.faults.ended;
    CHECK_FALSE(f.unmap());
  }
  SECTION("begun and over, elsewhere") {
    CHECK_FALSE(f.map());
    f.fault(kAt - kPage);
    CHECK_FALSE(f.unmap());
  }
  SECTION("begun while it was guarded") {
    CHECK_FALSE(f.map());
    f.lease -= kBuffer;
    CHECK(f.kept.returns(f.lease, kBuffer, f.faults));
    ++f.faults.begun;
    CHECK_FALSE(f.kept.keep(f.lease, kBuffer, f.faults));
    CHECK(f.kept.end() == kAt + kBuffer);  // for the caller to unmap
    f.kept.let_go();
    ++f.faults.ended;
  }
  CHECK_FALSE(f.map());
  CHECK(f.unmap());
}

TEST_CASE("nothing is kept that something else was done to than using it", "[kept_memory]") {
  Fixture f;
  f.settle();
  CHECK_FALSE(f.map());
  SECTION("to a page of it") { f.kept.change(kAt + 2 * kPage, kPage); }
  SECTION("to all there is") { f.kept.change_all(); }
  CHECK_FALSE(f.unmap());
  CHECK_FALSE(f.map());
  CHECK(f.unmap());
}

TEST_CASE("where something was done to the last mapping, the one before it is kept", "[kept_memory]") {
  Fixture f;
  f.settle();
  CHECK_FALSE(f.map());
  CHECK_FALSE(f.map());
  f.kept.change(kAt + kBuffer, kBuffer);
  CHECK_FALSE(f.unmap());
  CHECK(f.unmap());
  CHECK(f.kept.start() == kAt);
  CHECK(f.kept.end() == kAt + kBuffer);
}

TEST_CASE("where something was done to a mapping before the last one, that one is kept",
          "[kept_memory]") {
  Fixture f;
  f.settle();
  CHECK_FALSE(f.map());
  CHECK_FALSE(f.map());
  f.kept.change(kAt, kPage);
  CHECK(f.unmap());
  CHECK_FALSE(f.unmap());
}

TEST_CASE("what is kept serves mappings of its own kind only", "[kept_memory]") {
  Fixture f;
  f.settle();
  CHECK_FALSE(f.map());
  CHECK(f.unmap());
  SECTION("one that reserves no swap space is another") { f.reserves = false; }
  SECTION("one that is larger does not fit") { CHECK_FALSE(f.map(2 * kBuffer)); }
  SECTION("a size has to have been unmapped often by itself") { CHECK_FALSE(f.map(kBuffer / 2)); }
  CHECK_FALSE(f.map());
}

TEST_CASE("mappings that are unmapped in turn are kept together, up to a limit", "[kept_memory]") {
  Fixture f;
  f.settle();
  constexpr unsigned kMany = KeptMemory::kMostKept / kBuffer + 8;
  for (unsigned i = 0; i < kMany; ++i) CHECK_FALSE(f.map());
  unsigned kept = 0;
  while (f.unmap()) ++kept;
  CHECK(kept == KeptMemory::kMostKept / kBuffer);
  CHECK(f.kept.end() == kAt + kMany * kBuffer);
  f.lease = f.kept.start();
  for (unsigned i = 0; i < kept; ++i) CHECK(f.map());
  CHECK(f.kept.end() == 0);
}

TEST_CASE("large mappings are not kept", "[kept_memory]") {
  Fixture f;
  constexpr std::uint64_t kLarge = KeptMemory::kMostBytes + kPage;
  for (unsigned i = 0; i < 2 * KeptMemory::kReturns; ++i) {
    CHECK_FALSE(f.map(kLarge));
    CHECK_FALSE(f.unmap(kLarge));
  }
}
