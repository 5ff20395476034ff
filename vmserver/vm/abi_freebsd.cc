// FreeBSD's numbers, and those of 4.3BSD's mmap. The names are those of its headers; the host's
// headers are not included here, because theirs are the same names with other values.
#include "vmserver/vm/abi.h"

#include <iterator>

namespace vm {
namespace {

namespace freebsd {
constexpr std::uint64_t kMapShared = 0x0001;
constexpr std::uint64_t kMapPrivate = 0x0002;  // MAP_COPY is the same value
constexpr std::uint64_t kMapFixed = 0x0010;
constexpr std::uint64_t kMapStack = 0x0400;
constexpr std::uint64_t kMapNoSync = 0x0800;
constexpr std::uint64_t kMapAnon = 0x1000;
constexpr std::uint64_t kMapNoCore = 0x20000;
constexpr std::uint64_t kMapOld = 0x20 | 0x40;  // MAP_RENAME, MAP_NORESERVE: never did anything
constexpr std::uint64_t kMapHasSemaphore = 0x200;
// Not known to FreeBSD 7.
constexpr std::uint64_t kMapGuard = 0x2000;
constexpr std::uint64_t kMapExclusive = 0x4000;
constexpr std::uint64_t kMapPrefaultRead = 0x40000;
constexpr std::uint64_t kMap32Bit = 0x80000;
constexpr std::uint64_t kMapAlignmentMask = 0xff000000;
constexpr unsigned kMapAlignmentShift = 24;
constexpr std::uint64_t kMapAlignedSuper = 1;  // in the place of an alignment
constexpr unsigned kProtMaxShift = 16;

constexpr std::uint64_t kSyncAsync = 1;
constexpr std::uint64_t kSyncInvalidate = 2;

constexpr std::uint64_t kLockCurrent = 1;
constexpr std::uint64_t kLockFuture = 2;

constexpr std::uint8_t kCoreInCore = 0x01;
constexpr std::uint8_t kCoreReferenced = 0x02;
constexpr std::uint8_t kCoreModified = 0x04;
constexpr std::uint8_t kCoreReferencedOther = 0x08;
constexpr std::uint8_t kCoreModifiedOther = 0x10;
}  // namespace freebsd

// Advice 0 to 10, in the order of FreeBSD's numbers (MADV_NORMAL … MADV_PROTECT).
constexpr Advice kAdvice[] = {
    Advice::normal,     Advice::random, Advice::sequential, Advice::will_need,
    Advice::deactivate, Advice::free,   Advice::no_sync,    Advice::auto_sync,
    Advice::no_core,    Advice::core,   Advice::protect};

// Arguments of type int arrive sign-extended.
constexpr std::uint64_t kWord = 0xffffffff;

constexpr std::uint8_t kSuperpage = 21;  // a superpage of the host's processor: 2 MiB
constexpr unsigned kAddressBits = 64;

class FreebsdAbi final : public Abi {
 public:
  explicit FreebsdAbi(FreebsdNumbers release) : newer_(release != FreebsdNumbers::of_7) {}

  const char* name() const override { return "freebsd"; }

  MapFlags map_flags(std::uint64_t flags) const override {
    MapFlags result;
    result.shared = (flags & freebsd::kMapShared) != 0;
    result.is_private = (flags & freebsd::kMapPrivate) != 0;
    result.fixed = (flags & freebsd::kMapFixed) != 0;
    result.anonymous = (flags & freebsd::kMapAnon) != 0;
    result.stack = (flags & freebsd::kMapStack) != 0;
    result.no_sync = (flags & freebsd::kMapNoSync) != 0;
    result.no_core = (flags & freebsd::kMapNoCore) != 0;
    std::uint64_t known = freebsd::kMapShared | freebsd::kMapPrivate | freebsd::kMapFixed |
                          freebsd::kMapOld | freebsd::kMapHasSemaphore | freebsd::kMapStack |
                          freebsd::kMapNoSync | freebsd::kMapAnon | freebsd::kMapNoCore;
    if (newer_) {
      result.guard = (flags & freebsd::kMapGuard) != 0;
      result.no_replace = (flags & freebsd::kMapExclusive) != 0;
      result.prefault = (flags & freebsd::kMapPrefaultRead) != 0;
      result.low = (flags & freebsd::kMap32Bit) != 0;
      set_alignment(result, (flags & freebsd::kMapAlignmentMask) >> freebsd::kMapAlignmentShift);
      known |= freebsd::kMapGuard | freebsd::kMapExclusive | freebsd::kMapPrefaultRead |
               freebsd::kMap32Bit | freebsd::kMapAlignmentMask;
    }
    result.unknown = (flags & kWord & ~known) != 0;
    return result;
  }

