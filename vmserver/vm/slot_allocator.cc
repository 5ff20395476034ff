#include "vmserver/vm/slot_allocator.h"

#include <algorithm>
#include <bit>

namespace vm {

using hal::PageIndex;
using hal::PageRange;

namespace {

// As many slots as this times those in use there may be before gaps are filled, and these in any case.
// A slot that is not in use costs a few bytes.
constexpr std::uint64_t kMostSpread = 4;
constexpr std::uint64_t kSpread = 4096;

}  // namespace

PageRange SlotAllocator::take(std::uint64_t most) {
  while (next_ >= kClusterSlots || clusters_[current_] >> next_ == 0) {
    if (!go_on()) return {};
  }
  std::uint64_t& free = clusters_[current_];
  next_ += static_cast<std::uint64_t>(std::countr_zero(free >> next_));
  const std::uint64_t run =
      std::min(most, static_cast<std::uint64_t>(std::countr_one(free >> next_)));
  const std::uint64_t bits = run == kClusterSlots ? kAllFree : ((std::uint64_t{1} << run) - 1);
  free &= ~(bits << next_);
  const PageRange taken(PageIndex(current_ * kClusterSlots + next_), run);
  next_ += run;
  in_use_ += run;
  return taken;
}

// To the next cluster. False when nothing is free anywhere.
bool SlotAllocator::go_on() {
  if (current_ < clusters_.size() && clusters_[current_] == kAllFree) {
    free_clusters_.push_back(current_);
  }
  next_ = 0;
  if (!free_clusters_.empty()) {
    current_ = free_clusters_.back();
    free_clusters_.pop_back();
    return true;
  }
  const std::uint64_t slots = clusters_.size() * kClusterSlots;
  const bool may_grow = clusters_.size() < most_clusters_;
  if (may_grow && slots < kMostSpread * in_use_ + kSpread) {
    current_ = clusters_.size();
    clusters_.push_back(kAllFree);
    return true;
  }
  for (std::uint64_t i = 1; i <= clusters_.size(); ++i) {
    const std::uint64_t cluster = (current_ + i) % clusters_.size();
    if (clusters_[cluster] == 0) continue;
    current_ = cluster;
    return true;
  }
  next_ = kClusterSlots;
  return false;
}

void SlotAllocator::give(PageRange slots) {
  for (PageIndex at = slots.first(); at < slots.end(); at = at + 1) {
    const std::uint64_t cluster = at.value() / kClusterSlots;
    clusters_[cluster] |= std::uint64_t{1} << at.value() % kClusterSlots;
    if (clusters_[cluster] == kAllFree && cluster != current_) free_clusters_.push_back(cluster);
  }
  in_use_ -= slots.count();
}

}  // namespace vm
