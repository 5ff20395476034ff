// Host operations: the page-table work that the server asks the program to do in its own memory.
#pragma once

#include <stdint.h>

#include "protocol/trap_frame.h"

namespace shim {

struct HostOpContext {
  int userfaultfd = -1;
  int descriptor = -1;  ///< came with the reply
  const protocol::TrapRequest* request = nullptr;
  bool value_from_host = false;  ///< kHostCall's outcome is the call's, good or bad
  // Out:
  long host_value = 0;   ///< of kHostCall
  bool tracks = false;   ///< a mapping was made whose stores the server has to learn of
};

/// Carries out `count` operations in order. Returns the index of the one that failed, with its
/// errno in `error`, or -1.
int run_host_ops(const protocol::HostOp* ops, uint32_t count, HostOpContext& context, int& error);

/// Does the call at the host with the caller's own arguments, which are in the numbers of `abi`.
/// Returns the kernel's result.
long host_call(uint16_t number, uint16_t abi, const uint64_t (&args)[6]);

}  // namespace shim
