// FaultWindow: how many pages one fault brings in.
//
// A program that walks through memory faults on the page right behind the last window. While that
// holds the window doubles, up to kMost; one wrong guess and it falls to the start again, and a
// program that jumps about ends with single pages. A fault's cost is mostly the two wake-ups, so a
// window of 512 pages makes a page cheaper than the kernel's own fault (docs/architecture.md,
// "What a fault costs").
#pragma once

#include <algorithm>
#include <cstdint>

#include "hal/address.h"
#include "vmserver/vm/call_types.h"

namespace vm {

class FaultWindow {
 public:
  static constexpr std::uint32_t kStart = 16;  ///< pages
  static constexpr std::uint32_t kMost = 512;

  /// Pages to bring in from `page` on (its number anywhere in the address space), `page` included.
  /// Protected by the lock of the address space.
  std::uint32_t grow(std::uint64_t page, Advice advice) {
    if (advice == Advice::random) {
      pages_ = 1;
    } else if (page < next_ && page + pages_ >= next_ && !fresh_) {
      // Still inside the last window: the program was quicker than its pages.
      return static_cast<std::uint32_t>(next_ - page);
    } else if (page == next_) {
      pages_ = std::clamp(pages_ * 2, kStart, kMost);
    } else if (advice == Advice::sequential) {
      pages_ = kMost;
    } else if (fresh_) {
      pages_ = kStart;
    } else {
      pages_ = std::max<std::uint32_t>(1, std::min(kStart, pages_ / 4));
    }
    fresh_ = false;
    next_ = page + pages_;
    return pages_;
  }

  /// What was brought in ended at `next`, not where grow() took it to end.
  void ended_at(std::uint64_t next) { next_ = next; }

 private:
  std::uint64_t next_ = 0;  // the page right behind the last window
  std::uint32_t pages_ = kStart;
  bool fresh_ = true;
};

}  // namespace vm
