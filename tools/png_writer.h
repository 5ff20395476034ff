// Saves a framebuffer as a PNG picture.
#pragma once

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

namespace tools {

/// Rows of 32-bit pixels: blue, green, red, unused; `stride` bytes from one row to the next.
struct PixelRows {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint32_t stride = 0;
  std::span<const std::uint8_t> bytes;
};

/// Bytes that a picture of this shape takes up, the last row only as far as its pixels go. Throws
/// std::runtime_error when width, height and stride do not fit together.
std::uint64_t pixel_bytes(std::uint32_t width, std::uint32_t height, std::uint32_t stride);

/// Writes an 8-bit RGB picture to `file` and flushes it. Throws std::runtime_error; `name` is for
/// its message.
void write_png(const PixelRows& pixels, std::FILE* file, const std::string& name);

}  // namespace tools
