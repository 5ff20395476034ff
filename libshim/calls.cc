// The functions that programs built with the host's headers call.
//
// They are found before libc's because the library is preloaded, or linked before libc. What libc
// calls for itself arrives in libc_calls.cc.
#include "libshim/calls.h"

#include <linux/ioctl.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "libshim/file_calls.h"

extern "C" int __register_atfork(void (*prepare)(), void (*parent)(), void (*child)(), void* dso);
extern "C" void* __dso_handle;

namespace {

constexpr shim::Calls calls(protocol::kAbiLinux);

__attribute__((constructor(101))) void start() {
  const int saved = errno;
  shim::ensure_session();
  __register_atfork(shim::before_fork, shim::after_fork_in_parent, shim::after_fork_in_child,
                    &__dso_handle);
  errno = saved;
}

__attribute__((destructor(101))) void stop() { shim::at_exit(); }

}  // namespace

VMSHIM_EXPORT void* mmap(void* address, size_t length, int protection, int flags, int descriptor,
                         int64_t offset) {
  return calls.map(protocol::kCallMmap, address, length, protection, flags, descriptor, offset);
}

VMSHIM_EXPORT void* mmap64(void* address, size_t length, int protection, int flags, int descriptor,
                           int64_t offset) {
  return calls.map(protocol::kCallMmap, address, length, protection, flags, descriptor, offset);
}

VMSHIM_EXPORT int munmap(void* address, size_t length) {
  return calls.on_range(protocol::kCallMunmap, address, length);
}

VMSHIM_EXPORT void* mremap(void* address, size_t old_length, size_t new_length, int flags, ...) {
  va_list list;
  va_start(list, flags);
  void* const target = va_arg(list, void*);
  va_end(list);
  return calls.mremap(address, old_length, new_length, flags, target);
}

VMSHIM_EXPORT int mprotect(void* address, size_t length, int protection) {
  return calls.on_range(protocol::kCallMprotect, address, length, calls.signed_word(protection));
}

VMSHIM_EXPORT int msync(void* address, size_t length, int flags) {
  return calls.on_range(protocol::kCallMsync, address, length, calls.unsigned_word(flags));
}

VMSHIM_EXPORT int madvise(void* address, size_t length, int advice) {
  return calls.on_range(protocol::kCallMadvise, address, length, calls.signed_word(advice));
}

VMSHIM_EXPORT int posix_madvise(void* address, size_t length, int advice) {
  return calls.posix_madvise(address, length, advice);
}

VMSHIM_EXPORT int mincore(void* address, size_t length, unsigned char* vector) {
  return calls.mincore(address, length, vector);
}

VMSHIM_EXPORT int mlock(const void* address, size_t length) {
  return calls.on_range(protocol::kCallMlock, address, length);
}

VMSHIM_EXPORT int mlock2(const void* address, size_t length, unsigned flags) {
  return calls.on_range(protocol::kCallMlock2, address, length, flags);
}

VMSHIM_EXPORT int munlock(const void* address, size_t length) {
  return calls.on_range(protocol::kCallMunlock, address, length);
}

VMSHIM_EXPORT int mlockall(int how) {
  return calls.with(protocol::kCallMlockall, calls.unsigned_word(how));
}

VMSHIM_EXPORT int munlockall() { return calls.with(protocol::kCallMunlockall, 0); }

VMSHIM_EXPORT int brk(void* address) { return calls.brk(address); }

VMSHIM_EXPORT void* sbrk(intptr_t increment) { return calls.sbrk(increment); }

VMSHIM_EXPORT int getpagesize() { return calls.getpagesize(); }

// Where a program wants to handle faults of its own, the server lets go of the memory.
VMSHIM_EXPORT int ioctl(int descriptor, unsigned long request, ...) {
  va_list list;
  va_start(list, request);
  void* const argument = va_arg(list, void*);
  va_end(list);
  long result = 0;
  if (shim::clone_file(descriptor, request, argument, result)) return calls.host_status(result);
  result = shim::sys(SYS_ioctl, descriptor, request, argument);
  if (result == -EBUSY && request == UFFDIO_REGISTER) {
    const auto* const wanted = static_cast<const uffdio_register*>(argument);
    if (calls.hand_over(wanted->range.start, wanted->range.len)) {
      result = shim::sys(SYS_ioctl, descriptor, request, argument);
    }
  }
  return calls.host_status(result);
}

// The kernel refuses these to a process with threads where user namespaces are concerned.
VMSHIM_EXPORT int unshare(int flags) {
  constexpr int kAlone = CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
  return calls.in_namespaces(SYS_unshare, flags, 0, (flags & kAlone) != 0);
}

VMSHIM_EXPORT int setns(int descriptor, int type) {
  return calls.in_namespaces(SYS_setns, descriptor, type, true);
}

// FreeBSD's; the host has none.
VMSHIM_EXPORT void* sstk(int increment) { return calls.sstk(increment); }

VMSHIM_EXPORT int minherit(void* address, size_t length, int inherit) {
  return calls.on_range(protocol::kCallMinherit, address, length, calls.signed_word(inherit));
}
