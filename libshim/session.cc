// How a session begins, what a forked child makes of it, and how it goes on when the program has
// closed its descriptors.
#include "libshim/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "libshim/descriptors.h"
#include "libshim/file_calls.h"
#include "libshim/file_view.h"
#include "libshim/host_ops.h"
#include "libshim/libc_calls.h"
#include "libshim/lock.h"
#include "libshim/own_calls.h"
#include "libshim/report.h"
#include "libshim/session_state.h"
#include "libshim/stub.h"
#include "libshim/stub_pages.h"
#include "libshim/syscall.h"
#include "protocol/paths.h"

#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

namespace shim {

constinit SessionState self;

namespace {

#if defined(__aarch64__)
constexpr uint64_t kMapMaximum = uint64_t{1} << 48;
#else
constexpr uint64_t kMapMaximum = 0x7ffffffff000;
#endif

// The page whose absence tells a forked child.
void mark_parent() {
  if (self.parent_mark == nullptr) {
    const long page =
        sys(SYS_mmap, 0, kPage, 3 /* read, write */, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (failed(page)) return;
    sys(SYS_madvise, page, kPage, MADV_WIPEONFORK);
    self.parent_mark = reinterpret_cast<volatile int*>(page);
  }
  *self.parent_mark = 1;
}

bool is_child() { return self.parent_mark != nullptr && *self.parent_mark != 1; }

// The page that tells a child who it is. Returns its address, or a negative errno.
long make_nameplate() {
  const long page =
      sys(SYS_mmap, 0, kPage, 1 /* read */, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (failed(page)) return page;
  const long wiped = sys(SYS_madvise, page, kPage, MADV_WIPEONFORK);
  return failed(wiped) ? wiped : page;
}

void keep(int socket, int userfaultfd, bool with_stub) {
  self.socket = move_high(socket);
  self.userfaultfd = move_high(userfaultfd);
  self.socket_identity = identity_of(self.socket);
  self.userfaultfd_identity = identity_of(self.userfaultfd);
  make_spare();
  mark_parent();
  // One that closed our descriptors still has its stub, with descriptors of its own.
  if (!with_stub) return;
  const long started = start_stub(self.socket, self.userfaultfd, self.pages_leave);
  if (failed(started)) say_debug("no thread to watch the server: ", error_text(-started));
}

// Looks at the server's file board from here on; its descriptor is closed.
long show_board(int descriptor) {
  if (descriptor < 0) return -EPROTO;
  const long page = sys(SYS_mmap, 0, kPage, 1 /* read */, MAP_SHARED, descriptor, 0);
  close_descriptor(descriptor);
  if (!failed(page)) file_board = reinterpret_cast<const protocol::FileBoard*>(page);
  return page;
}

// What is done by itself is written down there from here on; the descriptor is closed.
void note_at(int descriptor) {
  if (descriptor < 0) return;
  constexpr uint64_t kBytes = sizeof(protocol::NoteRing);
  const long ring = sys(SYS_mmap, 0, kBytes, 3 /* read, write */, MAP_SHARED, descriptor, 0);
  close_descriptor(descriptor);
  if (failed(ring)) return;
  if (failed(sys(SYS_madvise, ring, kBytes, MADV_DONTFORK))) {
    sys(SYS_munmap, ring, kBytes);
    return;
  }
  self.notes = reinterpret_cast<protocol::NoteRing*>(ring);
}

// Steps 1 to 4 of a session (protocol/trap_frame.h). Returns a negative errno and what failed.
long begin(const char*& what) {
  what = "connect";
  const long socket = connect_to_server(self.path);
  if (failed(socket)) return socket;

  what = "greeting";
  protocol::Welcome welcome{};
  const Received greeted = receive(static_cast<int>(socket), &welcome, sizeof(welcome));
  if (greeted.bytes != sizeof(welcome) || welcome.magic != protocol::kMagic ||
      welcome.version != protocol::kVersion || greeted.descriptor < 0) {
    return failed(greeted.bytes) ? greeted.bytes : -EPROTO;
  }
  self.page_size = welcome.page_size;
  self.may_tell = (welcome.flags & protocol::kWelcomeDone) != 0;
  self.overcommits = (welcome.flags & protocol::kWelcomeOvercommits) != 0;
  self.pages_leave = (welcome.flags & protocol::kWelcomePages) != 0;

  what = "userfaultfd";
  const long userfaultfd =
      sys(SYS_ioctl, greeted.descriptor, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
  close_descriptor(greeted.descriptor);
  if (failed(userfaultfd)) return userfaultfd;

  what = "a page for the nameplate";
  const long nameplate = make_nameplate();
  if (failed(nameplate)) return nameplate;

  what = "session";
  protocol::Begin request{};
  request.magic = protocol::kMagic;
  request.version = protocol::kVersion;
  request.nameplate = static_cast<uint64_t>(nameplate);
  request.program_headers = getauxval(AT_PHDR);
  request.map_minimum = 0;
  request.map_maximum = kMapMaximum;
  long sent;
  {
    Passed passed;
    passed.add(static_cast<int>(userfaultfd));
    request.proc_files = passed.add_proc_files();
    sent = send(static_cast<int>(socket), &request, sizeof(request), passed.descriptors(),
                passed.count());
  }
  if (failed(sent)) return sent;
  protocol::TrapReply reply;
  const Received answered = receive(static_cast<int>(socket), &reply, sizeof(reply));
  if (failed(answered.bytes)) return answered.bytes;
  if (answered.bytes < static_cast<long>(sizeof(reply.header))) return -ECONNRESET;
  if (reply.header.error != 0) return -reply.header.error;

  what = "the file board";
  const long shown = show_board(answered.descriptor);
  if (failed(shown)) return shown;

  what = "a place for notes";
  const Received notes = receive(static_cast<int>(socket), &reply, sizeof(reply));
  if (failed(notes.bytes)) return notes.bytes;
  if (notes.bytes < static_cast<long>(sizeof(reply.header))) return -ECONNRESET;
  note_at(notes.descriptor);

  self.nameplate = reinterpret_cast<const protocol::Nameplate*>(nameplate);
  keep(static_cast<int>(socket), static_cast<int>(userfaultfd), true);
  return 0;
}

// Without its parent's memory a child must not go on.
[[noreturn]] void end_for_want_of_memory(long error) {
  say("what a forked child gets of its parent's memory cannot be mapped: ", error_text(error));
  end_process(VM_EXIT_NO_MEMORY);
}

// What a child has to set right in its address space; false when the server does not hear of it.
bool settle(int socket, const protocol::TrapReply& reply, int userfaultfd, int descriptor) {
  HostOpContext context;
  context.userfaultfd = userfaultfd;
  context.descriptor = descriptor;
  int error = 0;
  const int failed_op = run_host_ops(reply.ops, reply.header.op_count, context, error);
  close_descriptor(descriptor);
  if (failed_op < 0) error = reply.header.error;
  if (error != 0) end_for_want_of_memory(error);
  const bool final = (reply.header.flags & protocol::kReplyFinal) != 0;
  if (final && (reply.header.flags & protocol::kReplyAcknowledge) == 0) return true;
  return say_done(socket, reply.header.sequence, failed_op, 0);
}

// A new session for an address space that the server knows already: a forked child's, or one whose
// program has closed the socket. `over` is a socket to ask over, or -1 for a new connection. With `last`
// that is closed once it has been asked: there may be no other number for what the answer brings.
bool adopt(int over, bool last) {
  protocol::Adopt request{};
  request.magic = protocol::kAdoptMagic;
  request.version = protocol::kVersion;
  request.who = *self.nameplate;
  if (self.unheard) request.flags = protocol::kAdoptUnheard;
  self.lease = {};
  self.lock_credit = 0;
  // Before the server looks what a child has of its parent's memory.
  give_up_kept();

  int pair[2] = {-1, -1};
  int socket = -1;
  if (over >= 0) {
    if (failed(sys(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))) {
      if (last) close_descriptor(over);
      return false;
    }
    socket = pair[0];
  } else {
    const long connected = connect_to_server(self.path);
    if (failed(connected)) return false;
    socket = over = static_cast<int>(connected);
    protocol::Welcome welcome{};
    close_descriptor(receive(socket, &welcome, sizeof(welcome)).descriptor);
  }
  long sent;
  {
    Passed passed;
    if (pair[1] >= 0) passed.add(pair[1]);
    request.proc_files = passed.add_proc_files();
    sent = send(over, &request, sizeof(request), passed.descriptors(), passed.count());
  }
  close_descriptor(pair[1]);
  if (last) close_descriptor(over);

  protocol::TrapReply reply;
  Received answered;
  if (!failed(sent)) answered = receive(socket, &reply, sizeof(reply));
  if (answered.bytes < static_cast<long>(sizeof(reply.header)) || answered.descriptor < 0) {
    close_descriptor(socket);
    close_descriptor(answered.descriptor);
    return false;
  }
  const int userfaultfd = answered.descriptor;
  answered = receive(socket, &reply, sizeof(reply));
  if (answered.bytes < static_cast<long>(sizeof(reply.header))) {
    close_descriptor(socket);
    close_descriptor(userfaultfd);
    return false;
  }
  note_at(answered.descriptor);
  while ((reply.header.flags & protocol::kReplyFinal) == 0) {
    answered = receive(socket, &reply, sizeof(reply));
    if (answered.bytes < static_cast<long>(sizeof(reply.header)) ||
        !settle(socket, reply, userfaultfd, answered.descriptor)) {
      close_descriptor(socket);
      close_descriptor(userfaultfd);
      return false;
    }
  }
  keep(socket, userfaultfd, is_child());
  return true;
}

void start_session() {
  const char* socket = getenv(VM_ENV_SOCKET);
  const char* on_error = getenv(VM_ENV_ON_ERROR);
  const char* log = getenv(VM_ENV_LOG);
  const char* capture = getenv(VM_ENV_CAPTURE);
  set_debug(log != nullptr && strcmp(log, "debug") == 0);
  const bool plt_only = capture != nullptr && strcmp(capture, "plt") == 0;
  if (capture != nullptr && !plt_only && strcmp(capture, "libc") != 0) {
    say(VM_ENV_CAPTURE "=", capture, " is neither libc nor plt");
  } else {
    const char* what = "socket path too long";
    long result = -ENAMETOOLONG;
    if (socket == nullptr || strlen(socket) < sizeof(self.path)) {
      if (socket != nullptr) strcpy(self.path, socket);
      result = begin(what);
    }
    if (!failed(result)) {
      __atomic_store_n(&self.state, kServed, __ATOMIC_RELEASE);
      say_debug("served at ", self.path);
      if (!plt_only) catch_libc_calls();
      catch_file_calls();
      return;
    }
    say("no VM server at ", self.path, ": ", what, ": ", error_text(-result));
  }
  if (on_error == nullptr || strcmp(on_error, "native") != 0) end_process(VM_EXIT_NO_SERVER);
  __atomic_store_n(&self.state, kUnserved, __ATOMIC_RELEASE);
}

// The child of a fork. No other thread exists in it.
void become_child(bool own_table) {
  self.lock.reset();
  self.changing.reset();
  forget_held_orders();
  self.notes = nullptr;  // the parent's; there is nothing here
  const int socket = self.socket;
  const int userfaultfd = self.userfaultfd;
  const bool intact = identity_of(socket) == self.socket_identity;
  // The parent's, and of no use here. But the child of a raw clone may share the parent's table
  // (CLONE_FILES), where these are the parent's still.
  const int theirs[] = {userfaultfd, self.spare};
  for (const int one : theirs) {
    if (own_table && identity_of(one) == self.userfaultfd_identity) close_descriptor(one);
  }
  if (!(intact && adopt(socket, own_table)) && !adopt(-1, false)) end_server_lost(false);
  if (self.spare < 0) make_spare();
}

// From the stub, unless its descriptors are those of a session before this one.
bool take_back() {
  int socket = -1;
  int userfaultfd = -1;
  if (!fetch_from_stub(socket, userfaultfd)) return false;
  if (!(identity_of(socket) == self.socket_identity) ||
      !(identity_of(userfaultfd) == self.userfaultfd_identity)) {
    close_descriptor(socket);
    close_descriptor(userfaultfd);
    return false;
  }
  // One that is still open would be left over.
  if (identity_of(self.socket) == self.socket_identity) close_descriptor(self.socket);
  if (identity_of(self.userfaultfd) == self.userfaultfd_identity) {
    close_descriptor(self.userfaultfd);
  }
  self.socket = move_high(socket);
  self.userfaultfd = move_high(userfaultfd);
  if (!(identity_of(self.spare) == self.userfaultfd_identity)) make_spare();
  return true;
}

}  // namespace

void make_spare() {
  long spare = duplicate_high(self.userfaultfd);
  if (failed(spare)) spare = sys(SYS_fcntl, self.userfaultfd, F_DUPFD_CLOEXEC, 0);
  self.spare = failed(spare) ? -1 : static_cast<int>(spare);
}

void check_descriptors() {
  if (identity_of(self.socket) == self.socket_identity &&
      identity_of(self.userfaultfd) == self.userfaultfd_identity) {
    return;
  }
  if (!take_back() && !adopt(-1, false)) end_server_lost(false);
}

void check_userfaultfd() {
  if (!(identity_of(self.userfaultfd) == self.userfaultfd_identity)) check_descriptors();
}

bool say_done(int socket, uint32_t sequence, int failed_op, int error) {
  protocol::TrapRequest next{};
  next.magic = protocol::kMagic;
  next.sequence = sequence;
  next.call = protocol::kCallContinue;
  next.args[0] = static_cast<uint64_t>(static_cast<int64_t>(failed_op));
  next.args[1] = static_cast<uint64_t>(error);
  return !failed(send(socket, &next, sizeof(next), nullptr, 0));
}

bool ensure_session(bool after_fork) {
  const int state = __atomic_load_n(&self.state, __ATOMIC_ACQUIRE);
  if (state == kServed && !is_child()) return true;
  if (state == kUnserved) return false;
  SignalsBlocked blocked;
  if (state == kServed) {
    become_child(after_fork);
    return true;
  }
  self.lock.acquire();
  if (self.state == kNotYet) start_session();
  self.lock.release();
  return self.state == kServed;
}

unsigned page_size() { return self.page_size; }

long without_stub(long number, long first, long second) {
  if (!ensure_session()) return sys(number, first, second);
  SignalsBlocked blocked;
  self.lock.acquire();
  check_descriptors();
  const bool stopped = stop_stub();
  const long result = sys(number, first, second);
  if (stopped) start_stub(self.socket, self.userfaultfd, self.pages_leave);
  self.lock.release();
  return result;
}

void at_exit() {
  if (self.state != kServed || !self.tracks || is_child()) return;
  const uint64_t none[6] = {};
  call(protocol::kCallExit, none);
}

namespace {

void announce_fork() {
  if (!self.prepare_forks || self.state != kServed || is_child()) return;
  const uint64_t thread[6] = {static_cast<uint64_t>(sys(SYS_gettid))};
  const Result result = call(protocol::kCallFork, thread);
  if (result.error != 0) say("what a child is to have a copy of cannot be kept: ",
                             error_text(result.error));
}

}  // namespace

// The lock is not kept across the fork: libc takes malloc's locks meanwhile, and whoever holds one of
// those may be waiting for ours.
void before_fork() {
  announce_fork();
  hold_orders();
}

void after_fork_in_parent() {
  resume_orders();
  if (!self.prepare_forks || self.state != kServed) return;
  const uint64_t thread[6] = {static_cast<uint64_t>(sys(SYS_gettid))};
  call(protocol::kCallForked, thread);
}

void after_fork_in_child() {
  if (self.state == kServed) ensure_session(true);
}

}  // namespace shim
