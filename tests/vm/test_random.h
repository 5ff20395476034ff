// Randomness for tests that can be repeated: the seed is printed when a test fails, and can be set
// with VM_TEST_SEED.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>

namespace test {

class Random {
 public:
  Random() : Random(choose_seed()) {}
  explicit Random(std::uint64_t seed) : seed_(seed), engine_(seed_) {}

  std::uint64_t seed() const { return seed_; }
  /// 0 to `end` - 1.
  std::uint64_t below(std::uint64_t end) { return engine_() % end; }
  /// `first` to `last`.
  std::uint64_t between(std::uint64_t first, std::uint64_t last) {
    return first + below(last - first + 1);
  }
  bool one_in(std::uint64_t count) { return below(count) == 0; }

 private:
  static std::uint64_t choose_seed() {
    if (const char* given = std::getenv("VM_TEST_SEED")) return std::strtoull(given, nullptr, 0);
    std::random_device device;
    return (static_cast<std::uint64_t>(device()) << 32) ^ device();
  }

  const std::uint64_t seed_;
  std::mt19937_64 engine_;
};

}  // namespace test
