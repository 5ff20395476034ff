// Calls that the program does by itself: what malloc does most, with private memory. The server is told
// of those that change its map.
#pragma once

#include "libshim/session.h"
#include "protocol/trap_frame.h"

namespace shim {

/// Does the call, if it is one of those, and says what came of it. False when the server is to be asked;
/// nothing has been done then, but perhaps a flag added to the request. Needs the session's lock.
bool did_by_itself(protocol::TrapRequest& request, Result& result);

}  // namespace shim
