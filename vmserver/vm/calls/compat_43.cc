// 4.3BSD's mmap, after the seed's ommap(): the same call under the numbers of an older header. It
// becomes an mmap with FreeBSD's.
#include "vmserver/vm/calls/table.h"

namespace vm::calls {
namespace {

// 4.3BSD: execute, write, read from the lowest bit up; later systems the other way round.
constexpr std::uint64_t kOldExecute = 1;
constexpr std::uint64_t kOldWrite = 2;
constexpr std::uint64_t kOldRead = 4;

constexpr std::uint64_t kOldAnonymous = 0x2;
constexpr std::uint64_t kOldShared = 0x10;
constexpr std::uint64_t kOldCopy = 0x20;
constexpr std::uint64_t kOldFixed = 0x100;

// FreeBSD's numbers that these become.
constexpr std::uint64_t kShared = 0x1;
constexpr std::uint64_t kPrivate = 0x2;
constexpr std::uint64_t kFixed = 0x10;
constexpr std::uint64_t kAnonymous = 0x1000;

std::uint64_t protection_of(std::uint64_t old) {
  hal::Protection result = hal::Protection::none();
  if ((old & kOldExecute) != 0) result = result | hal::Protection::execute();
  if ((old & kOldWrite) != 0) result = result | hal::Protection::write();
  if ((old & kOldRead) != 0) result = result | hal::Protection::read();
  return result.bits();
}

std::uint64_t flags_of(std::uint64_t old) {
  std::uint64_t result = (old & kOldShared) != 0 ? kShared : kPrivate;
  if ((old & kOldCopy) != 0) result |= kPrivate;
  if ((old & kOldAnonymous) != 0) result |= kAnonymous;
  if ((old & kOldFixed) != 0) result |= kFixed;
  return result;
}

}  // namespace

void ommap(VmSpace& space, Call& call) {
  call.request.args[2] = protection_of(call.argument(2));
  call.request.args[3] = flags_of(call.argument(3));
  call.abi = &freebsd_abi();
  mmap(space, call);
}

}  // namespace vm::calls
