// Hooks: where calls ask the policy and tell the exec trace, as the seed's calls ask mandatory
// access control and tell the performance counters.
//
// Without a policy and without anybody who listens each costs one load.
#pragma once

#include <string_view>

#include "hal/address.h"
#include "hal/protection.h"
#include "vmserver/vm/call.h"
#include "vmserver/vm/result.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

/// Whether the caller may have a mapping of `path` ("": memory without a file) with this
/// protection: Error::access and a line in the log when the policy denies it.
Error ask_policy(VmSpace& space, Call& call, std::string_view path, hal::Protection protection);
/// The same for each entry of the range, the host's included, if it got this protection. Needs the
/// space's lock.
Error ask_policy(VmSpace& space, Call& call, hal::VirtualRange range, hal::Protection protection);

/// An mmap is about to answer that it has mapped `range`.
void trace_mapped(VmSpace& space, Call& call, hal::VirtualRange range, hal::Protection protection);
/// `range` is about to be taken away by munmap. Needs the space's lock.
void trace_unmapped(VmSpace& space, std::int32_t pid, hal::VirtualRange range);

}  // namespace vm