  ProtectionArgument protection(std::uint64_t bits) const override {
    constexpr std::uint64_t kAll = 7;
    ProtectionArgument result;
    result.value = hal::Protection(static_cast<std::uint8_t>(bits & kAll));
    const std::uint64_t maximum = newer_ ? (bits >> freebsd::kProtMaxShift) & kAll : 0;
    if (maximum != 0) result.maximum = hal::Protection(static_cast<std::uint8_t>(maximum));
    result.unknown = (bits & kWord & ~(kAll | kAll << freebsd::kProtMaxShift)) != 0;
    return result;
  }

  Advice advice(std::int64_t behaviour) const override {
    if (behaviour < 0 || behaviour >= static_cast<std::int64_t>(std::size(kAdvice))) {
      return Advice::unknown;
    }
    return kAdvice[behaviour];
  }

  Advice posix_advice(std::int64_t behaviour) const override {
    return behaviour >= 0 && behaviour <= 4 ? kAdvice[behaviour] : Advice::unknown;
  }

  SyncFlags sync_flags(std::uint64_t flags) const override {
    return {.asynchronous = (flags & freebsd::kSyncAsync) != 0,
            .invalidate = (flags & freebsd::kSyncInvalidate) != 0,
            .unknown = (flags & kWord & ~(freebsd::kSyncAsync | freebsd::kSyncInvalidate)) != 0};
  }

  LockAllFlags lock_all_flags(std::uint64_t how) const override {
    return {.current = (how & freebsd::kLockCurrent) != 0,
            .future = (how & freebsd::kLockFuture) != 0,
            .on_fault = false,
            .unknown = how == 0 || (how & ~(freebsd::kLockCurrent | freebsd::kLockFuture)) != 0};
  }

  InheritArgument inheritance(std::int64_t value) const override {
    switch (value) {
      case 0:
        return {true, hal::Inherit::share};
      case 1:
        return {true, hal::Inherit::copy};
      case 2:
        return {true, hal::Inherit::none};
      case 3:
        return {true, hal::Inherit::zero};
      default:
        return {};
    }
  }

  std::uint8_t core_bits(const CoreBits& bits) const override {
    std::uint8_t result = 0;
    if (bits.in_core) result |= freebsd::kCoreInCore;
    if (bits.referenced) result |= freebsd::kCoreReferenced;
    if (bits.modified) result |= freebsd::kCoreModified;
    if (bits.referenced_other) result |= freebsd::kCoreReferencedOther;
    if (bits.modified_other) result |= freebsd::kCoreModifiedOther;
    return result;
  }

 private:
  static void set_alignment(MapFlags& flags, std::uint64_t logarithm) {
    if (logarithm == freebsd::kMapAlignedSuper) {
      flags.alignment = kSuperpage;
    } else if (logarithm != 0) {
      flags.alignment = static_cast<std::uint8_t>(logarithm);
      flags.bad_alignment = logarithm >= kAddressBits || logarithm < hal::kPageShift;
    }
  }

  const bool newer_;
};

// Protection bits 1, 2 and 4 were execute, write and read then; there are four flags.
class Bsd43Abi final : public Abi {
 public:
  const char* name() const override { return "4.3bsd"; }

  MapFlags map_flags(std::uint64_t flags) const override {
    MapFlags result;
    result.anonymous = (flags & 0x0002) != 0;
    result.shared = (flags & 0x0010) != 0;
    result.is_private = !result.shared || (flags & 0x0020) != 0;  // 0x20: MAP_COPY
    result.fixed = (flags & 0x0100) != 0;
    return result;
  }

  ProtectionArgument protection(std::uint64_t bits) const override {
    using hal::Protection;
    ProtectionArgument result;
    if ((bits & 1) != 0) result.value = result.value | Protection::execute();
    if ((bits & 2) != 0) result.value = result.value | Protection::write();
    if ((bits & 4) != 0) result.value = result.value | Protection::read();
    return result;
  }

  // ommap is the only call that has numbers of its own.
  Advice advice(std::int64_t behaviour) const override { return today().advice(behaviour); }
  Advice posix_advice(std::int64_t behaviour) const override {
    return today().posix_advice(behaviour);
  }
  SyncFlags sync_flags(std::uint64_t flags) const override { return today().sync_flags(flags); }
  LockAllFlags lock_all_flags(std::uint64_t how) const override {
    return today().lock_all_flags(how);
  }
  InheritArgument inheritance(std::int64_t value) const override {
    return today().inheritance(value);
  }
  std::uint8_t core_bits(const CoreBits& bits) const override { return today().core_bits(bits); }

 private:
  static const Abi& today() { return freebsd_abi(FreebsdNumbers::of_7); }
};

}  // namespace

const Abi& freebsd_abi(FreebsdNumbers release) {
  static const FreebsdAbi of_7(FreebsdNumbers::of_7);
  static const FreebsdAbi of_14(FreebsdNumbers::of_14);
  return release == FreebsdNumbers::of_7 ? of_7 : of_14;
}

const Abi& bsd43_abi() {
  static const Bsd43Abi abi;
  return abi;
}

}  // namespace vm
