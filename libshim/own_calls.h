// Calls that the program does by itself: what malloc does most, with private memory. The server is told
// of those that change its map.
#pragma once

#include "libshim/session.h"
#include "protocol/trap_frame.h"

namespace shim {

/// madvise and mincore where they change nothing that anybody else knows: done, and what came of it, or
/// false. Needs no lock: whoever has another thread map and unmap the same memory meanwhile has either.
bool concerns_nobody(const protocol::TrapRequest& request, Result& result);

/// Whether what is done by itself can be written down: there is room among the notes. Needs the session's
/// lock.
bool may_note();

/// Does the call, if it is one of those, and says what came of it. False when the server is to be asked;
/// nothing has been done then, but perhaps a flag added to the request. Needs the session's lock, and may_note().
bool did_by_itself(protocol::TrapRequest& request, Result& result);

/// Unmaps what has been kept of what the program has unmapped, and will keep nothing of what it has mapped
/// so far: before the server is asked for anything, which may put something else there. Needs the session's
/// lock.
void give_up_kept();

}  // namespace shim
