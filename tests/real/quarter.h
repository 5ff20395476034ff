// What the tests of programs with a quarter of their memory share: how large they are.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdlib>

namespace real {

/// For one program that pages all the time.
inline constexpr std::chrono::seconds kQuarterPatience{3000};

/// Tenths of the full size, PAGING_TENTHS: 1 unless it is set.
inline std::uint64_t quarter_tenths() {
  const char* text = std::getenv("PAGING_TENTHS");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

/// What the program works on, about: at full size 1 GB.
inline std::uint64_t quarter_bytes() { return quarter_tenths() * 100'000'000; }

}  // namespace real
