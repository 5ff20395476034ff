// The stub thread: watches the server for a program that may not call it for a long time.
//
// It has descriptors of its own (it does not share the program's table), so it survives a program
// that closes everything it does not know, and it holds the userfaultfd: without a last holder the
// kernel would answer missing pages with zeroes. It uses no libc, blocks every signal, and does
// nothing but wait until the server's end of the socket closes; then it ends the program. Where memory
// is limited, it also takes pages out when the server asks.
//
// libc does not know it, so a program that gives up root would leave it behind as root, in memory that
// the program goes on writing to. It gives up root at once, by itself.
#pragma once

namespace shim {

/// Starts it for a session with these descriptors. With `pages` it also takes pages out when the
/// server asks (stub_pages.h); that much is said over the socket. Call it with all signals blocked.
/// Returns 0, or a negative errno.
long start_stub(int socket, int userfaultfd, bool pages);

/// Copies of the stub's descriptors, for a program that has closed its own: wherever that program's
/// root directory is by then and whoever its user, they need no path and no right. False when there
/// is no stub, or on Linux before 6.9.
bool fetch_from_stub(int& socket, int& userfaultfd);

/// Ends it, and returns when it is gone. False when this process has none, or on Linux before 6.9.
bool stop_stub();

}  // namespace shim
