#include "pagers/anon/compressor.h"

#include <catch2/catch.hpp>
#include <vector>

#include "tests/pagers/support.h"

using pager::Compression;
using pager::Compressor;

TEST_CASE("a page that compresses comes back as it was, and one that does not is left alone") {
  test::Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  for (const Compression kind : {Compression::zstd, Compression::lz4}) {
    Compressor compressor(kind);
    std::vector<char> packed(Compressor::kMostBytes);
    std::string back(test::kPage, '\0');
    for (int round = 0; round < 50; ++round) {
      const std::string page = test::compressible_page(random);
      const std::uint64_t bytes = compressor.compress(page.data(), packed.data());
      REQUIRE(bytes > 0);
      REQUIRE(bytes <= Compressor::kMostBytes);
      REQUIRE(compressor.decompress(packed.data(), bytes, back.data()));
      REQUIRE(back == page);
      CHECK_FALSE(compressor.decompress(packed.data(), bytes / 2, back.data()));
      CHECK(compressor.compress(test::random_page(random).data(), packed.data()) == 0);
    }
  }
}

TEST_CASE("compression is named zstd or lz4") {
  CHECK(pager::compression_of("zstd") == Compression::zstd);
  CHECK(pager::compression_of("lz4") == Compression::lz4);
  for (const char* name : {"", "none", "ZSTD", "lzo"}) CHECK_FALSE(pager::compression_of(name));
}
