// Checks: a call's arguments against the rules of its personality.
//
// A call asks about its rules one after another; the first that applies ends it. What a check means
// is said here once, whichever call or personality makes it.
#pragma once

#include <optional>

#include "vmserver/vm/call.h"
#include "vmserver/vm/personality.h"
#include "vmserver/vm/vm_space.h"

namespace vm::calls {

/// The error of the first rule for which `holds` is true; nothing when the call may go on.
template <class Holds>
std::optional<Error> first_that_holds(Rules rules, Holds holds) {
  for (const Rule& rule : rules) {
    if (holds(rule.check)) return rule.error;
  }
  return std::nullopt;
}

/// The checks of calls on a range: argument 0 is its address, argument 1 its length.
class RangeChecks {
 public:
  RangeChecks(VmSpace& space, Call& call);
  /// Of a range that is not simply the pages that the arguments touch.
  RangeChecks(VmSpace& space, Call& call, const std::optional<hal::VirtualRange>& range)
      : space_(space), call_(call), range_(range) {}

  /// Ends the call when one of the rules applies. Takes the space's lock by itself.
  bool end_call(Rules rules);

  /// The pages that the range touches; nothing when it wraps.
  const std::optional<hal::VirtualRange>& range() const { return range_; }
  /// What else the rules need; set by the calls that have it.
  SyncFlags sync;
  LockAllFlags lock_all;
  InheritArgument inherit;
  ProtectionArgument protection;
  Advice advice = Advice::normal;
  bool flags_unknown = false;
  /// What would become wired; otherwise the pages of the range.
  std::optional<std::uint64_t> pages_to_wire;

 private:
  bool holds(Check check);
  bool over_lock_limit(bool counts_twice);

  VmSpace& space_;
  Call& call_;
  std::optional<hal::VirtualRange> range_;
};

/// Where a program has done something by itself (kRequestDone): whole pages, and not none.
std::optional<hal::VirtualRange> whole_pages_of(const protocol::TrapRequest& request);
/// Whether nothing but plain private memory is there. Needs the space's lock.
bool is_plain(VmMap& map, hal::VirtualRange range);

}  // namespace vm::calls
