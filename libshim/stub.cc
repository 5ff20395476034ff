#include "libshim/stub.h"

#include <poll.h>
#include <sched.h>
#include <stdint.h>
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
  const unsigned low = static_cast<unsigned>(
      own.socket < own.userfaultfd ? own.socket : own.userfaultfd);
  const unsigned high = static_cast<unsigned>(
      own.socket < own.userfaultfd ? own.userfaultfd : own.socket);
  if (low > 0) close_range(0, low - 1);
  close_range(low + 1, high - 1);
  close_range(high + 1, ~0u);
}

void run(void* argument) {
  const Watched own = *static_cast<const Watched*>(argument);
  keep_only(own);
  sys(SYS_chdir, "/");
  sys(SYS_prctl, PR_SET_NAME, "vmshim");
  for (;;) {
    pollfd server{own.socket, 0, 0};  // asks for nothing: only the end is reported
    const long woken = sys(SYS_ppoll, &server, 1, 0, 0, 0);
    if (woken > 0 && (server.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
      end_server_lost(true);
    }
  }
}

}  // namespace

long start_stub(int socket, int userfaultfd) {
  watched = {socket, userfaultfd};
  const unsigned long flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  stub_thread = vmshim_clone(flags, stack + sizeof(stack), run, &watched);
  return failed(stub_thread) ? stub_thread : 0;
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
