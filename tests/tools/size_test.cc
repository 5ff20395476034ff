#include "cli/size.h"

#include <catch2/catch.hpp>

using cli::parse_size;

TEST_CASE("a size is bytes, or a number with a suffix for a power of 1024", "[size]") {
  CHECK(parse_size("0") == 0u);
  CHECK(parse_size("4096") == 4096u);
  CHECK(parse_size("1K") == 1024u);
  CHECK(parse_size("64M") == 64u << 20);
  CHECK(parse_size("3g") == std::uint64_t{3} << 30);
  CHECK(parse_size("16T") == std::uint64_t{16} << 40);
}

TEST_CASE("what is not a size is refused whole", "[size]") {
  for (const char* text : {"", "K", "1KB", "1 K", " 1", "-1", "+1", "0x10", "1.5G", "1KK", "M1"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_size(text));
  }
}

TEST_CASE("a size that does not fit into 64 bits is refused", "[size]") {
  CHECK(parse_size("18446744073709551615") == ~std::uint64_t{0});
  CHECK_FALSE(parse_size("18446744073709551616"));
  CHECK_FALSE(parse_size("99999999999999999999999"));
  CHECK(parse_size("16777215T") == std::uint64_t{16777215} << 40);
  CHECK_FALSE(parse_size("16777216T"));
}
