#include "vmserver/vm/calls/checks.h"

#include "vmserver/vm/machine.h"

namespace vm::calls {

using hal::VirtualAddress;
using hal::VirtualRange;

RangeChecks::RangeChecks(VmSpace& space, Call& call)
    : RangeChecks(space, call,
                  VirtualRange::covering(VirtualAddress(call.argument(0)), call.argument(1))) {}

bool RangeChecks::end_call(Rules rules) {
  const std::optional<Error> error =
      first_that_holds(rules, [this](Check check) { return holds(check); });
  if (!error) return false;
  call_.finish(*error);
  return true;
}

// The seed counts pages that are wired already once more; the host does not.
bool RangeChecks::over_lock_limit(bool counts_twice) {
  const std::uint64_t limit = call_.request.limits[0] >> hal::kPageShift;
  const auto guard = space_.lock();
  std::uint64_t pages = space_.wired_pages() + pages_to_wire.value_or(range_->pages());
  if (!counts_twice && !pages_to_wire) {
    space_.map().for_each_in(*range_, [&](MapEntry& entry) {
      if (entry.wired) pages -= entry.range.intersect(*range_).pages();
    });
  }
  return pages > limit;
}

bool RangeChecks::holds(Check check) {
  switch (check) {
    case Check::length_zero:
      return call_.argument(1) == 0;
    case Check::address_misaligned:
      return !VirtualAddress(call_.argument(0)).is_page_aligned();
    case Check::range_wraps:
      return !range_;
    case Check::range_empty:
      return range_->empty();
    case Check::range_outside:
      return !space_.layout().bounds.contains(*range_);
    case Check::range_has_hole: {
      const auto guard = space_.lock();
      // An empty range still has an address, which has to be somewhere.
      const VirtualRange asked = range_->empty() ? VirtualRange(range_->start(), range_->start() + 1)
                                                 : *range_;
      space_.refresh_host(asked);
      return !space_.map().covers(asked);
    }
    case Check::protection_unknown:
      return protection.unknown;
    case Check::protection_over_given_maximum:
      return protection.maximum && !protection.maximum->allows(protection.value);
    case Check::grows_both_ways:
      return protection.grows_down && protection.grows_up;
    case Check::inheritance_unknown:
      return !inherit.valid;
    case Check::inheritance_zero:
      return inherit.valid && inherit.value == hal::Inherit::zero;
    case Check::flags_unknown:
      return flags_unknown;
    case Check::async_and_invalidate:
      return sync.asynchronous && sync.invalidate;
    case Check::invalidate_wired: {
      if (!sync.invalidate) return false;
      bool wired = false;
      const auto guard = space_.lock();
      space_.map().for_each_in(*range_, [&](MapEntry& entry) { wired = wired || entry.wired; });
      return wired;
    }
    case Check::advice_unknown:
      return advice == Advice::unknown;
    case Check::not_superuser:
      return !call_.superuser();
    case Check::no_right_to_lock:
      return call_.request.limits[0] == 0 && !call_.superuser();
    case Check::over_machine:
      return pages_to_wire.value_or(range_->pages()) > space_.machine().options().max_wired_pages;
    case Check::over_lock_limit:
      return over_lock_limit(true);
    case Check::over_user_lock_limit:
      return over_lock_limit(false) && !call_.superuser();
    case Check::over_machine_total:
      return pages_to_wire.value_or(range_->pages()) + space_.machine().wired_pages() +
                 space_.machine().promised_pages() >
             space_.machine().options().max_wired_pages;
    default:
      // mmap's own; vm/calls/mmap_request.cc.
      return false;
  }
}

std::optional<hal::VirtualRange> whole_pages_of(const protocol::TrapRequest& request) {
  const hal::VirtualAddress start(request.args[0]);
  const auto range = hal::VirtualRange::of_length(start, request.args[1]);
  if (!range || range->empty() || !start.is_page_aligned() || !range->end().is_page_aligned()) {
    return std::nullopt;
  }
  return range;
}

bool is_plain(VmMap& map, hal::VirtualRange range) {
  bool plain = true;
  map.for_each_in(range, [&](MapEntry& entry) {
    plain = plain && entry.source == Source::anonymous && !entry.stack && !entry.in_transit;
  });
  return plain;
}

}  // namespace vm::calls
