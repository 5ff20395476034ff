// What the exported calls do, whatever numbers their callers were built with.
//
// Each puts its arguments into a request as they are, says whose numbers they are in, and turns the
// answer into a return value and errno. An unserved program's calls go to the host instead.
//
// <sys/mman.h> is not included: its declarations differ from call to call in what they promise
// (noexcept, nonnull), and a wrapper must not promise more than its callers keep.
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "libshim/host_ops.h"
#include "libshim/session.h"
#include "libshim/syscall.h"

#define VMSHIM_EXPORT extern "C" __attribute__((visibility("default")))

namespace shim {

class Calls {
 public:
  /// `flags`: protocol::RequestFlag, of every request.
  constexpr explicit Calls(protocol::Abi abi, uint16_t flags = 0) : abi_(abi), flags_(flags) {}

  /// mmap, or a call with its arguments.
  void* map(protocol::CallNumber number, void* address, uint64_t length, int protection, int flags,
            int descriptor, int64_t offset) const {
    const uint64_t args[6] = {word(address),           length,
                              signed_word(protection), unsigned_word(flags),
                              signed_word(descriptor), static_cast<uint64_t>(offset)};
    return pointer(perform(number, args, descriptor));
  }

  void* mremap(void* address, size_t old_length, size_t new_length, int flags, void* target) const {
    const uint64_t args[6] = {word(address),        old_length,   new_length,
                              unsigned_word(flags), word(target), 0};
    return pointer(perform(protocol::kCallMremap, args));
  }

  /// A call on a range of addresses, with one argument more or none.
  int on_range(protocol::CallNumber number, const void* address, size_t length,
               uint64_t argument = 0) const {
    const uint64_t args[6] = {word(address), length, argument, 0, 0, 0};
    return status(perform(number, args));
  }

  /// Answers with the error instead of setting errno.
  int posix_madvise(void* address, size_t length, int advice) const {
    const uint64_t args[6] = {word(address), length, signed_word(advice), 0, 0, 0};
    return perform(protocol::kCallPosixMadvise, args).error;
  }

  int mincore(const void* address, size_t length, void* vector) const {
    uint64_t args[6] = {word(address), length, word(vector), 0, 0, 0};
    if (!ensure_session()) return status(perform(protocol::kCallMincore, args));
    uint8_t* at = static_cast<uint8_t*>(vector);
    const uint64_t pages = length / page_size() + (length % page_size() != 0 ? 1 : 0);
    do {
      const Result result = call(protocol::kCallMincore, args, -1, abi_, flags_, put, &at);
      if (result.error != 0) return status(result);
      if (result.value == 0) break;
      args[3] += static_cast<uint64_t>(result.value);
    } while (args[3] < pages);
    return 0;
  }

  /// A call of one argument.
  int with(protocol::CallNumber number, uint64_t argument) const {
    const uint64_t args[6] = {argument, 0, 0, 0, 0, 0};
    return status(perform(number, args));
  }

  int brk(const void* address) const { return with(protocol::kCallBrk, word(address)); }

  void* sbrk(intptr_t increment) const {
    const uint64_t args[6] = {static_cast<uint64_t>(increment), 0, 0, 0, 0, 0};
    return pointer(perform(protocol::kCallSbrk, args));
  }

  void* sstk(int increment) const {
    const uint64_t args[6] = {signed_word(increment), 0, 0, 0, 0, 0};
    return pointer(perform(protocol::kCallSstk, args));
  }

  int getpagesize() const {
    ensure_session();
    return static_cast<int>(page_size());
  }

  /// unshare or setns; `alone` if the kernel may insist on a process without threads.
  static int in_namespaces(long number, int first, int second, bool alone) {
    return host_status(alone ? without_stub(number, first, second) : sys(number, first, second));
  }

  /// Whether the server has let go of the range.
  bool hand_over(uint64_t start, uint64_t length) const {
    const uint64_t args[6] = {start, length, 0, 0, 0, 0};
    return ensure_session() && call(protocol::kCallHandOver, args).error == 0;
  }

  /// What a system call's result is to its caller.
  static int host_status(long result) {
    if (!failed(result)) return static_cast<int>(result);
    errno = static_cast<int>(-result);
    return -1;
  }

  static uint64_t unsigned_word(int value) { return static_cast<unsigned>(value); }
  static uint64_t signed_word(int value) {
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  }

 private:
  static uint64_t word(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

  // The outcome of a call, from the server or, in an unserved program, from the host.
  Result perform(protocol::CallNumber number, const uint64_t (&args)[6],
                 int descriptor = -1) const {
    if (ensure_session()) return call(number, args, descriptor, abi_, flags_);
    const long result = host_call(number, abi_, args);
    if (failed(result)) return {0, static_cast<int>(-result)};
    return {result, 0};
  }

  static int status(const Result& result) {
    if (result.error == 0) return 0;
    errno = result.error;
    return -1;
  }

  static void* pointer(const Result& result) {
    if (result.error == 0) return reinterpret_cast<void*>(result.value);
    errno = result.error;
    return reinterpret_cast<void*>(-1);
  }

  // mincore's vector is the program's: a bad one is EFAULT, and only the kernel can tell safely.
  static bool put(void* context, const uint8_t* data, uint32_t bytes) {
    uint8_t*& at = *static_cast<uint8_t**>(context);
    struct {
      const void* base;
      size_t size;
    } from{data, bytes}, to{at, bytes};
    const long process = sys(SYS_getpid);
    const long copied = sys(SYS_process_vm_writev, process, &from, 1, &to, 1, 0);
    if (copied != static_cast<long>(bytes)) return false;
    at += bytes;
    return true;
  }

  protocol::Abi abi_;
  uint16_t flags_;
};

}  // namespace shim
