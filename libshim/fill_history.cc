#include "libshim/fill_history.h"

namespace shim {

bool FillHistory::expects(uint64_t bytes) {
  for (Size& size : sizes_) {
    if (size.bytes != bytes) continue;
    look_at(size);
    if (size.filled < kInARow) return false;
    size.brought = (size.brought + 1) % kEach;
    return size.brought != 0;
  }
  sizes_[next_] = {};
  sizes_[next_].bytes = bytes;
  next_ = (next_ + 1) % kSizes;
  return false;
}

void FillHistory::mapped(uint64_t start, uint64_t bytes, bool whole) {
  for (Size& size : sizes_) {
    if (size.bytes == bytes) size.start = whole ? 0 : start;
  }
}

void FillHistory::unmapping(uint64_t start, uint64_t bytes) {
  for (Size& size : sizes_) {
    if (size.start != 0 && size.start < start + bytes && start < size.start + size.bytes) look_at(size);
  }
}

void FillHistory::look_at(Size& size) {
  if (size.start == 0) return;
  size.filled = is_full_(size.start, size.bytes) ? size.filled + 1 : 0;
  size.start = 0;
}

}  // namespace shim
