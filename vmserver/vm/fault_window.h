// FaultWindow: how many pages one fault brings in.
//
// A program that walks through memory faults on the page right behind the last window, give or take
// what it leaves out there, or, when it walks down, on one just before it. While that holds the window
// doubles, up to kMost; one wrong guess and it falls to the start again, and a program that jumps about
// ends with single pages, until the caller sees that a walk goes on where it has jumped to. A
// fault's cost is mostly the two wake-ups, so a window of 512 pages makes a page cheaper than the
// kernel's own fault (docs/architecture.md, "What a fault costs").
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
  /// So many pages a walk may leave out between two windows: allocators align what they map.
  static constexpr std::uint32_t kLeftOut = 4;
  /// The same at the end of a mapping: malloc, when it has made its heap larger, writes there first, in
  /// front of what it has left.
  static constexpr std::uint32_t kLeftOutAtEnd = 32;

  /// A window around a page: `before` of its `count` pages lie before the page.
  struct Span {
    std::uint32_t before = 0;
    std::uint32_t count = 1;
    friend bool operator==(const Span&, const Span&) = default;
  };

  /// What to bring in with `page` (its number anywhere in the address space). What comes in larger
  /// pieces begins a piece, `lead` pages before the page, as the host's own fault-around has it.
  /// Where one page costs as little as another, what a walk left out before the page comes along: less
  /// than `left_out` pages. Protected by the lock of the address space.
  Span grow(std::uint64_t page, Advice advice, std::uint32_t lead = 0, std::uint32_t left_out = 0) {
    if (page >= first_ && page < next_ && advice != Advice::random) {
      // Still inside the last window: the program was quicker than its pages.
      if (!down_) return {0, static_cast<std::uint32_t>(next_ - page)};
      const auto before = static_cast<std::uint32_t>(page - first_);
      return {before, before + 1};
    }
    if (page >= next_ && page < ahead_ && advice != Advice::random) {
      // In what was read ahead: it comes in as the program goes through it.
      first_ = page;
      next_ = ahead_;
      return {0, static_cast<std::uint32_t>(next_ - page)};
    }
    const bool down = page + 1 == first_ && first_ != next_;
    const bool follows = !fresh_ && page >= next_ && page - next_ < left_out;
    if (follows) lead = static_cast<std::uint32_t>(page - next_);
    if (advice == Advice::random) {
      pages_ = 1;
    } else if ((!fresh_ && (is_near(page, next_) || is_near(page, ahead_))) || down || follows) {
      pages_ = std::clamp(pages_ * 2, kStart, kMost);
    } else if (advice == Advice::sequential) {
      pages_ = kMost;
    } else if (fresh_) {
      pages_ = kStart;
    } else {
      pages_ = std::max<std::uint32_t>(1, std::min(kStart, pages_ / 4));
    }
    fresh_ = false;
    ahead_ = 0;
    down_ = down && pages_ > 1;
    const std::uint32_t wanted = down_ ? pages_ - 1 : pages_ < kStart ? 0 : lead;
    const auto before = static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, page));
    first_ = page - before;
    next_ = page + (down_ ? 1 : pages_);
    return {before, static_cast<std::uint32_t>(next_ - first_)};
  }

  /// Several walks at once jump about between them: after grow() has said less than kStart, for a page
  /// whose predecessors are all there.
  Span go_on(std::uint64_t page) {
    pages_ = kStart;
    next_ = page + pages_;
    return {0, pages_};
  }

  /// How many pages right behind the window may be on their way while the program is busy with those
  /// of the window: of a walk up that has been going on for long.
  std::uint32_t read_ahead() {
    if (pages_ < kMost || down_) return 0;
    ahead_ = next_ + kMost;
    return kMost;
  }

  /// What was brought in ended at `next`, not where grow() took it to end.
  void ended_at(std::uint64_t next) { next_ = next; }

 private:
  static bool is_near(std::uint64_t page, std::uint64_t end) {
    return page >= end && page - end < kLeftOut;
  }

  std::uint64_t first_ = 0;  // where the last window began
  std::uint64_t next_ = 0;   // the page right behind it
  std::uint64_t ahead_ = 0;  // and the one right behind what was read ahead
  bool down_ = false;        // it lay before the page that was touched
  std::uint32_t pages_ = kStart;
  bool fresh_ = true;
};

}  // namespace vm
