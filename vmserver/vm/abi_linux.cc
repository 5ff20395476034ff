// The host's numbers. They are spelled out rather than taken from the system's headers where
// Debian 12's are older than the kernels this runs on.
#include <sys/mman.h>

#include "vmserver/vm/abi.h"

namespace vm {
namespace {

constexpr std::uint64_t kMapTypeMask = 0x0f;  // MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE
constexpr std::uint64_t kMap32Bit = 0x40;
constexpr std::uint64_t kMapDroppable = 0x08;
constexpr std::uint64_t kMapSync = 0x80000;
// What MAP_SHARED_VALIDATE does not refuse (the host's LEGACY_MAP_MASK), and itself.
constexpr std::uint64_t kMapKnown = kMapTypeMask | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE |
                                    MAP_EXECUTABLE | MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE |
                                    MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB |
                                    kMap32Bit | MAP_FIXED_NOREPLACE | 0xfc000000;

// Arguments of type int arrive sign-extended.
constexpr std::uint64_t kWord = 0xffffffff;
constexpr std::uint64_t kProtSem = 8;

constexpr std::int64_t kAdviceRemove = 9;
constexpr std::int64_t kAdviceWipeOnFork = 18;
constexpr std::int64_t kAdviceKeepOnFork = 19;
constexpr std::int64_t kAdviceCold = 20;
constexpr std::int64_t kAdvicePageout = 21;
constexpr std::int64_t kAdvicePopulateRead = 22;
constexpr std::int64_t kAdvicePopulateWrite = 23;
constexpr std::int64_t kAdviceDontneedLocked = 24;
constexpr std::int64_t kAdviceCollapse = 25;

class LinuxAbi final : public Abi {
 public:
  const char* name() const override { return "linux"; }

  MapFlags map_flags(std::uint64_t flags) const override {
    MapFlags result;
    const std::uint64_t type = flags & kMapTypeMask;
    result.validated = type == MAP_SHARED_VALIDATE;
    result.shared = type == MAP_SHARED || result.validated;
    result.is_private = type == MAP_PRIVATE || type == kMapDroppable;
    result.no_replace = (flags & MAP_FIXED_NOREPLACE) != 0;
    result.fixed = (flags & MAP_FIXED) != 0 || result.no_replace;
    result.anonymous = (flags & MAP_ANONYMOUS) != 0;
    result.stack = (flags & MAP_GROWSDOWN) != 0;
    result.low = (flags & kMap32Bit) != 0;
    result.populate = (flags & MAP_POPULATE) != 0 && (flags & MAP_NONBLOCK) == 0;
    result.locked = (flags & MAP_LOCKED) != 0;
    result.no_reserve = (flags & MAP_NORESERVE) != 0;
    result.synchronous = result.validated && (flags & kMapSync) != 0;
    result.host_only = (flags & MAP_HUGETLB) != 0 || type == kMapDroppable;
    result.unknown = (flags & ~kMapKnown) != 0;
    result.thread_stack = (flags & MAP_STACK) != 0;
    // MAP_DENYWRITE has no counterpart; a program that passes it keeps its data without it.
    return result;
  }

  ProtectionArgument protection(std::uint64_t bits) const override {
    ProtectionArgument result;
    result.value = hal::Protection(static_cast<std::uint8_t>(bits & 7));
    result.grows_down = (bits & PROT_GROWSDOWN) != 0;
    result.grows_up = (bits & PROT_GROWSUP) != 0;
    result.unknown =
        (bits & ~std::uint64_t{7 | kProtSem | PROT_GROWSDOWN | PROT_GROWSUP} & kWord) != 0;
    return result;
  }

  Advice advice(std::int64_t behaviour) const override {
    switch (behaviour) {
      case MADV_NORMAL:
        return Advice::normal;
      case MADV_RANDOM:
        return Advice::random;
      case MADV_SEQUENTIAL:
        return Advice::sequential;
      case MADV_WILLNEED:
        return Advice::will_need;
      case MADV_DONTNEED:
        return Advice::discard;
      case kAdviceDontneedLocked:
        return Advice::discard_locked;
      case MADV_FREE:
        return Advice::free;
      case MADV_DONTFORK:
        return Advice::inherit_none;
      case MADV_DOFORK:
      case kAdviceKeepOnFork:
        return Advice::inherit_copy;
      case kAdviceWipeOnFork:
        return Advice::inherit_zero;
      case MADV_DONTDUMP:
        return Advice::no_core;
      case MADV_DODUMP:
        return Advice::core;
      case MADV_MERGEABLE:
      case MADV_UNMERGEABLE:
      case MADV_HUGEPAGE:
      case MADV_NOHUGEPAGE:
      case kAdviceCollapse:
        return Advice::ignore;
      case kAdviceCold:
      case kAdvicePageout:
        return Advice::deactivate;
      case kAdviceRemove:
        return Advice::remove;
      // The host touches the program's own pages; the faults that makes come back here.
      case kAdvicePopulateRead:
      case kAdvicePopulateWrite:
        return Advice::host;
      default:
        return Advice::unknown;
    }
  }

  Advice posix_advice(std::int64_t behaviour) const override {
    switch (behaviour) {
      case POSIX_MADV_NORMAL:
        return Advice::normal;
      case POSIX_MADV_RANDOM:
        return Advice::random;
      case POSIX_MADV_SEQUENTIAL:
        return Advice::sequential;
      case POSIX_MADV_WILLNEED:
        return Advice::will_need;
      case POSIX_MADV_DONTNEED:
        return Advice::deactivate;
      default:
        return Advice::unknown;
    }
  }

  SyncFlags sync_flags(std::uint64_t flags) const override {
    const std::uint64_t both = MS_ASYNC | MS_SYNC;
    return {.asynchronous = (flags & MS_ASYNC) != 0,
            .invalidate = (flags & MS_INVALIDATE) != 0,
            .unknown = (flags & both) == both || (flags & kWord & ~(both | MS_INVALIDATE)) != 0};
  }

  LockAllFlags lock_all_flags(std::uint64_t how) const override {
    constexpr std::uint64_t kOnFault = 4;
    LockAllFlags result;
    result.current = (how & MCL_CURRENT) != 0;
    result.future = (how & MCL_FUTURE) != 0;
    result.on_fault = (how & kOnFault) != 0;
    result.unknown = (how & (MCL_CURRENT | MCL_FUTURE)) == 0 ||
                     (how & kWord & ~(std::uint64_t{MCL_CURRENT | MCL_FUTURE} | kOnFault)) != 0;
    return result;
  }

  // The host has no minherit; its programs that use the shim's are given FreeBSD's numbers.
  InheritArgument inheritance(std::int64_t value) const override {
    return freebsd_abi(FreebsdNumbers::of_14).inheritance(value);
  }

  // The host defines bit 0 only.
  std::uint8_t core_bits(const CoreBits& bits) const override { return bits.in_core ? 1 : 0; }
};

}  // namespace

const Abi& linux_abi() {
  static const LinuxAbi abi;
  return abi;
}

}  // namespace vm
