// The functions that programs built with FreeBSD's headers (include/freebsd) call.
//
// The names that both systems have are told apart by their symbols: those headers bind mmap to
// freebsd_mmap, so a program with FreeBSD's numbers and a library with the host's live in one
// process. ommap and ogetpagesize are 4.3BSD's; no host has them, so they keep their names too.
#include <fcntl.h>
#include <sys/stat.h>

#include "libshim/calls.h"

// libc's; <sys/mman.h> would bring the host's numbers.
extern "C" int shm_open(const char* name, int flags, mode_t mode);
extern "C" int memfd_create(const char* name, unsigned flags);

namespace {

constexpr shim::Calls calls(protocol::kAbiFreebsd);

const char* const kShmAnon = reinterpret_cast<const char*>(1);
constexpr unsigned kCloseOnExec = 1;  // memfd_create's

}  // namespace

VMSHIM_EXPORT void* freebsd_mmap(void* address, size_t length, int protection, int flags,
                                 int descriptor, int64_t offset) {
  return calls.map(protocol::kCallMmap, address, length, protection, flags, descriptor, offset);
}

VMSHIM_EXPORT int freebsd_munmap(void* address, size_t length) {
  return calls.on_range(protocol::kCallMunmap, address, length);
}

VMSHIM_EXPORT int freebsd_mprotect(const void* address, size_t length, int protection) {
  return calls.on_range(protocol::kCallMprotect, address, length, calls.signed_word(protection));
}

VMSHIM_EXPORT int freebsd_msync(void* address, size_t length, int flags) {
  return calls.on_range(protocol::kCallMsync, address, length, calls.unsigned_word(flags));
}

VMSHIM_EXPORT int freebsd_madvise(void* address, size_t length, int advice) {
  return calls.on_range(protocol::kCallMadvise, address, length, calls.signed_word(advice));
}

VMSHIM_EXPORT int freebsd_posix_madvise(void* address, size_t length, int advice) {
  return calls.posix_madvise(address, length, advice);
}

VMSHIM_EXPORT int freebsd_mincore(const void* address, size_t length, char* vector) {
  return calls.mincore(address, length, vector);
}

VMSHIM_EXPORT int freebsd_minherit(void* address, size_t length, int inherit) {
  return calls.on_range(protocol::kCallMinherit, address, length, calls.signed_word(inherit));
}

VMSHIM_EXPORT int freebsd_mlock(const void* address, size_t length) {
  return calls.on_range(protocol::kCallMlock, address, length);
}

VMSHIM_EXPORT int freebsd_munlock(const void* address, size_t length) {
  return calls.on_range(protocol::kCallMunlock, address, length);
}

VMSHIM_EXPORT int freebsd_mlockall(int how) {
  return calls.with(protocol::kCallMlockall, calls.unsigned_word(how));
}

VMSHIM_EXPORT int freebsd_munlockall() { return calls.with(protocol::kCallMunlockall, 0); }

VMSHIM_EXPORT int freebsd_brk(const void* address) { return calls.brk(address); }

VMSHIM_EXPORT void* freebsd_sbrk(intptr_t increment) { return calls.sbrk(increment); }

VMSHIM_EXPORT void* freebsd_sstk(int increment) { return calls.sstk(increment); }

VMSHIM_EXPORT int freebsd_getpagesize() { return calls.getpagesize(); }

// One size is all the server has.
VMSHIM_EXPORT int freebsd_getpagesizes(size_t* sizes, int count) {
  if (count < 0 || (sizes == nullptr && count != 0)) {
    errno = EINVAL;
    return -1;
  }
  if (count != 0) sizes[0] = static_cast<size_t>(calls.getpagesize());
  return 1;
}

// An anonymous object that could only be read would be of no use to anybody: FreeBSD refuses it.
VMSHIM_EXPORT int freebsd_shm_open(const char* name, int flags, mode_t mode) {
  if (name != kShmAnon) return shm_open(name, flags, mode);
  if ((flags & O_ACCMODE) != O_RDWR) {
    errno = EINVAL;
    return -1;
  }
  return memfd_create("SHM_ANON", kCloseOnExec);
}

// The length is an int there, and its sign counts; the server knows the other numbers.
VMSHIM_EXPORT void* ommap(void* address, int length, int protection, int flags, int descriptor,
                          long position) {
  return calls.map(protocol::kCallOmmap, address, calls.signed_word(length), protection, flags,
                   descriptor, position);
}
VMSHIM_EXPORT void* freebsd_ommap(void*, int, int, int, int, long) __attribute__((alias("ommap")));

VMSHIM_EXPORT int ogetpagesize() { return calls.getpagesize(); }
VMSHIM_EXPORT int freebsd_ogetpagesize() __attribute__((alias("ogetpagesize")));
