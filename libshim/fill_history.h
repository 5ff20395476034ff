// FillHistory: of which sizes a program fills what it maps.
//
// Python's arenas, or what malloc maps for one object, have a few sizes only, and are filled before the
// next of the same size is mapped. Such a mapping is best brought in whole when it is made: without a
// fault, on the processor that is about to use it. A mapping of which pages were brought in by faults
// tells, at its end or when the next of its size is made, whether it was filled; one that was brought in
// whole tells nothing, so each kEach-th is left to its faults again.
//
// A plain data structure of fixed size. Changing it needs the session's lock.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace shim {

class FillHistory {
 public:
  /// Whether nearly all pages of a mapping are there.
  using IsFull = bool (*)(uint64_t start, uint64_t bytes);

  /// So many in a row were filled before the next is brought in whole.
  static constexpr unsigned kInARow = 2;
  static constexpr unsigned kEach = 8;

  explicit constexpr FillHistory(IsFull is_full) : is_full_(is_full) {}

  /// A mapping is about to be made. Whether to bring it in whole.
  bool expects(uint64_t bytes);
  /// It has been made.
  void mapped(uint64_t start, uint64_t bytes, bool whole);
  /// About to be unmapped.
  void unmapping(uint64_t start, uint64_t bytes);

 private:
  struct Size {
    uint64_t bytes = 0;
    uint64_t start = 0;    // of the last one that is still to be looked at; 0: none
    unsigned filled = 0;   // in a row
    unsigned brought = 0;  // whole, since the last that was not
  };
  static constexpr size_t kSizes = 4;

  void look_at(Size& size);

  const IsFull is_full_;
  Size sizes_[kSizes];
  size_t next_ = 0;  // where the next new one goes
};

}  // namespace shim
