// The state of the one session that a process has, and what beginning a session (session.cc) and
// making calls in it (session_call.cc) have in common. Nobody else's.
#pragma once

#include <stdint.h>
#include <sys/un.h>

#include "libshim/descriptors.h"
#include "libshim/lock.h"
#include "libshim/private_memory.h"
#include "libshim/syscall.h"
#include "protocol/linger.h"
#include "protocol/note_ring.h"
#include "protocol/paths.h"
#include "protocol/trap_frame.h"

namespace shim {

constexpr uint64_t kPage = 4096;

/// Where the program may map private memory by itself: at `start`, up to `end`. No lease: both 0.
struct Lease {
  uint64_t start = 0;
  uint64_t end = 0;
};

/// What `state` says.
enum State : int { kNotYet, kServed, kUnserved };

/// What lingers here.
struct ShimHost {
  static int64_t now_ns() {
    timespec now{};
    sys(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }
  static void yield() { sys(SYS_sched_yield); }
  static int processors() {
    uint64_t allowed[16];
    const long bytes = sys(SYS_sched_getaffinity, 0, sizeof(allowed), allowed);
    if (failed(bytes)) return 2;  // more than there is room for
    int count = 0;
    for (long i = 0; i < bytes / 8; ++i) count += __builtin_popcountll(allowed[i]);
    return count;
  }
};

/// All of it is plain memory: a forked child has a copy and finds out by `parent_mark` that it is
/// one.
struct SessionState {
  Lock lock;
  Lock changing;  // see begin_changing()
  int state = kNotYet;
  int socket = -1;
  int userfaultfd = -1;
  int spare = -1;  // the userfaultfd once more: room for a child whose parent has no number left
  Identity socket_identity;
  Identity userfaultfd_identity;
  const protocol::Nameplate* nameplate = nullptr;
  volatile int* parent_mark = nullptr;  // 1; wiped on fork
  protocol::NoteRing* notes = nullptr;  // none: what is done by itself is told with a message each
  uint32_t sequence = 0;
  unsigned page_size = kPage;
  protocol::BasicLinger<ShimHost> linger{30};  // for the answer
  bool tracks = false;
  PrivateMemory own;               // what is plain private memory
  uint64_t lock_credit = 0;        // pages that may be locked without asking, as of the last answer
  uint64_t lock_limit = 0;         // the RLIMIT_MEMLOCK that it was given for
  Lease lease;                     // as of the last answer, and what was done since
  bool overcommits = false;        // the program's own mappings take MAP_NORESERVE
  bool may_tell = false;           // the server lets us do some calls by ourselves
  bool pages_leave = false;        // the server takes pages out
  bool unheard = false;            // it may not have heard yet of what we did
  bool prepare_forks = false;      // the server wants to hear of forks before they happen
  bool maps_files = false;         // a mapping was made of a descriptor
  bool stores_into_files = false;  // and a shared one
  char path[sizeof(sockaddr_un{}.sun_path)] = VM_DEFAULT_SOCKET;
};
extern SessionState self;

/// Sees to it that the socket and the userfaultfd are the session's: the program may have closed
/// them, or made something else of their numbers. Ends the process when neither the stub nor the
/// server has them. Needs the lock.
void check_descriptors();
/// The same where only the userfaultfd is needed.
void check_userfaultfd();

/// Opens `spare`, if there is a number left for it. Needs the lock.
void make_spare();

/// A negative errno if it could not be sent. Needs the lock.
long send_request(const protocol::TrapRequest& request, int descriptor);

/// Tells the server that its operations are done, or which one (-1: none) failed with what errno.
/// False when the server does not hear of it.
bool say_done(int socket, uint32_t sequence, int failed_op, int error);

}  // namespace shim
