// Sizes as people write them on a command line: "64M" is 64 MiB.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace cli {

/// How a size is written, for messages and --help.
inline constexpr const char* kSizeForm = "bytes, or a number with K, M, G or T (powers of 1024)";

/// The bytes that `text` stands for: decimal digits and at most one suffix K, M, G or T in either
/// case. Nothing for anything else, or when the size does not fit into 64 bits.
constexpr std::optional<std::uint64_t> parse_size(std::string_view text) {
  unsigned shift = 0;
  if (!text.empty()) {
    switch (text.back()) {
      case 'k':
      case 'K':
        shift = 10;
        break;
      case 'm':
      case 'M':
        shift = 20;
        break;
      case 'g':
      case 'G':
        shift = 30;
        break;
      case 't':
      case 'T':
        shift = 40;
        break;
      default:
        break;
    }
    if (shift != 0) text.remove_suffix(1);
  }
  if (text.empty()) return std::nullopt;

  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    const std::uint64_t digit = static_cast<std::uint64_t>(c - '0');
    if (value > (kMost - digit) / 10) return std::nullopt;
    value = value * 10 + digit;
  }
  if (value > (kMost >> shift)) return std::nullopt;
  return value << shift;
}

}  // namespace cli
