// FaultWindow: how many pages one fault brings in.
//
// A program that walks through memory faults on the page right behind the last window, give or take
// what it leaves out there, or, when it walks down, on one just before it. While that holds the window
// doubles (private memory) or grows fourfold (what a pager reads), up to kMost. Where a program jumps to
// it gets the start again; one that jumps about, and goes on nowhere, ends with single pages, until the
// caller sees that a walk goes on there. The last kWalks walks are remembered, for who takes turns, as a
// sort does that fills a buffer with lines from one end and with pointers to them from the other.
//
// A fault's cost is mostly the two wake-ups, so a window of 512 pages makes a page cheaper than the
// kernel's own fault (docs/architecture.md, "What a fault costs").
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
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
  static constexpr std::size_t kWalks = 4;

  /// A window around a page: `before` of its `count` pages lie before the page.
  struct Span {
    std::uint32_t before = 0;
    std::uint32_t count = 1;
    friend bool operator==(const Span&, const Span&) = default;
  };

  /// How pages come in at a place.
  struct Way {
    /// What comes in larger pieces begins a piece, so many pages before the page, as the host's own
    /// fault-around has it.
    std::uint32_t lead = 0;
    /// Where one page costs as little as another, what a walk left out before the page comes along: less
    /// than so many.
    std::uint32_t left_out = 0;
    /// How much larger each window of a walk is than the last one. Pages of zeroes that are not needed
    /// are memory that others need; what was read is in the host's cache anyway.
    std::uint32_t growth = 2;
  };

  /// What to bring in with `page` (its number anywhere in the address space). Protected by the lock of the
  /// address space.
  Span grow(std::uint64_t page, Advice advice, Way way) {
    const bool known = recall(page, way.left_out);
    Walk& walk = walks_.front();
    const bool goes_on = known && advice != Advice::random;
    if (goes_on && walk.contains(page)) return rest_of(walk, page);
    if (goes_on && walk.has_read_ahead(page)) {
      // It comes in as the program goes through it.
      walk.first = page;
      walk.next = walk.ahead;
      return {0, static_cast<std::uint32_t>(walk.next - page)};
    }
    const bool down = goes_on && walk.is_just_before(page);
    if (goes_on && page >= walk.next && page - walk.next < way.left_out)
      way.lead = static_cast<std::uint32_t>(page - walk.next);
    if (goes_on) {
      walk.pages = std::clamp(walk.pages * way.growth, kStart, kMost);
    } else {
      walk.pages = jump(advice);
    }
    went_on_ = goes_on;
    walk.ahead = 0;
    walk.down = down;
    const std::uint32_t wanted = down ? walk.pages - 1 : walk.pages < kStart ? 0 : way.lead;
    const auto before = static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, page));
    walk.first = page - before;
    walk.next = page + (down ? 1 : walk.pages);
    return {before, static_cast<std::uint32_t>(walk.next - walk.first)};
  }

  Span grow(std::uint64_t page, Advice advice) { return grow(page, advice, Way{}); }

  /// More walks than are remembered take turns: after grow() has said less than kStart, for a page whose
  /// predecessors are all there.
  Span go_on(std::uint64_t page) {
    Walk& walk = walks_.front();
    walk.pages = kStart;
    walk.next = page + kStart;
    went_on_ = true;
    return {0, kStart};
  }

  /// How many pages right behind the window may be on their way while the program is busy with those
  /// of the window: of a walk up that has been going on for long.
  std::uint32_t read_ahead() {
    Walk& walk = walks_.front();
    if (walk.pages < kMost || walk.down) return 0;
    walk.ahead = walk.next + kMost;
    return kMost;
  }

  /// What was brought in ended at `next`, not where grow() took it to end.
  void ended_at(std::uint64_t next) { walks_.front().next = next; }

 private:
  struct Walk {
    std::uint64_t first = 0;  // where the last window began
    std::uint64_t next = 0;   // the page right behind it
    std::uint64_t ahead = 0;  // and the one right behind what was read ahead
    std::uint32_t pages = 0;  // of that window; 0: there is no such walk
    bool down = false;        // it lay before the page that was touched

    bool contains(std::uint64_t page) const { return page >= first && page < next; }
    bool has_read_ahead(std::uint64_t page) const { return page >= next && page < ahead; }
    bool is_just_before(std::uint64_t page) const { return page + 1 == first; }
    bool goes_on_at(std::uint64_t page, std::uint32_t left_out) const {
      const auto follows = [page](std::uint64_t end, std::uint32_t most) {
        return page >= end && page - end < most;
      };
      return pages != 0 &&
             (contains(page) || has_read_ahead(page) || is_just_before(page) ||
              follows(next, std::max(kLeftOut, left_out)) || follows(ahead, kLeftOut));
    }
  };

  /// Has the walk that goes on at `page` in front, or else the one that nobody has gone on with for
  /// longest, and says which.
  bool recall(std::uint64_t page, std::uint32_t left_out) {
    const auto walk = std::find_if(walks_.begin(), walks_.end(), [=](const Walk& candidate) {
      return candidate.goes_on_at(page, left_out);
    });
    const bool known = walk != walks_.end();
    const auto moved = known ? walk : walks_.end() - 1;
    std::rotate(walks_.begin(), moved, moved + 1);
    return known;
  }

  /// The first window where the program has jumped to.
  std::uint32_t jump(Advice advice) {
    if (advice == Advice::random) return jumped_ = 1;
    if (advice == Advice::sequential) return jumped_ = kMost;
    return jumped_ = went_on_ ? kStart : std::max<std::uint32_t>(1, std::min(kStart, jumped_ / 4));
  }

  /// The program was quicker than its pages.
  static Span rest_of(const Walk& walk, std::uint64_t page) {
    if (!walk.down) return {0, static_cast<std::uint32_t>(walk.next - page)};
    const auto before = static_cast<std::uint32_t>(page - walk.first);
    return {before, before + 1};
  }

  std::array<Walk, kWalks> walks_;   // the last one first
  std::uint32_t jumped_ = kStart;    // what the last jump got
  bool went_on_ = true;              // a walk has since; or there was no jump yet
};

}  // namespace vm
