#include "tools/png_writer.h"

#include <png.h>

#include <catch2/catch.hpp>
#include <memory>
#include <stdexcept>
#include <vector>

namespace {

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;

std::vector<std::uint8_t> read_rgb(std::FILE* file, std::uint32_t& width, std::uint32_t& height) {
  std::rewind(file);
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_stdio(&image, file));
  CHECK(image.format == PNG_FORMAT_RGB);
  image.format = PNG_FORMAT_RGB;
  width = image.width;
  height = image.height;
  std::vector<std::uint8_t> pixels(PNG_IMAGE_SIZE(image));
  REQUIRE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr));
  return pixels;
}

}  // namespace

TEST_CASE("a picture has the framebuffer's pixels in red, green, blue", "[png]") {
  // Two rows of two pixels, with four bytes between the rows that are no pixels.
  const std::vector<std::uint8_t> bytes = {1, 2, 3, 0xff, 4, 5,    6,  0xff, 9,  9,
                                           9, 9, 7, 8,    9, 0xff, 10, 11,   12, 0xff};
  const File file(std::tmpfile());
  REQUIRE(file);
  tools::write_png({2, 2, 12, bytes}, file.get(), "picture");

  std::uint32_t width = 0;
  std::uint32_t height = 0;
  const auto rgb = read_rgb(file.get(), width, height);
  CHECK(width == 2);
  CHECK(height == 2);
  CHECK(rgb == std::vector<std::uint8_t>{3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10});
}

TEST_CASE("the size of a picture counts the last row only as far as its pixels go", "[png]") {
  CHECK(tools::pixel_bytes(2, 2, 12) == 20);
  CHECK(tools::pixel_bytes(1, 1, 4) == 4);
  CHECK(tools::pixel_bytes(0x3fffffff, 0xffffffff, 0xfffffffc) ==
        std::uint64_t{0xfffffffc} * 0xffffffff);
}

TEST_CASE("a shape that is no picture is refused", "[png]") {
  CHECK_THROWS_AS(tools::pixel_bytes(0, 1, 4), std::runtime_error);
  CHECK_THROWS_AS(tools::pixel_bytes(1, 0, 4), std::runtime_error);
  CHECK_THROWS_AS(tools::pixel_bytes(2, 1, 7), std::runtime_error);
  const std::vector<std::uint8_t> bytes(15);
  const File file(std::tmpfile());
  CHECK_THROWS_AS(tools::write_png({2, 2, 8, bytes}, file.get(), "picture"), std::runtime_error);
}

TEST_CASE("a picture that cannot be written says which and why", "[png]") {
  const File full(std::fopen("/dev/full", "wb"));
  REQUIRE(full);
  const std::vector<std::uint8_t> bytes(4);
  CHECK_THROWS_WITH(tools::write_png({1, 1, 4, bytes}, full.get(), "picture"),
                    Catch::Contains("write picture"));
}
