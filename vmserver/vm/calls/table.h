// The calls that programs make, one function each, and the table that finds them.
//
// Every function has the shape of the seed's: decode, check in the seed's order, act, answer. It
// ends with exactly one Call::finish(), perhaps later and on another thread. A new call is one
// entry in protocol::CallNumber, one in the table, and one function.
#pragma once

#include "vmserver/vm/call.h"
#include "vmserver/vm/vm_space.h"

namespace vm::calls {

/// Counts the request and carries it to its function; Error::no_call for a number that is none.
void dispatch(VmSpace& space, Call& call);

/// What a program has done by itself (kRequestDone): the map follows. False when it may not. Needs the
/// space's lock.
bool note(VmSpace& space, const protocol::TrapRequest& request, std::int32_t pid);

/// Whether the request is about addresses in this range, or changes how private memory is mapped.
bool concerns(const protocol::TrapRequest& request, hal::VirtualRange range);

/// The call's name as programs know it ("mmap"), or nullptr for a number that is none.
const char* name(unsigned number);

// mapping.cc
void mmap(VmSpace& space, Call& call);
void ommap(VmSpace& space, Call& call);
void munmap(VmSpace& space, Call& call);
bool note_mmap(VmSpace& space, const protocol::TrapRequest& request);
bool note_munmap(VmSpace& space, const protocol::TrapRequest& request, std::int32_t pid);
// remapping.cc
void mremap(VmSpace& space, Call& call);
// protection.cc
void mprotect(VmSpace& space, Call& call);
bool note_mprotect(VmSpace& space, const protocol::TrapRequest& request);
// inheritance.cc
void minherit(VmSpace& space, Call& call);
// handing_over.cc
void hand_over(VmSpace& space, Call& call);
// advice.cc
void madvise(VmSpace& space, Call& call);
void posix_madvise(VmSpace& space, Call& call);
// content.cc
void msync(VmSpace& space, Call& call);
void mincore(VmSpace& space, Call& call);
/// Gives what the program stored to the files; also before it unlocks one. Answers within a second.
void exit(VmSpace& space, Call& call);
// files.cc
void file_read(VmSpace& space, Call& call);
void file_change(VmSpace& space, Call& call);
void file_changed(VmSpace& space, Call& call);
void locked(VmSpace& space, Call& call);
// inheritance.cc
void fork(VmSpace& space, Call& call);
void forked(VmSpace& space, Call& call);
// wiring.cc
void mlock(VmSpace& space, Call& call);
void munlock(VmSpace& space, Call& call);
bool note_mlock(VmSpace& space, const protocol::TrapRequest& request);
bool note_munlock(VmSpace& space, const protocol::TrapRequest& request);
void mlockall(VmSpace& space, Call& call);
void munlockall(VmSpace& space, Call& call);
// heap.cc
void brk(VmSpace& space, Call& call);
void sbrk(VmSpace& space, Call& call);
void sstk(VmSpace& space, Call& call);
void getpagesize(VmSpace& space, Call& call);
/// The session has handed on what the program had noted (protocol/note_ring.h).
void notes(VmSpace& space, Call& call);

// Shared by the calls above.

/// Makes what a program stored through tracked mappings of the range known to their objects, and,
/// with `write`, gives it to the pager; then calls `next`. The range is inaccessible to the program
/// from then on, so that no store can slip in behind. Calls `next` at once when nothing there is
/// tracked.
void settle_stores(VmSpace& space, Call& call, hal::VirtualRange range, bool write,
                   std::function<void()> next);

/// Fills in host_call steps for the host-owned parts of the range. Needs the space's lock.
/// Returns whether there was anything else.
bool pass_host_parts(VmSpace& space, Call& call, hal::VirtualRange range);

/// Calls `visit` with the parts of the range, by address: first with what is missing before the entry
/// (empty when nothing is), then the entry. What is missing at the end comes without an entry. What a
/// stack has not grown into is missing, too. Ends when `visit` returns false. Needs the space's lock.
void walk(VmMap& map, hal::VirtualRange range,
          const std::function<bool(hal::VirtualRange hole, MapEntry* entry)>& visit);

}  // namespace vm::calls
