#include "libshim/stub.h"

#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "libshim/report.h"
#include "libshim/syscall.h"

#if defined(__x86_64__)
asm(R"(
  .text
  .hidden vmshim_clone
  .globl vmshim_clone
  .type vmshim_clone, @function
vmshim_clone:
  .cfi_startproc
  mov %rdx, %r8
  mov %rcx, %r9
  xor %edx, %edx
  xor %r10d, %r10d
  mov $56, %eax
  syscall
  test %rax, %rax
  jnz 1f
  .cfi_undefined rip
  xor %ebp, %ebp
  mov %r9, %rdi
  call *%r8
  hlt
1:
  ret
  .cfi_endproc
  .size vmshim_clone, . - vmshim_clone
)");
#elif defined(__aarch64__)
asm(R"(
  .text
  .hidden vmshim_clone
  .globl vmshim_clone
  .type vmshim_clone, %function
vmshim_clone:
  .cfi_startproc
  mov x10, x2
  mov x11, x3
  mov x2, #0
  mov x3, #0
  mov x4, #0
  mov x8, #220
  svc #0
  cbnz x0, 1f
  .cfi_undefined x30
  mov x29, #0
  mov x0, x11
  blr x10
  brk #0
1:
  ret
  .cfi_endproc
  .size vmshim_clone, . - vmshim_clone
)");
#endif

/// clone(2) with a function to run in the new thread, which must not return.
extern "C" long vmshim_clone(unsigned long flags, void* stack_top, void (*function)(void*),
                             void* argument);

namespace shim {
namespace {

struct Watched {
  int socket;
  int userfaultfd;
  int stop;  // an eventfd
};

// In memory that a forked child gets a copy of: its own stub begins from the top again.
alignas(64) char stack[16384];
Watched watched;
long stub_thread = -1;

constexpr unsigned kOfThread = 0200;  // PIDFD_THREAD, which is O_EXCL

void close_range(unsigned first, unsigned last) {
  if (first <= last) sys(SYS_close_range, first, last, 0);
}

// What the program has open must not stay open because of us: no pipe would ever end.
void keep_only(const Watched& own) {
  unsigned kept[] = {static_cast<unsigned>(own.socket), static_cast<unsigned>(own.userfaultfd),
                     static_cast<unsigned>(own.stop)};
  for (unsigned i = 1; i < 3; ++i) {
    for (unsigned j = i; j > 0 && kept[j] < kept[j - 1]; --j) {
      const unsigned swapped = kept[j];
      kept[j] = kept[j - 1];
      kept[j - 1] = swapped;
    }
  }
  unsigned from = 0;
  for (const unsigned one : kept) {
    if (one == ~0u) break;  // no eventfd could be had
    if (one > from) close_range(from, one - 1);
    from = one + 1;
  }
  close_range(from, ~0u);
}

// Of this thread alone. A change of user makes the whole process one that leaves no core files; that
// it was one that does is put back.
void give_up_root() {
  constexpr long kNobody = 65534;
  if (sys(SYS_geteuid) != 0) return;
  const long dumpable = sys(SYS_prctl, PR_GET_DUMPABLE);
  sys(SYS_setgroups, 0, 0);
  sys(SYS_setresgid, kNobody, kNobody, kNobody);
  sys(SYS_setresuid, kNobody, kNobody, kNobody);
  if (dumpable == 1) sys(SYS_prctl, PR_SET_DUMPABLE, 1);
}

void run(void* argument) {
  const Watched own = *static_cast<const Watched*>(argument);
  keep_only(own);
  sys(SYS_chdir, "/");
  sys(SYS_prctl, PR_SET_NAME, "vmshim");
  give_up_root();
  for (;;) {
    // Of the server nothing is asked: only its end is reported.
    pollfd awaited[] = {{own.socket, 0, 0}, {own.stop, POLLIN, 0}};
    const long woken = sys(SYS_ppoll, awaited, 2, 0, 0, 0);
    if (woken <= 0) continue;
    if ((awaited[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) end_server_lost(true);
    if ((awaited[1].revents & POLLIN) != 0) {
      for (;;) sys(SYS_exit, 0);
    }
  }
}

}  // namespace

long start_stub(int socket, int userfaultfd) {
  const long stop = sys(SYS_eventfd2, 0, EFD_CLOEXEC);
  watched = {socket, userfaultfd, failed(stop) ? -1 : static_cast<int>(stop)};
  const unsigned long flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  stub_thread = vmshim_clone(flags, stack + sizeof(stack), run, &watched);
  // It has a table of its own.
  if (!failed(stop)) sys(SYS_close, stop);
  return failed(stub_thread) ? stub_thread : 0;
}

bool stop_stub() {
  const long process = sys(SYS_getpid);
  if (failed(stub_thread) || failed(sys(SYS_tgkill, process, stub_thread, 0))) return false;
  const long thread = sys(SYS_pidfd_open, stub_thread, kOfThread);
  if (failed(thread)) return false;
  const long stop = watched.stop < 0 ? -1 : sys(SYS_pidfd_getfd, thread, watched.stop, 0);
  const uint64_t once = 1;
  const bool told = !failed(stop) && !failed(sys(SYS_write, stop, &once, sizeof(once)));
  if (!failed(stop)) sys(SYS_close, stop);
  if (told) {
    pollfd ended{static_cast<int>(thread), POLLIN, 0};
    while (sys(SYS_ppoll, &ended, 1, 0, 0, 0) <= 0) {
    }
    // It is told of a moment before the kernel has taken it off the process's list.
    while (!failed(sys(SYS_tgkill, process, stub_thread, 0))) sys(SYS_sched_yield);
    stub_thread = -1;
  }
  sys(SYS_close, thread);
  return told;
}

bool fetch_from_stub(int& socket, int& userfaultfd) {
  if (failed(stub_thread)) return false;
  const long thread = sys(SYS_pidfd_open, stub_thread, kOfThread);
  if (failed(thread)) return false;
  const long first = sys(SYS_pidfd_getfd, thread, watched.socket, 0);
  const long second = sys(SYS_pidfd_getfd, thread, watched.userfaultfd, 0);
  sys(SYS_close, thread);
  if (failed(first) || failed(second)) {
    if (!failed(first)) sys(SYS_close, first);
    if (!failed(second)) sys(SYS_close, second);
    return false;
  }
  socket = static_cast<int>(first);
  userfaultfd = static_cast<int>(second);
  return true;
}

}  // namespace shim
