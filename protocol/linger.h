// Linger: looking for something for a moment before going to sleep.
//
// Two processes that answer each other within microseconds would else spend most of their time in
// being woken: on a virtual machine a halted processor takes 15 to 25 us to wake. The processor is
// offered to others between any two looks (sched_yield); without that one processor alone would be
// slower than with sleeping, and so would two that are busy. Where nothing comes the next times are
// left out, more and more of them. What was measured is in docs/architecture.md.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace protocol {

class Linger {
 public:
  explicit Linger(std::chrono::microseconds most) : most_(most) {}

  /// Looks until `found` says true, but not for long, and perhaps just once. Returns what it said.
  template <class Found>
  bool look(Found found) {
    if (left_out_ != 0) {
      --left_out_;
      return found();
    }
    using Clock = std::chrono::steady_clock;
    for (const auto until = Clock::now() + most_;;) {
      if (found()) {
        in_vain_ = 0;
        return true;
      }
      if (Clock::now() >= until) break;
      ::sched_yield();
    }
    constexpr unsigned kMostLeftOut = 63;
    in_vain_ = std::min(2 * in_vain_ + 1, kMostLeftOut);
    left_out_ = in_vain_;
    return false;
  }

 private:
  const std::chrono::microseconds most_;
  unsigned in_vain_ = 0;   // grows from 1 to kMostLeftOut
  unsigned left_out_ = 0;  // looks that are still to be short
};

}  // namespace protocol
