// SlotAllocator: which slots of the swap space are free.
//
// What leaves memory together shall lie together, because it is written with one write and is likely
// to be wanted together. So slots are handed out one behind the other, in a cluster that was free as a
// whole, and then in the next such cluster. Only when there are several times as many slots as are in
// use are the gaps in other clusters filled.
//
// A plain data structure; SwapSpace locks.
#pragma once

#include <cstdint>
#include <vector>

#include "hal/address.h"

namespace vm {

class SlotAllocator {
 public:
  static constexpr std::uint64_t kClusterSlots = 64;

  /// `most`: how many slots there may be; a multiple of kClusterSlots.
  explicit SlotAllocator(std::uint64_t most) : most_clusters_(most / kClusterSlots) {}

  /// A run of 1 to `most` free slots, which are in use from now on; empty when there is none.
  hal::PageRange take(std::uint64_t most);
  void give(hal::PageRange slots);

  /// Behind the last slot that there has been.
  hal::PageIndex end() const { return hal::PageIndex(clusters_.size() * kClusterSlots); }
  std::uint64_t in_use() const { return in_use_; }

 private:
  static constexpr std::uint64_t kAllFree = ~std::uint64_t{0};

  bool go_on();

  const std::uint64_t most_clusters_;
  std::vector<std::uint64_t> clusters_;      // a bit for each free slot
  std::vector<std::uint64_t> free_clusters_;  // all free, and not the current one
  std::uint64_t current_ = 0;                // cluster
  std::uint64_t next_ = kClusterSlots;       // in the current cluster
  std::uint64_t in_use_ = 0;
};

}  // namespace vm
