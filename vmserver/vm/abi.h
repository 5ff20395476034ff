// Numbers, by whose headers a program was built.
//
// A frame says whose numbers its arguments are in. An Abi turns them into meanings, and mincore's
// answer back into numbers. Translation goes by meaning, not by name: Linux's MAP_STACK is a hint and is
// dropped, its MAP_GROWSDOWN is FreeBSD's MAP_STACK; its MADV_DONTNEED throws private data away and
// FreeBSD's does not. A translation never loses data that the caller's own system would have kept.
//
// errno is not translated: it belongs to libc, which is the host's for every program here, and a
// program compares it with its own <errno.h>.
//
// Sources: FreeBSD sys/mman.h (mmap(2), madvise(2)); Linux
// include/uapi/asm-generic/mman*.h (mmap(2), madvise(2)).
#pragma once

#include <cstdint>

#include "vmserver/vm/call_types.h"

namespace vm {

class Abi {
 public:
  virtual ~Abi() = default;

  virtual const char* name() const = 0;
  virtual MapFlags map_flags(std::uint64_t flags) const = 0;
  virtual Advice advice(std::int64_t behaviour) const = 0;
  /// posix_madvise's own numbers.
  virtual Advice posix_advice(std::int64_t behaviour) const = 0;
  virtual SyncFlags sync_flags(std::uint64_t flags) const = 0;
  virtual LockAllFlags lock_all_flags(std::uint64_t how) const = 0;
  virtual InheritArgument inheritance(std::int64_t value) const = 0;
  virtual std::uint8_t core_bits(const CoreBits& bits) const = 0;
  virtual ProtectionArgument protection(std::uint64_t bits) const = 0;
};

/// FreeBSD's numbers grew over time; a flag that a release did not have is one it did not know.
enum class FreebsdNumbers : std::uint8_t { of_7, of_14 };

/// The Abi of a frame (protocol::Abi), or nullptr for a number that is none.
const Abi* find_abi(std::uint16_t number, FreebsdNumbers release);

const Abi& linux_abi();
const Abi& freebsd_abi(FreebsdNumbers release);
/// 4.3BSD's: the numbers of ommap.
const Abi& bsd43_abi();

}  // namespace vm
