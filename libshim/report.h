// What the shim says on stderr, and how it ends a program that cannot go on.
//
// The shim is silent unless asked; the exceptions are that there is no server, and that the server
// is gone. Nothing here allocates or takes a lock.
#pragma once

namespace shim {

/// Writes one line "vmshim: PROGRAM[PID]: " + the parts. A part of nullptr ends the list.
void say(const char* a, const char* b = nullptr, const char* c = nullptr, const char* d = nullptr,
         const char* e = nullptr, const char* f = nullptr);
/// The same, if VMSHIM_LOG=debug.
void say_debug(const char* a, const char* b = nullptr, const char* c = nullptr);
void set_debug(bool on);

/// "No such file or directory" for a positive errno.
const char* error_text(long error);

/// The server has gone: one line, once for the process, and the end with VM_EXIT_SERVER_LOST.
/// `other_table` when the caller does not share the program's descriptors: stderr is then fetched
/// from the program.
[[noreturn]] void end_server_lost(bool other_table);

/// Ends the process at once.
[[noreturn]] void end_process(int status);

}  // namespace shim
