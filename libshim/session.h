// The program's side of its session with the server.
//
// One socket per process, one call at a time on it: a lock covers a call from its request to the
// last host operation, because operations of two calls on the same range must not mix. While it is
// held all signals are blocked, so that a handler that maps memory finds it free or waits for
// another thread, never for the one it interrupted.
//
// After fork the child has no session until it asks for one (adoption): a page that the kernel
// wipes on fork tells a child from its parent, whoever called fork or clone. A vfork child shares
// everything with its parent, this session too.
#pragma once

#include <stdint.h>

#include "protocol/trap_frame.h"

namespace shim {

struct Result {
  long value = 0;  ///< what the call returns on success
  int error = 0;   ///< errno, in the caller's numbers; 0 on success
};

/// Sees to it that there is a session. False when the program runs unserved: the call is the
/// host's then. Does not return when there is no server and the program did not ask for that.
/// `after_fork`: libc's fork is just over, so that a child knows that its table of descriptors is its
/// own.
bool ensure_session(bool after_fork = false);

/// Makes a call. `descriptor`: a file that goes along, or -1. `flags`: protocol::RequestFlag.
/// `sink` is given the data that comes with the answer (mincore), or is nullptr.
using DataSink = bool (*)(void* context, const uint8_t* data, uint32_t bytes);
Result call(protocol::CallNumber number, const uint64_t (&args)[6], int descriptor = -1,
            protocol::Abi abi = protocol::kAbiLinux, uint16_t flags = 0, DataSink sink = nullptr,
            void* context = nullptr);

/// Makes a system call that the kernel refuses to a process with threads; ours is none of the
/// program's. The kernel's result.
long without_stub(long number, long first, long second);

/// The server's page size.
unsigned page_size();

/// While one of its threads changes a file (file_view.h), a program makes no call that could wait for
/// that: it would be held up by its own thread, whose next call has to wait for the one under way.
/// Signals are blocked meanwhile. Comes before the lock of a call.
void begin_changing();
void end_changing();

/// Whether the program has mapped a file, and whether it may have stored into one.
bool maps_files();
bool stores_into_files();

/// Called when a program ends by itself, before it forks, and on both sides of the fork.
void at_exit();
void before_fork();
void after_fork_in_parent();
void after_fork_in_child();

}  // namespace shim
