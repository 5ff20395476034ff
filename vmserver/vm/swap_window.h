// SwapWindow: how much of the swap space one page-in reads.
//
// A page-in costs two processes and a disk, whatever it reads, but what is read in vain takes the
// place of something. So it is learnt, as Linux's swap read-ahead learns it: pages that came along and
// were touched later (hits) make the next window larger; without any, pages one beside the other make
// it two, and it falls by half at a time to the one page that is wanted.
//
// One for each map entry; under the lock of its space.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "vmserver/vm/call_types.h"

namespace vm {

class SwapWindow {
 public:
  static constexpr std::uint64_t kMost = 64;  ///< pages

  /// Pages that came along were touched.
  void hit(std::uint64_t pages) { hits_ += pages; }

  /// A page has to be read, `page` by its number: how many to read, with it. `follows`: those before
  /// it are there, so that it may be one of several walks.
  std::uint64_t miss(std::uint64_t page, Advice advice, bool follows = false) {
    const bool beside = follows || page == last_ + 1 || page + 1 == last_;
    down_ = page + 1 == last_;
    last_ = page;
    std::uint64_t pages = hits_ != 0 ? std::bit_ceil(std::max<std::uint64_t>(4, hits_ + 2))
                          : beside   ? 2
                                     : 1;
    pages = std::max(pages, pages_ / 2);
    if (advice == Advice::sequential) pages = kMost;
    if (advice == Advice::random) pages = 1;
    hits_ = 0;
    return pages_ = std::min(pages, kMost);
  }
  /// The last page that was touched; misses beside it count.
  void touched(std::uint64_t page) { last_ = page; }

  std::uint64_t pages() const { return pages_; }
  /// Whether the program walks towards lower addresses.
  bool down() const { return down_; }

 private:
  std::uint64_t last_ = 0;
  std::uint64_t pages_ = 1;
  std::uint64_t hits_ = 0;
  bool down_ = false;
};

}  // namespace vm
