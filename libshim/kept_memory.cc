#include "libshim/kept_memory.h"

namespace shim {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

void KeptMemory::mapped(uint64_t start, uint64_t bytes, bool reserves, const FaultCount& faults) {
  if (!nothing_since(faults) || reserves != reserves_) {
    change_all();
    since_ = faults.begun;
    quiet_ = faults.begun == faults.ended;
    reserves_ = reserves;
  }
  if (start != untouched_.end) untouched_.start = start;
  if (quiet_) untouched_.end = start + bytes;
  if (bytes > kMostBytes || find(bytes) != nullptr) return;
  sizes_[next_] = {};
  sizes_[next_].bytes = bytes;
  next_ = (next_ + 1) % kSizes;
}

// What lies below counts again once that is unmapped.
void KeptMemory::change(uint64_t start, uint64_t bytes) {
  const uint64_t end = start + bytes;
  if (start >= untouched_.end || end <= untouched_.start) return;
  if (end < untouched_.end) {
    untouched_.start = end;
  } else {
    untouched_.end = start;
  }
}

bool KeptMemory::returns(uint64_t start, uint64_t bytes, const FaultCount& faults) {
  Size* const size = find(bytes);
  if (size == nullptr) return false;
  const bool taken = size->taken == start;
  size->taken = 0;
  if (!nothing_since(faults)) {
    if (taken) failed(*size, start, faults);
    return false;
  }
  const bool joins = start + bytes == start_;
  if (start < untouched_.start || start + bytes != untouched_.end ||
      (joins && end_ - start > kMostKept)) {
    return false;
  }
  if (size->returned < size->needed) ++size->returned;
  return size->returned == size->needed;
}

// A page that is new is brought the next time; too many are a program that uses its memory.
void KeptMemory::failed(Size& size, uint64_t start, const FaultCount& faults) {
  const bool inside = faults.last >= start && faults.last - start < size.bytes;
  const Pages page = inside ? Pages{1} << (faults.last - start) / kPage : 0;
  const bool is_new = (page & ~size.pages) != 0;
  size.pages |= page;
  if (is_new && static_cast<unsigned>(__builtin_popcountll(size.pages)) <= kMostTouched) {
    size.returned = size.needed - 1;
    return;
  }
  size.pages = 0;
  size.returned = 0;
  if (size.needed < kMostReturns) size.needed *= 2;
}

// Whoever looks in the middle, a child forked just then, sees nothing or less than there is.
bool KeptMemory::keep(uint64_t start, uint64_t bytes, const FaultCount& faults) {
  const uint64_t end = start + bytes == start_ ? end_ : start + bytes;
  untouched_.end = start;
  __atomic_store_n(&end_, 0, __ATOMIC_RELEASE);
  __atomic_store_n(&start_, start, __ATOMIC_RELEASE);
  __atomic_store_n(&end_, end, __ATOMIC_RELEASE);
  return nothing_since(faults);
}

bool KeptMemory::offers(uint64_t start, uint64_t bytes, bool reserves, Pages& pages) const {
  const Size* const size = find(bytes);
  if (start != start_ || bytes > end_ - start_ || reserves != reserves_ || size == nullptr ||
      size->returned < size->needed) {
    return false;
  }
  pages = size->pages;
  return true;
}

void KeptMemory::take(uint64_t start, uint64_t bytes) {
  if (Size* const size = find(bytes)) size->taken = start;
  __atomic_store_n(&start_, start + bytes, __ATOMIC_RELEASE);
  if (start_ == end_) let_go();
}

void KeptMemory::let_go() {
  __atomic_store_n(&end_, 0, __ATOMIC_RELEASE);
  __atomic_store_n(&start_, 0, __ATOMIC_RELEASE);
}

KeptMemory::Size* KeptMemory::find(uint64_t bytes) {
  for (Size& size : sizes_) {
    if (size.bytes == bytes && bytes != 0) return &size;
  }
  return nullptr;
}

}  // namespace shim
