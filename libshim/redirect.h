// Redirection: libc's own calls are caught at the functions that libc exports.
//
// malloc, thread stacks and stdio reach mmap without going through dynamic linking, so preloading
// does not show them; but they run the very bodies that libc exports. A jump over the first bytes
// of such a body catches them all. That happens once, when the session begins, before the program
// has threads: one that was just then between the first instructions of such a body would go wrong.
//
// Uses raw system calls and libc's string functions, takes no lock and leaves errno alone.
#pragma once

#include <stddef.h>

namespace shim {

/// What the body of a function has to look like, and where it shall jump to. A body that looks
/// otherwise is left alone.
struct Redirection {
  const char* name;       ///< as libc exports it
  const char* caller_of;  ///< it calls that function of libc's directly, or nullptr:
  unsigned system_call;   ///< it makes this system call
  const void* target;     ///< takes the same arguments
  /// Without it none is redirected: what one of them maps, no other may unmap at the host.
  bool required;
  /// Not nullptr: is given the address of what still does what the body did, before the body jumps.
  /// Such a body may look as it likes, as long as its first instructions can stand elsewhere.
  void** original;
};

/// Returns how many were redirected; which were not is said at log level debug. All originals
/// together have room once.
unsigned redirect_libc(const Redirection* redirections, size_t count);

}  // namespace shim
