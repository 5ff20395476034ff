// They follow the host's rules whatever the server's are, because libc was written to those. A
// program that gets at a body itself, by dlsym(RTLD_NEXT, …) say, has the host's rules there, too.
#include "libshim/libc_calls.h"

#include "libshim/calls.h"
#include "libshim/redirect.h"
#include "libshim/report.h"

namespace shim {
namespace {

constexpr Calls calls(protocol::kAbiLinux, protocol::kRequestHostRules);

void* libc_mmap(void* address, size_t length, int protection, int flags, int descriptor,
                int64_t offset) {
  return calls.map(protocol::kCallMmap, address, length, protection, flags, descriptor, offset);
}

int libc_munmap(void* address, size_t length) {
  return calls.on_range(protocol::kCallMunmap, address, length);
}

// libc's has the last one only with some flags; it is in its place all the same.
void* libc_mremap(void* address, size_t old_length, size_t new_length, int flags, void* target) {
  return calls.mremap(address, old_length, new_length, flags, target);
}

int libc_mprotect(void* address, size_t length, int protection) {
  return calls.on_range(protocol::kCallMprotect, address, length, calls.signed_word(protection));
}

int libc_madvise(void* address, size_t length, int advice) {
  return calls.on_range(protocol::kCallMadvise, address, length, calls.signed_word(advice));
}

int libc_brk(void* address) { return calls.brk(address); }

// The break is the host's, so a heap that grew there would not be served. Refused more of it,
// malloc maps its heap instead. Nobody has to be asked for that.
void* libc_sbrk(intptr_t increment) {
  if (increment == 0) return reinterpret_cast<void*>(sys(SYS_brk, 0));
  errno = ENOMEM;
  return reinterpret_cast<void*>(-1);
}

// A function's address as data.
template <class Function>
const void* address_of(Function* function) {
  return reinterpret_cast<const void*>(function);
}

}  // namespace

void catch_libc_calls() {
  const Redirection redirections[] = {
      {"mmap", nullptr, SYS_mmap, address_of(libc_mmap), true, nullptr},
      {"munmap", nullptr, SYS_munmap, address_of(libc_munmap), true, nullptr},
      {"mremap", nullptr, SYS_mremap, address_of(libc_mremap), true, nullptr},
      {"mprotect", nullptr, SYS_mprotect, address_of(libc_mprotect), true, nullptr},
      {"madvise", nullptr, SYS_madvise, address_of(libc_madvise), true, nullptr},
      {"sbrk", "brk", 0, address_of(libc_sbrk), false, nullptr},
      {"brk", nullptr, SYS_brk, address_of(libc_brk), false, nullptr},
  };
  const unsigned count =
      redirect_libc(redirections, sizeof(redirections) / sizeof(redirections[0]));
  if (count != 0) say_debug("libc's own calls are caught");
}

}  // namespace shim
