// libc's own calls: what the bodies of libc's functions jump to once they are redirected.
#pragma once

namespace shim {

/// Has them served from now on. For a served program, once.
void catch_libc_calls();

}  // namespace shim
