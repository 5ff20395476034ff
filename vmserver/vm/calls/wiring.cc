// mlock, munlock, mlockall and munlockall, after the seed's functions of these names. Wired pages
// are locked at the host too: the program does that itself, and the faults that bring the pages in
// come here.
#include "vmserver/vm/calls/checks.h"
#include "vmserver/vm/calls/table.h"

namespace vm::calls {
namespace {

using hal::Protection;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

constexpr std::uint64_t kOnFault = 1;  // mlock2's only flag

/// What mlockall and munlockall reach of the map: all but what the host itself cannot lock.
bool lockable(const MapEntry& entry) {
  if (entry.source == Source::host) {
    return entry.protection != Protection::none() && !entry.path.starts_with("[v");  // vvar, vdso
  }
  return entry.managed() && entry.source != Source::device &&
         entry.protection != Protection::none();
}

}  // namespace

void mlock(VmSpace& space, Call& call) {
  const Personality::Mlock& rules = call.rules->mlock;
  RangeChecks checks(space, call);
  const std::uint64_t flags = call.argument(2);
  checks.flags_unknown = (flags & ~kOnFault) != 0;
  if (checks.end_call(rules.checks)) return;
  VirtualRange range = *checks.range();
  Error error = Error::none;
  if (!rules.all_or_nothing) {
    const auto guard = space.lock();
    space.refresh_host(range);
    walk(space.map(), range, [&](VirtualRange hole, MapEntry*) {
      if (hole.empty()) return true;
      range = VirtualRange(range.start(), hole.start());
      error = Error::no_memory;
      return false;
    });
  }
  if (range.empty()) return call.finish(error);
  call.plan.add(Step::Kind::lock, range).enable = (flags & kOnFault) != 0;
  // Where nothing leaves, and where there is nothing to add to what the host says, the plan goes along
  // with the answer.
  if (!space.pages_leave() && error == Error::none) {
    {
      const auto guard = space.lock();
      space.set_wired(range, true);
      space.offer_lock_credit(call.request.limits[0] >> hal::kPageShift);
    }
    Answer answer;
    answer.wired = range;
    return call.finish(answer);
  }
  call.run_plan([&space, &call, &rules, range, error](Error failed) {
    if (failed != Error::none && rules.all_or_nothing) {
      call.plan.add(Step::Kind::unlock, range).may_fail = true;
      return call.finish(Error::no_memory);
    }
    {
      const auto guard = space.lock();
      space.set_wired(range, true);
    }
    call.finish(failed != Error::none ? Error::no_memory : error);
  });
}

void munlock(VmSpace& space, Call& call) {
  RangeChecks checks(space, call);
  if (checks.end_call(call.rules->munlock)) return;
  const VirtualRange range = *checks.range();
  if (!range.empty()) {
    const auto guard = space.lock();
    space.set_wired(range, false);
    space.map().simplify(range);
    call.plan.add(Step::Kind::unlock, range);
  }
  call.finish(Error::none);
}

// Counted before it can count for anything else: the credit was within every limit.
bool note_mlock(VmSpace& space, const protocol::TrapRequest& request) {
  const auto range = whole_pages_of(request);
  VmMap& map = space.map();
  if (!range || !map.covers(*range) || !is_plain(map, *range) ||
      !space.spend_lock_credit(range->pages())) {
    return false;
  }
  space.set_wired(*range, true);
  return true;
}

bool note_munlock(VmSpace& space, const protocol::TrapRequest& request) {
  const auto range = whole_pages_of(request);
  VmMap& map = space.map();
  if (!range || space.pages_leave() || !map.covers(*range) || !is_plain(map, *range)) return false;
  space.set_wired(*range, false);
  map.simplify(*range);
  return true;
}

void mlockall(VmSpace& space, Call& call) {
  RangeChecks checks(space, call);
  const LockAllFlags how = call.abi->lock_all_flags(call.argument(0));
  checks.flags_unknown = how.unknown;
  if (checks.end_call(call.rules->mlockall.checks)) return;
  if (how.current) {
    std::uint64_t pages = 0;
    {
      const auto guard = space.lock();
      space.refresh_host(space.layout().bounds);
      for (const MapEntry& entry : space.map()) {
        if (lockable(entry) && !entry.wired) pages += entry.range.pages();
      }
    }
    checks.pages_to_wire = pages;
    if (checks.end_call(call.rules->mlockall.checks_of_current)) return;
  }
  std::vector<VirtualRange> wired;
  {
    using Future = VmSpace::WireFuture;
    const auto guard = space.lock();
    if (how.future) space.set_wire_future(how.on_fault ? Future::on_fault : Future::at_once);
    if (how.current) {
      for (const MapEntry& entry : space.map()) {
        if (!lockable(entry)) continue;
        wired.push_back(entry.range);
        Step& step = call.plan.add(Step::Kind::lock, entry.range);
        step.enable = how.on_fault;
        step.may_fail = call.rules->mlockall.cannot_wire == Error::none;
      }
    }
  }
  if (call.plan.empty()) return call.finish(Error::none);
  call.run_plan([&space, &call, wired = std::move(wired)](Error failed) {
    if (failed != Error::none) return call.finish(call.rules->mlockall.cannot_wire);
    {
      const auto guard = space.lock();
      for (VirtualRange range : wired) space.set_wired(range, true);
    }
    call.finish(Error::none);
  });
}

void munlockall(VmSpace& space, Call& call) {
  RangeChecks checks(space, call);
  if (checks.end_call(call.rules->munlockall)) return;
  {
    const auto guard = space.lock();
    space.set_wire_future(VmSpace::WireFuture::no);
    std::vector<VirtualRange> wired;
    for (MapEntry& entry : space.map()) {
      if (!entry.wired) continue;
      wired.push_back(entry.range);
      call.plan.add(Step::Kind::unlock, entry.range);
    }
    for (VirtualRange range : wired) space.set_wired(range, false);
  }
  call.finish(Error::none);
}

}  // namespace vm::calls
