// The functions that programs call: each carries its arguments to the server and its answer back.
//
// They are found before libc's because the library is preloaded. <sys/mman.h> is not included: its
// declarations differ from call to call in what they promise (noexcept, nonnull), and a wrapper
// must not promise more than its callers keep.
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "libshim/host_ops.h"
#include "libshim/report.h"
#include "libshim/session.h"
#include "libshim/syscall.h"

extern "C" void* __curbrk __attribute__((weak));
extern "C" int __register_atfork(void (*prepare)(), void (*parent)(), void (*child)(), void* dso);
extern "C" void* __dso_handle;

#define VMSHIM_EXPORT extern "C" __attribute__((visibility("default")))

namespace shim {
namespace {

using protocol::CallNumber;

uint64_t word(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

// The outcome of a call, from the server or, in an unserved program, from the host.
Result perform(CallNumber number, const uint64_t (&args)[6], int descriptor = -1) {
  if (ensure_session()) return call(number, args, descriptor);
  const long result = host_call(number, args);
  if (failed(result)) return {0, static_cast<int>(-result)};
  return {result, 0};
}

int status(const Result& result) {
  if (result.error == 0) return 0;
  errno = result.error;
  return -1;
}

void* pointer(const Result& result) {
  if (result.error == 0) return reinterpret_cast<void*>(result.value);
  errno = result.error;
  return reinterpret_cast<void*>(-1);
}

void* map(void* address, size_t length, int protection, int flags, int descriptor,
          int64_t offset) {
  const uint64_t args[6] = {word(address),
                            length,
                            static_cast<uint64_t>(protection),
                            static_cast<uint64_t>(static_cast<unsigned>(flags)),
                            static_cast<uint64_t>(static_cast<int64_t>(descriptor)),
                            static_cast<uint64_t>(offset)};
  return pointer(perform(protocol::kCallMmap, args, descriptor));
}

// mincore's vector is the program's: a bad one is EFAULT, and only the kernel can tell safely.
struct Vector {
  unsigned char* at;
};

bool put(void* context, const uint8_t* data, uint32_t bytes) {
  Vector& vector = *static_cast<Vector*>(context);
  struct {
    const void* base;
    size_t size;
  } from{data, bytes}, to{vector.at, bytes};
  const long process = sys(SYS_getpid);
  const long copied = sys(SYS_process_vm_writev, process, &from, 1, &to, 1, 0);
  if (copied != static_cast<long>(bytes)) return false;
  vector.at += bytes;
  return true;
}

__attribute__((constructor(101))) void start() {
  const int saved = errno;
  ensure_session();
  __register_atfork(before_fork, after_fork_in_parent, after_fork_in_child, &__dso_handle);
  errno = saved;
}

__attribute__((destructor(101))) void stop() { at_exit(); }

}  // namespace
}  // namespace shim

using namespace shim;

VMSHIM_EXPORT void* mmap(void* address, size_t length, int protection, int flags, int descriptor,
                         int64_t offset) {
  return map(address, length, protection, flags, descriptor, offset);
}

VMSHIM_EXPORT void* mmap64(void* address, size_t length, int protection, int flags, int descriptor,
                           int64_t offset) {
  return map(address, length, protection, flags, descriptor, offset);
}

VMSHIM_EXPORT int munmap(void* address, size_t length) {
  const uint64_t args[6] = {word(address), length, 0, 0, 0, 0};
  return status(perform(protocol::kCallMunmap, args));
}

VMSHIM_EXPORT void* mremap(void* address, size_t old_length, size_t new_length, int flags, ...) {
  va_list list;
  va_start(list, flags);
  void* const target = va_arg(list, void*);
  va_end(list);
  const uint64_t args[6] = {word(address), old_length, new_length,
                            static_cast<uint64_t>(static_cast<unsigned>(flags)), word(target), 0};
  return pointer(perform(protocol::kCallMremap, args));
}

VMSHIM_EXPORT int mprotect(void* address, size_t length, int protection) {
  const uint64_t args[6] = {word(address), length, static_cast<uint64_t>(protection), 0, 0, 0};
  return status(perform(protocol::kCallMprotect, args));
}

VMSHIM_EXPORT int msync(void* address, size_t length, int flags) {
  const uint64_t args[6] = {word(address), length,
                            static_cast<uint64_t>(static_cast<unsigned>(flags)), 0, 0, 0};
  return status(perform(protocol::kCallMsync, args));
}

VMSHIM_EXPORT int madvise(void* address, size_t length, int advice) {
  const uint64_t args[6] = {word(address), length, static_cast<uint64_t>(advice), 0, 0, 0};
  return status(perform(protocol::kCallMadvise, args));
}

// Answers with the error instead of setting errno.
VMSHIM_EXPORT int posix_madvise(void* address, size_t length, int advice) {
  const uint64_t args[6] = {word(address), length, static_cast<uint64_t>(advice), 0, 0, 0};
  return perform(protocol::kCallPosixMadvise, args).error;
}

VMSHIM_EXPORT int mincore(void* address, size_t length, unsigned char* vector) {
  uint64_t args[6] = {word(address), length, word(vector), 0, 0, 0};
  if (!ensure_session()) return status(perform(protocol::kCallMincore, args));
  Vector sink{vector};
  const uint64_t pages = length / page_size() + (length % page_size() != 0 ? 1 : 0);
  do {
    const Result result =
        call(protocol::kCallMincore, args, -1, protocol::kAbiLinux, put, &sink);
    if (result.error != 0) return status(result);
    if (result.value == 0) break;
    args[3] += static_cast<uint64_t>(result.value);
  } while (args[3] < pages);
  return 0;
}

VMSHIM_EXPORT int mlock(const void* address, size_t length) {
  const uint64_t args[6] = {word(address), length, 0, 0, 0, 0};
  return status(perform(protocol::kCallMlock, args));
}

VMSHIM_EXPORT int mlock2(const void* address, size_t length, unsigned flags) {
  const uint64_t args[6] = {word(address), length, flags, 0, 0, 0};
  return status(perform(protocol::kCallMlock2, args));
}

VMSHIM_EXPORT int munlock(const void* address, size_t length) {
  const uint64_t args[6] = {word(address), length, 0, 0, 0, 0};
  return status(perform(protocol::kCallMunlock, args));
}

VMSHIM_EXPORT int mlockall(int how) {
  const uint64_t args[6] = {static_cast<uint64_t>(static_cast<unsigned>(how)), 0, 0, 0, 0, 0};
  return status(perform(protocol::kCallMlockall, args));
}

VMSHIM_EXPORT int munlockall() {
  const uint64_t args[6] = {};
  return status(perform(protocol::kCallMunlockall, args));
}

VMSHIM_EXPORT int brk(void* address) {
  const uint64_t args[6] = {word(address), 0, 0, 0, 0, 0};
  return status(perform(protocol::kCallBrk, args));
}

VMSHIM_EXPORT void* sbrk(intptr_t increment) {
  const uint64_t args[6] = {static_cast<uint64_t>(increment), 0, 0, 0, 0, 0};
  if (ensure_session()) return pointer(call(protocol::kCallSbrk, args));
  char* const old = static_cast<char*>(__curbrk);
  if (increment != 0 && brk(old + increment) != 0) return reinterpret_cast<void*>(-1);
  return old;
}

// FreeBSD's; the host has none.
VMSHIM_EXPORT void* sstk(int increment) {
  const uint64_t args[6] = {static_cast<uint64_t>(static_cast<int64_t>(increment)), 0, 0, 0, 0, 0};
  return pointer(perform(protocol::kCallSstk, args));
}

VMSHIM_EXPORT int minherit(void* address, size_t length, int inherit) {
  const uint64_t args[6] = {word(address), length, static_cast<uint64_t>(inherit), 0, 0, 0};
  return status(perform(protocol::kCallMinherit, args));
}

VMSHIM_EXPORT int getpagesize() {
  ensure_session();
  return static_cast<int>(page_size());
}
