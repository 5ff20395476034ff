// What a descriptor that a program passed stands for.
#pragma once

#include "hal/host_file.h"

namespace hal {

/// Looks at the descriptor itself, never at a path. A descriptor that nothing can be said of is
/// FileKind::not_a_file.
HostFile describe_file(SharedDescriptor descriptor);

/// Only which file it is, and whether the descriptor, which is not kept, may write: `device`,
/// `inode`, `writable`.
HostFile identify_file(const SharedDescriptor& descriptor);

}  // namespace hal
