// What whoever runs the tests may choose: seeds, counts, seconds.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>

namespace support {

/// What an environment variable says, or the other number.
inline std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* chosen = std::getenv(variable);
  return chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : otherwise;
}

/// TEST_SEED, or one that nobody has chosen.
inline std::uint64_t chosen_seed() { return number_from("TEST_SEED", std::random_device()()); }

}  // namespace support
