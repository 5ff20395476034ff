// SimMemory: the plain memory that stands in for a machine's.
//
//   SimMemory     one machine: the lock of all its page tables and frames
//   SimFrame      one page frame
//   SimBacking    frames of one object (hal/sim/sim_backing.h)
//   SimPageTable  four levels of tables over frames (hal/sim/sim_page_table.h)
//   SimPmap       one address space (hal/sim/sim_pmap.h)
//   SimCpu        reads and writes through it (hal/sim/sim_cpu.h)
//
// One lock for all of it plays the part of the memory bus: dropping a page from an object and from
// every page table is one step, as it is for a kernel. It is the last lock anybody takes.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>

#include "hal/address.h"

namespace hal {

struct SimFrame {
  std::array<std::byte, kPageSize> bytes{};
};
using SimFramePointer = std::shared_ptr<SimFrame>;

class SimMemory {
 public:
  std::mutex& lock() { return lock_; }
  /// The one frame of zeroes that faults which only read are given. Never written.
  const SimFramePointer& zero_frame() const { return zero_frame_; }

 private:
  std::mutex lock_;
  const SimFramePointer zero_frame_ = std::make_shared<SimFrame>();
};

}  // namespace hal
