#include "libshim/stub.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "libshim/descriptors.h"
#include "libshim/report.h"
#include "libshim/stub_pages.h"
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
  Hands hands;
};

// In memory that a forked child gets a copy of: its own stub begins from the top again.
alignas(64) char stack[16384];
// The session begins before other files' constructors run.
constinit Watched watched{-1, -1, -1, {}};
long stub_thread = -1;

constexpr unsigned kOfThread = 0200;  // PIDFD_THREAD, which is O_EXCL
// How often is looked whether only the stub is left of the process.
constexpr long kLookMs = 250;

struct linux_dirent64 {
  uint64_t inode;
  int64_t offset;
  uint16_t bytes;
  uint8_t type;
  char name[];
};

void close_range(unsigned first, unsigned last) {
  if (first <= last) sys(SYS_close_range, first, last, 0);
}

// What the program has open must not stay open because of us: no pipe would ever end.
void keep_only(const Watched& own) {
  unsigned kept[] = {static_cast<unsigned>(own.socket), static_cast<unsigned>(own.userfaultfd),
                     static_cast<unsigned>(own.stop), static_cast<unsigned>(own.hands.orders),
                     static_cast<unsigned>(own.hands.pipe)};
  constexpr unsigned kCount = sizeof(kept) / sizeof(kept[0]);
  for (unsigned i = 1; i < kCount; ++i) {
    for (unsigned j = i; j > 0 && kept[j] < kept[j - 1]; --j) {
      const unsigned swapped = kept[j];
      kept[j] = kept[j - 1];
      kept[j - 1] = swapped;
    }
  }
  unsigned from = 0;
  for (const unsigned one : kept) {
    if (one == ~0u) break;  // what could not be had
    if (one > from) close_range(from, one - 1);
    from = one + 1;
  }
  close_range(from, ~0u);
}

// The exit status of the program's first thread, or -1 while it lives. `status`: an open
// /proc/self/stat.
long status_of_first(int status) {
  char text[1024];
  long end = sys(SYS_pread64, status, text, sizeof(text), 0);
  // "PID (NAME) STATE ... EXIT_CODE\n", and a name can hold anything.
  long at = end - 3;
  while (at > 0 && text[at] != ')') --at;
  if (at <= 0 || text[at + 2] != 'Z') return -1;
  while (end > 0 && (text[end - 1] < '0' || text[end - 1] > '9')) --end;
  long first = end;
  while (first > 0 && text[first - 1] >= '0' && text[first - 1] <= '9') --first;
  long code = 0;
  for (; first < end; ++first) code = code * 10 + (text[first] - '0');
  return code >> 8 & 0xff;
}

// Whether the program's first thread and this one are all that the kernel lists of the process.
// `threads`: an open /proc/self/task.
bool is_last(int threads) {
  alignas(8) char entries[512];
  unsigned count = 0;
  sys(SYS_lseek, threads, 0, 0);
  for (;;) {
    const long bytes = sys(SYS_getdents64, threads, entries, sizeof(entries));
    if (failed(bytes)) return false;
    if (bytes == 0) break;
    for (long at = 0; at < bytes;) {
      const auto* const entry = reinterpret_cast<const linux_dirent64*>(entries + at);
      if (entry->name[0] != '.') ++count;
      at += entry->bytes;
    }
  }
  return count <= 2;
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

int descriptor_of(long result) { return failed(result) ? -1 : static_cast<int>(result); }

[[noreturn]] void end_thread(long status) {
  for (;;) sys(SYS_exit, status);
}

void run(void* argument) {
  Watched own = *static_cast<const Watched*>(argument);
  keep_only(own);
  sys(SYS_chdir, "/");
  sys(SYS_prctl, PR_SET_NAME, "vmshim");
  // Where the program goes with its root directory, these stay.
  const int threads = descriptor_of(
      sys(SYS_openat, AT_FDCWD, "/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const int status =
      descriptor_of(sys(SYS_openat, AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC));
  open_memory(own.hands);
  give_up_root();
  for (;;) {
    // Of the program's socket nothing is asked: only its end is reported.
    pollfd awaited[] = {{own.socket, 0, 0}, {own.stop, POLLIN, 0}, {own.hands.orders, POLLIN, 0}};
    timespec period{0, kLookMs * 1'000'000};
    const long woken = sys(SYS_ppoll, awaited, 3, &period, 0, 0);
    if (woken > 0 && (awaited[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
      end_server_lost(true);
    }
    if (woken > 0 && (awaited[1].revents & POLLIN) != 0) end_thread(0);
    if (woken > 0 && awaited[2].revents != 0) {
      if (failed(take_order(own.hands, own.userfaultfd))) {
        close_hands(own.hands);
        own.hands = {};
      }
    }
    // A process whose threads each ended by themselves (the child of a clone that returns from its
    // function makes no exit_group) natively ends with the last of them. Nothing tells: since Linux
    // 6.15 a pidfd of the first thread waits for us, too. The process's status is that of its last
    // thread.
    const long ended = status_of_first(status);
    if (ended >= 0 && is_last(threads)) end_thread(ended);
  }
}

}  // namespace

long start_stub(int socket, int userfaultfd, bool pages) {
  const long stop = sys(SYS_eventfd2, 0, EFD_CLOEXEC);
  watched = {socket, userfaultfd, failed(stop) ? -1 : static_cast<int>(stop), {}};
  const long handless = pages ? make_hands(socket, userfaultfd, watched.hands) : 0;
  if (failed(handless)) say_debug("no page can be taken out: ", error_text(-handless));
  const unsigned long flags = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  stub_thread = vmshim_clone(flags, stack + sizeof(stack), run, &watched);
  // It has a table of its own.
  if (!failed(stop)) sys(SYS_close, stop);
  close_hands(watched.hands);
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
    drop_hold(watched.hands);
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
