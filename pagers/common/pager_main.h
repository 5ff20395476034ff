// The frame of every pager: options, connection, registration, service, end.
#pragma once

#include "pagers/common/pager.h"

namespace pager {

/// Registers at the server of --server and serves until SIGINT or SIGTERM comes or the server ends
/// (exit status 0). Bad options and a server that cannot be reached: one line on stderr, status 2.
/// A failure later on: one line, status 1. `about` is the help's first line, `details` what follows
/// the options there. Returns the exit status.
int run_pager(Pager& pager, const char* about, const char* details, int argc, char** argv);

}  // namespace pager
