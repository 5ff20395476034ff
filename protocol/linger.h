// Linger: looking for something for a moment before going to sleep.
//
// Two processes that answer each other within microseconds would else spend most of their time in
// being woken: on a virtual machine a halted processor takes 15 to 25 us to wake. The processor is
// offered to others between any two looks (sched_yield); without that one processor alone would be
// slower than with sleeping, and so would two that are busy. Where nothing comes the next times are
// left out, more and more of them; so they are where somebody else took the processor, who would do so
// again for milliseconds each time. Whoever may run on one processor only does not linger at all: what is
// waited for cannot come before it sleeps, and sched_yield(2) goes on to others only after some tries. What
// was measured is in docs/architecture.md.
#pragma once

#include <sched.h>
#include <stdint.h>
#include <time.h>

namespace protocol {

/// `Host` has a clock, now_ns(), yield(), and processors(): how many the thread may run on.
template <class Host>
class BasicLinger {
 public:
  explicit constexpr BasicLinger(int64_t most_us) : most_ns_(most_us * 1000) {}

  /// Whether what is looked for can come while somebody looks.
  bool can_pay() {
    if (processors_ == 0) processors_ = Host::processors();
    return processors_ > 1;
  }

  /// Looks until `found` says true, but not for long, and perhaps just once. Returns what it said.
  template <class Found>
  bool look(Found found) {
    if (!can_pay()) return found();
    if (left_out_ != 0) {
      --left_out_;
      return found();
    }
    const int64_t until = Host::now_ns() + most_ns_;
    do {
      if (found()) {
        in_vain_ = 0;
        return true;
      }
      Host::yield();
    } while (Host::now_ns() < until);
    constexpr unsigned kMostLeftOut = 63;
    in_vain_ = 2 * in_vain_ + 1 < kMostLeftOut ? 2 * in_vain_ + 1 : kMostLeftOut;
    left_out_ = in_vain_;
    return found();
  }

 private:
  int64_t most_ns_;
  int processors_ = 0;     // as of the first look; 0: there was none yet
  unsigned in_vain_ = 0;   // grows from 1 to kMostLeftOut
  unsigned left_out_ = 0;  // looks that are still to be short
};

struct LibcHost {
  static int64_t now_ns() {
    timespec now;
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }
  static void yield() { ::sched_yield(); }
  static int processors() {
    cpu_set_t allowed;
    // More than there is room for.
    if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 2;
    return CPU_COUNT(&allowed);
  }
};
using Linger = BasicLinger<LibcHost>;

}  // namespace protocol
