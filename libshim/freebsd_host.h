// FreeBSD's numbers for the host: calls that end at the host kernel though their caller was built
// with FreeBSD's headers. Those are all calls of an unserved program, and those of a served one on
// memory that is the host's.
#pragma once

#include <stdint.h>

namespace shim {

/// Does the call at the host. Returns the kernel's result. What the host cannot do without
/// promising more than it keeps is -EOPNOTSUPP; numbers that mean nothing are -EINVAL.
long freebsd_host_call(uint16_t number, const uint64_t (&args)[6]);

}  // namespace shim
