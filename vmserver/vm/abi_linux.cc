// The host's numbers. They are spelled out rather than taken from the system's headers where
// Debian 12's are older than the kernels this runs on.
#include <sys/mman.h>

#include "vmserver/vm/abi.h"

namespace vm {
namespace {

constexpr std::uint64_t kMapTypeMask = 0x0f;  // MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE
constexpr std::uint64_t kMap32Bit = 0x40;
constexpr std::uint64_t kMapDroppable = 0x08;

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
    result.shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
    result.is_private = type == MAP_PRIVATE;
    result.no_replace = (flags & MAP_FIXED_NOREPLACE) != 0;
    result.fixed = (flags & MAP_FIXED) != 0 || result.no_replace;
    result.anonymous = (flags & MAP_ANONYMOUS) != 0;
    result.stack = (flags & MAP_GROWSDOWN) != 0;
    result.host_only = (flags & (MAP_HUGETLB | kMap32Bit)) != 0 || type == kMapDroppable;
    // MAP_STACK, MAP_NORESERVE, MAP_POPULATE, MAP_NONBLOCK, MAP_LOCKED and MAP_DENYWRITE are hints
    // or have no counterpart; a program that passes them keeps its data without them.
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
      case kAdviceDontneedLocked:
        return Advice::discard;
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
      case kAdviceCold:
        return Advice::ignore;
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
    return {.asynchronous = (flags & MS_ASYNC) != 0, .invalidate = (flags & MS_INVALIDATE) != 0};
  }

  LockAllFlags lock_all_flags(std::uint64_t how) const override {
    constexpr std::uint64_t kOnFault = 4;  // locks what is touched later: nothing is asked for now
    LockAllFlags result;
    result.current = (how & MCL_CURRENT) != 0 && (how & kOnFault) == 0;
    result.future = (how & MCL_FUTURE) != 0 && (how & kOnFault) == 0;
    result.unknown = how == 0 || (how & ~(std::uint64_t{MCL_CURRENT | MCL_FUTURE} | kOnFault)) != 0;
    return result;
  }

  // The host has no minherit; its programs that use the shim's are given FreeBSD's numbers.
  InheritArgument inheritance(std::int64_t value) const override {
    return freebsd_abi().inheritance(value);
  }

  // The host defines bit 0 only.
  std::uint8_t core_bits(const CoreBits& bits) const override { return bits.in_core ? 1 : 0; }

  int error_number(Error error) const override { return to_errno(error); }
};

}  // namespace

const Abi& linux_abi() {
  static const LinuxAbi abi;
  return abi;
}

}  // namespace vm
