#include <catch2/catch.hpp>

#include "hal/address.h"

using namespace hal;

namespace {
constexpr std::uint64_t kTop = ~std::uint64_t{0};
VirtualRange range(std::uint64_t start, std::uint64_t end) {
  return {VirtualAddress(start), VirtualAddress(end)};
}
PageRange pages(std::uint64_t first, std::uint64_t count) { return {PageIndex(first), count}; }
}  // namespace

TEST_CASE("pages for bytes round up, and do not wrap at the largest value", "[address]") {
  CHECK(pages_for_bytes(0) == 0);
  CHECK(pages_for_bytes(1) == 1);
  CHECK(pages_for_bytes(4096) == 1);
  CHECK(pages_for_bytes(4097) == 2);
  CHECK(pages_for_bytes(kTop) == std::uint64_t{1} << 52);
}

TEST_CASE("an address rounds down and up to its page", "[address]") {
  CHECK(VirtualAddress(0x1fff).page_floor() == VirtualAddress(0x1000));
  CHECK(VirtualAddress(0x1fff).page_ceil() == VirtualAddress(0x2000));
  CHECK(VirtualAddress(0x1000).page_ceil() == VirtualAddress(0x1000));
  CHECK(VirtualAddress(0x1234).page_offset() == 0x234);
  CHECK(VirtualAddress(0x1000).is_page_aligned());
  CHECK_FALSE(VirtualAddress(0x1001).is_page_aligned());
}

TEST_CASE("rounding up above the last page wraps to 0, as round_page() does", "[address]") {
  CHECK(VirtualAddress(kTop).page_ceil() == VirtualAddress(0));
  CHECK(VirtualAddress(kTop - 4095).page_ceil() == VirtualAddress(kTop - 4095));
}

TEST_CASE("a range of a length is none where it wraps", "[address]") {
  CHECK(VirtualRange::of_length(VirtualAddress(0x1000), 0x10) == range(0x1000, 0x1010));
  CHECK_FALSE(VirtualRange::of_length(VirtualAddress(kTop), 2));
  CHECK(VirtualRange::of_length(VirtualAddress(kTop), 0)->empty());
}

TEST_CASE("a covering range is whole pages around the bytes", "[address]") {
  CHECK(VirtualRange::covering(VirtualAddress(0x1001), 1) == range(0x1000, 0x2000));
  CHECK(VirtualRange::covering(VirtualAddress(0x1fff), 2) == range(0x1000, 0x3000));
  CHECK(VirtualRange::covering(VirtualAddress(0x1000), 0)->empty());
  // An unaligned address with no length rounds to one page, as the seed's arithmetic has it.
  CHECK(VirtualRange::covering(VirtualAddress(0x1001), 0) == range(0x1000, 0x2000));
}

TEST_CASE("a covering range is none where any step of its arithmetic wraps", "[address]") {
  CHECK_FALSE(VirtualRange::covering(VirtualAddress(0x1001), kTop));
  CHECK_FALSE(VirtualRange::covering(VirtualAddress(0x1000), kTop));
  CHECK_FALSE(VirtualRange::covering(VirtualAddress(kTop - 4095), 8192));
  CHECK_FALSE(VirtualRange::covering(VirtualAddress(0x2000), kTop - 0x1fff));
}

TEST_CASE("ranges contain, overlap and intersect", "[address]") {
  const VirtualRange middle = range(0x2000, 0x4000);
  CHECK(middle.contains(VirtualAddress(0x2000)));
  CHECK_FALSE(middle.contains(VirtualAddress(0x4000)));
  CHECK(middle.contains(range(0x2000, 0x4000)));
  CHECK_FALSE(middle.contains(range(0x1000, 0x3000)));
  CHECK(middle.overlaps(range(0x3000, 0x5000)));
  CHECK_FALSE(middle.overlaps(range(0x4000, 0x5000)));
  CHECK(middle.intersect(range(0x3000, 0x9000)) == range(0x3000, 0x4000));
  CHECK(middle.intersect(range(0x8000, 0x9000)).empty());
  CHECK(middle.intersect(range(0x0, 0x1000)).empty());
  CHECK(middle.before(range(0x3000, 0x9000)) == range(0x2000, 0x3000));
  CHECK(middle.before(range(0x0, 0x3000)).empty());
  CHECK(middle.before(range(0x0, 0x3000)).start() == middle.start());
  CHECK(middle.before(range(0x4000, 0x9000)) == middle);
  CHECK(middle.pages() == 2);
}

TEST_CASE("page ranges contain, overlap and intersect", "[address]") {
  const PageRange middle = pages(2, 2);
  CHECK(middle.end() == PageIndex(4));
  CHECK(middle.bytes() == 8192);
  CHECK(middle.byte_offset() == 8192);
  CHECK(middle.contains(PageIndex(3)));
  CHECK_FALSE(middle.contains(PageIndex(4)));
  CHECK(middle.overlaps(pages(3, 9)));
  CHECK_FALSE(middle.overlaps(pages(4, 1)));
  CHECK(middle.intersect(pages(0, 3)) == pages(2, 1));
  CHECK(middle.intersect(pages(7, 3)).empty());
  CHECK(PageRange::between(PageIndex(5), PageIndex(3)).empty());
}
