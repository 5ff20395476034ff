#include "tools/png_writer.h"

#include <png.h>

#include <cerrno>
#include <vector>

#include "tools/failure.h"

namespace tools {
namespace {

constexpr std::uint64_t kBytesPerPixel = 4;
constexpr std::uint64_t kBytesPerColour = 3;

}  // namespace

std::uint64_t pixel_bytes(std::uint32_t width, std::uint32_t height, std::uint32_t stride) {
  const std::uint64_t row = std::uint64_t{width} * kBytesPerPixel;
  if (width == 0 || height == 0 || stride < row)
    throw std::runtime_error("picture of " + std::to_string(width) + "x" + std::to_string(height) +
                             " with " + std::to_string(stride) + " bytes a row: no such picture");
  return std::uint64_t{stride} * (height - 1) + row;
}

void write_png(const PixelRows& pixels, std::FILE* file, const std::string& name) {
  if (pixels.bytes.size() < pixel_bytes(pixels.width, pixels.height, pixels.stride))
    throw std::runtime_error("write " + name + ": the picture is shorter than its size");

  std::vector<std::uint8_t> colours;
  colours.reserve(std::size_t{pixels.width} * pixels.height * kBytesPerColour);
  for (std::uint32_t y = 0; y < pixels.height; ++y) {
    const auto row = pixels.bytes.subspan(std::size_t{y} * pixels.stride,
                                          std::size_t{pixels.width} * kBytesPerPixel);
    for (std::size_t x = 0; x < row.size(); x += kBytesPerPixel)
      colours.insert(colours.end(), {row[x + 2], row[x + 1], row[x]});
  }

  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = pixels.width;
  image.height = pixels.height;
  image.format = PNG_FORMAT_RGB;
  if (png_image_write_to_stdio(&image, file, 0, colours.data(), 0, nullptr) == 0)
    throw std::runtime_error("write " + name + ": " + image.message);
  if (std::fflush(file) != 0 || std::ferror(file) != 0)
    throw std::runtime_error(describe_errno("write " + name, errno));
}

}  // namespace tools
