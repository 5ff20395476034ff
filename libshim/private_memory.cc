#include "libshim/private_memory.h"

#include <linux/mman.h>

namespace shim {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

bool PrivateMemory::contains(uint64_t start, uint64_t bytes) const {
  const uint64_t end = start + bytes;
  if (end <= start || start % kPage != 0 || end % kPage != 0) return false;
  for (const Range& range : ranges_) {
    const uint64_t until = __atomic_load_n(&range.end, __ATOMIC_ACQUIRE);
    if (until < end || __atomic_load_n(&range.start, __ATOMIC_ACQUIRE) > start) continue;
    // Both of one and the same range: put() takes the end away first.
    if (__atomic_load_n(&range.end, __ATOMIC_ACQUIRE) == until) return true;
  }
  return false;
}

void PrivateMemory::before(const protocol::TrapRequest& request) {
  // MAP_FIXED is FreeBSD's as well.
  constexpr uint64_t kFixed = MAP_FIXED | MAP_FIXED_NOREPLACE;
  switch (request.call) {
    case protocol::kCallMunmap:
    case protocol::kCallMinherit:
    case protocol::kCallHandOver:
      forget(request.args[0], request.args[1]);
      break;
    case protocol::kCallMremap:
      forget(request.args[0], request.args[1]);
      if ((request.args[3] & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0) {
        forget(request.args[4], request.args[2]);
      }
      break;
    case protocol::kCallMprotect:
      // FreeBSD's PROT_MAX: it may not become accessible again.
      if ((request.args[2] & ~uint64_t{PROT_READ | PROT_WRITE | PROT_EXEC}) != 0) {
        forget(request.args[0], request.args[1]);
      }
      break;
    case protocol::kCallMadvise:
      // A child will not have it.
      if (request.args[2] == MADV_DONTFORK) forget(request.args[0], request.args[1]);
      break;
    case protocol::kCallOmmap:
      forget(request.args[0], request.args[1]);
      break;
    case protocol::kCallMmap:
      if ((request.args[3] & kFixed) != 0) forget(request.args[0], request.args[1]);
      break;
    default:
      break;
  }
}

void PrivateMemory::after(const protocol::TrapRequest& request, uint64_t value) {
  // Whatever was there before.
  if (request.call == protocol::kCallMmap || request.call == protocol::kCallOmmap) {
    forget(value, request.args[1]);
  } else if (request.call == protocol::kCallMremap) {
    forget(value, request.args[2]);
  }
  constexpr uint64_t kNeeded = MAP_PRIVATE | MAP_ANONYMOUS;
  // What libc maps for stacks is not what a program of FreeBSD's means by that.
  const bool by_host = (request.flags & protocol::kRequestHostRules) != 0;
  const uint64_t plain = kNeeded | MAP_NORESERVE | MAP_FIXED | MAP_FIXED_NOREPLACE |
                         (by_host ? uint64_t{MAP_STACK} : 0);
  if (request.call != protocol::kCallMmap || request.abi != protocol::kAbiLinux ||
      (request.args[3] & ~plain) != 0 || (request.args[3] & kNeeded) != kNeeded) {
    return;
  }
  add({value, value + (request.args[1] + kPage - 1) / kPage * kPage});
}

void PrivateMemory::put(Range& slot, Range range) {
  __atomic_store_n(&slot.end, 0, __ATOMIC_RELEASE);
  __atomic_store_n(&slot.start, range.start, __ATOMIC_RELEASE);
  __atomic_store_n(&slot.end, range.end, __ATOMIC_RELEASE);
}

void PrivateMemory::add(Range range) {
  for (Range& known : ranges_) {
    if (known.start >= known.end || (known.end != range.start && range.end != known.start)) continue;
    if (range.start < known.start) __atomic_store_n(&known.start, range.start, __ATOMIC_RELEASE);
    if (range.end > known.end) __atomic_store_n(&known.end, range.end, __ATOMIC_RELEASE);
    return;
  }
  for (Range& slot : ranges_) {
    if (slot.start < slot.end) continue;
    put(slot, range);
    return;
  }
  put(ranges_[next_], range);
  next_ = (next_ + 1) % kMost;
}

void PrivateMemory::forget(uint64_t start, uint64_t bytes) {
  // Whole pages; what wraps around is everything above.
  const uint64_t from = start / kPage * kPage;
  const uint64_t last = start + bytes;
  uint64_t to = (last + kPage - 1) / kPage * kPage;
  if (last < start || to < last) to = ~uint64_t{0};
  for (Range& range : ranges_) {
    if (range.end <= from || to <= range.start) continue;
    const Range above{to, range.end};
    __atomic_store_n(&range.end, from, __ATOMIC_RELEASE);
    if (above.start >= above.end) continue;
    if (range.start >= range.end) {
      put(range, above);
    } else {
      add(above);
    }
  }
}

}  // namespace shim
