#include "libshim/freebsd_host.h"

#include <errno.h>
#include <linux/mman.h>

#include "libshim/host_ops.h"
#include "libshim/syscall.h"

namespace shim {
namespace {

// FreeBSD's sys/mman.h. The server's table of them (vmserver/vm/abi_freebsd.cc) turns them into
// meanings of its own; here they become the host's numbers.
namespace freebsd {
constexpr uint64_t kMaximumShift = 16;  // PROT_MAX
constexpr uint64_t kProtections = 7;

constexpr uint64_t kShared = 0x1;
constexpr uint64_t kPrivate = 0x2;
constexpr uint64_t kFixed = 0x10;
constexpr uint64_t kStack = 0x400;
constexpr uint64_t kAnonymous = 0x1000;
constexpr uint64_t kGuard = 0x2000;
constexpr uint64_t kExclusive = 0x4000;
constexpr uint64_t kNoCore = 0x20000;
constexpr uint64_t k32Bit = 0x80000;
// Wishes: MAP_RENAME, MAP_NORESERVE, MAP_RESERVED0080, MAP_RESERVED0100, MAP_HASSEMAPHORE,
// MAP_NOSYNC, MAP_PREFAULT_READ.
constexpr uint64_t kWishes = 0x20 | 0x40 | 0x80 | 0x100 | 0x200 | 0x800 | 0x40000;
constexpr uint64_t kAlignmentShift = 24;
constexpr uint64_t kAlignedSuper = 1;  // a wish, too

constexpr uint64_t kAsync = 1;
constexpr uint64_t kInvalidate = 2;

enum Advice : uint64_t {
  kNormal,
  kRandom,
  kSequential,
  kWillNeed,
  kDontNeed,
  kFree,
  kNoSync,
  kAutoSync,
  kDontDump,
  kDump,
  kProtect
};

enum Inherit : uint64_t { kShare, kCopy, kNone, kZero };
}  // namespace freebsd

constexpr uint64_t kPageShift = 12;
constexpr uint64_t kPageMask = (uint64_t{1} << kPageShift) - 1;

// FreeBSD takes any address and works on the pages that the range touches; the host wants it
// aligned.
void cover_pages(uint64_t& address, uint64_t& length) {
  const uint64_t before = address & kPageMask;
  address -= before;
  if (length + before + kPageMask >= length) length = (length + before + kPageMask) & ~kPageMask;
}

long check_protection(uint64_t protection) {
  return (protection >> freebsd::kMaximumShift & freebsd::kProtections) != 0 ? -EOPNOTSUPP : 0;
}

// Returns a negative errno, or the host's flags.
long map_flags(uint64_t flags, uint64_t protection, int descriptor) {
  using namespace freebsd;
  constexpr uint64_t kKnown = kShared | kPrivate | kFixed | kStack | kAnonymous | kGuard |
                              kExclusive | kNoCore | k32Bit | kWishes;
  const uint64_t alignment = flags >> kAlignmentShift;
  flags &= (uint64_t{1} << kAlignmentShift) - 1;
  const bool anonymous = (flags & (kAnonymous | kStack | kGuard)) != 0;
  if ((flags & ~kKnown) != 0 || (flags & (kShared | kPrivate)) == (kShared | kPrivate) ||
      (anonymous && descriptor != -1) || ((flags & kExclusive) != 0 && (flags & kFixed) == 0) ||
      ((flags & kStack) != 0 && (protection & 3) != 3) ||
      ((flags & kGuard) != 0 && protection != 0)) {
    return -EINVAL;
  }
  if (alignment > kAlignedSuper && (flags & kFixed) == 0) {
    if (alignment < kPageShift) return -EINVAL;
    if (alignment > kPageShift) return -EOPNOTSUPP;
  }

  // All of a stack is there from the start, as it is in the server.
  uint64_t host = (flags & kShared) != 0 ? MAP_SHARED : MAP_PRIVATE;
  if (anonymous) host |= MAP_ANONYMOUS;
  if ((flags & (kStack | kGuard)) != 0) host |= MAP_NORESERVE;
  if ((flags & kFixed) != 0) host |= (flags & kExclusive) != 0 ? MAP_FIXED_NOREPLACE : MAP_FIXED;
  if ((flags & k32Bit) != 0) {
#if defined(MAP_32BIT)
    host |= MAP_32BIT;
#else
    return -EOPNOTSUPP;
#endif
  }
  return static_cast<long>(host);
}

long map(const uint64_t (&args)[6]) {
  if (const long refused = check_protection(args[2]); failed(refused)) return refused;
  const uint64_t protection = args[2] & freebsd::kProtections;
  const long flags = map_flags(args[3], protection, static_cast<int>(args[4]));
  if (failed(flags)) return flags;
  const long at = sys(SYS_mmap, args[0], args[1], protection, flags, args[4], args[5]);
  if (at == -EEXIST) return -ENOMEM;
  if (!failed(at) && (args[3] & freebsd::kNoCore) != 0) {
    sys(SYS_madvise, at, (args[1] + kPageMask) & ~kPageMask, MADV_DONTDUMP);
  }
  return at;
}

// The host's MADV_DONTNEED has FreeBSD's number and throws data away; FreeBSD's keeps it.
long advise(uint64_t address, uint64_t length, uint64_t advice) {
  using namespace freebsd;
  switch (advice) {
    case kNormal:
    case kRandom:
    case kSequential:
    case kWillNeed:
      return sys(SYS_madvise, address, length, advice);
    case kDontNeed:
    case kNoSync:
    case kAutoSync:
      return 0;
    case kFree: {
      // Where the host cannot, it says EINVAL; to FreeBSD that is a wish not granted.
      const long result = sys(SYS_madvise, address, length, MADV_FREE);
      return result == -EINVAL ? 0 : result;
    }
    case kDontDump:
      return sys(SYS_madvise, address, length, MADV_DONTDUMP);
    case kDump:
      return sys(SYS_madvise, address, length, MADV_DODUMP);
    case kProtect:
      return -EOPNOTSUPP;
    default:
      return -EINVAL;
  }
}

// INHERIT_SHARE and INHERIT_COPY depend on what is mapped, and the host would say yes to both
// whatever that is.
long inherit(uint64_t address, uint64_t length, uint64_t how) {
  switch (how) {
    case freebsd::kNone:
      return sys(SYS_madvise, address, length, MADV_DONTFORK);
    case freebsd::kZero: {
      const long wiped = sys(SYS_madvise, address, length, MADV_WIPEONFORK);
      if (failed(wiped)) return wiped == -EINVAL ? -EOPNOTSUPP : wiped;
      return sys(SYS_madvise, address, length, MADV_DOFORK);
    }
    case freebsd::kShare:
    case freebsd::kCopy:
      return -EOPNOTSUPP;
    default:
      return -EINVAL;
  }
}

// A length of 0 means all of the mapping there, and only the host knows where that ends.
long synchronize(uint64_t address, uint64_t length, uint64_t flags) {
  using namespace freebsd;
  if ((flags & ~(kAsync | kInvalidate)) != 0 || flags == (kAsync | kInvalidate)) return -EINVAL;
  if (length == 0) return -EOPNOTSUPP;
  const uint64_t host = ((flags & kAsync) != 0 ? MS_ASYNC : MS_SYNC) |
                        ((flags & kInvalidate) != 0 ? MS_INVALIDATE : 0);
  return sys(SYS_msync, address, length, host);
}

}  // namespace

long freebsd_host_call(uint16_t number, const uint64_t (&original)[6]) {
  uint64_t args[6];
  for (int i = 0; i < 6; ++i) args[i] = original[i];
  switch (number) {
    case protocol::kCallMmap:
      return map(args);
    case protocol::kCallMprotect:
      if (const long refused = check_protection(args[2]); failed(refused)) return refused;
      args[2] &= freebsd::kProtections;
      cover_pages(args[0], args[1]);
      break;
    case protocol::kCallMadvise:
      cover_pages(args[0], args[1]);
      return advise(args[0], args[1], args[2]);
    case protocol::kCallMinherit:
      cover_pages(args[0], args[1]);
      return inherit(args[0], args[1], args[2]);
    case protocol::kCallMsync:
      if (args[1] != 0) cover_pages(args[0], args[1]);
      return synchronize(args[0], args[1], args[2]);
    case protocol::kCallMunmap:
      if (args[1] != 0) cover_pages(args[0], args[1]);
      break;
    case protocol::kCallPosixMadvise:
      cover_pages(args[0], args[1]);
      break;
    case protocol::kCallMincore:
      args[0] &= ~kPageMask;
      break;
    case protocol::kCallMlockall: {
      constexpr uint64_t kHow = 3;  // MCL_CURRENT, MCL_FUTURE: the same, but the host has more
      if ((args[0] & ~kHow) != 0) return -EINVAL;
      break;
    }
    default:
      break;
  }
  return host_call(number, protocol::kAbiLinux, args);
}

}  // namespace shim
