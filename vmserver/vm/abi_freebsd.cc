// FreeBSD's numbers. The names are those of its headers; the host's headers are not included here,
// because theirs are the same names with other values. errno's host values come through Error.
#include "vmserver/vm/abi.h"

#include <cerrno>
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

class FreebsdAbi final : public Abi {
 public:
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
            .invalidate = (flags & freebsd::kSyncInvalidate) != 0};
  }

  LockAllFlags lock_all_flags(std::uint64_t how) const override {
    return {.current = (how & freebsd::kLockCurrent) != 0,
            .future = (how & freebsd::kLockFuture) != 0,
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

  // FreeBSD and the host agree up to 34 (ERANGE) with the exception of EAGAIN, which is 35 there
  // and 11 here. Above, a pager may bring any error of the host's; one that FreeBSD has not is EIO,
  // not whatever its number happens to mean there.
  int error_number(Error error) const override {
    switch (const int number = to_errno(error)) {
      case EAGAIN:
        return 35;
      case EDEADLK:
        return 11;
      case EOPNOTSUPP:
        return 45;
      case ETIMEDOUT:
        return 60;
      case ELOOP:
        return 62;
      case ENAMETOOLONG:
        return 63;
      case EDQUOT:
        return 69;
      case ESTALE:
        return 70;
      case ENOLCK:
        return 77;
      case ENOSYS:
        return 78;
      case EOVERFLOW:
        return 84;
      default:
        return number <= ERANGE ? number : EIO;
    }
  }
};

}  // namespace

const Abi& freebsd_abi() {
  static const FreebsdAbi abi;
  return abi;
}

}  // namespace vm
