// Waiting for what has no descriptor to wait on: a condition is looked at again and again until it
// holds or the deadline has passed.
#pragma once

#include <chrono>
#include <thread>

namespace support {

/// How long a test waits for something that must happen. Generous: machines are shared.
inline constexpr std::chrono::seconds kPatience{60};

template <class Condition>
bool eventually(Condition condition, std::chrono::milliseconds within = kPatience) {
  const auto deadline = std::chrono::steady_clock::now() + within;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return condition();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace support
