// From the core's Plan to the host operations that a program carries out.
//
// Here is what each Step means on Linux. One rule holds throughout: a mapping of an object never
// becomes accessible before it is registered with the userfaultfd, because a touch in between would
// make the kernel put a zero page where the object's data belongs. Of private memory that is the
// page it should be.
#pragma once

#include <memory>
#include <vector>

#include "hal/backing.h"
#include "hal/plan.h"
#include "protocol/trap_frame.h"

namespace server {

/// What goes into one reply: at most kMaxHostOps operations and one descriptor.
struct HostOpBatch {
  std::vector<protocol::HostOp> ops;
  std::shared_ptr<hal::Backing> backing;  ///< a descriptor of it goes along
  bool writable = false;                  ///< with the right to write
};

std::vector<HostOpBatch> encode(const hal::Plan& plan);

}  // namespace server
