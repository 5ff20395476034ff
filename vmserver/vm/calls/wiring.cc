// mlock, munlock, mlockall and munlockall, after the seed's functions of these names. Wired pages
// are locked at the host too: the program does that itself, and the faults that bring the pages in
// come here.
#include "vmserver/vm/calls/table.h"

namespace vm::calls {
namespace {

using hal::Protection;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

bool refused(VmSpace& space, Call& call) {
  if (!space.machine().personality().wiring_needs_superuser || call.superuser()) return false;
  call.finish(Error::not_permitted);
  return true;
}

// start rounded down, end up; nothing when that wraps.
std::optional<VirtualRange> wired_range(const Call& call) {
  const auto exact = VirtualRange::of_length(VirtualAddress(call.argument(0)), call.argument(1));
  if (!exact) return std::nullopt;
  const VirtualRange range(exact->start().page_floor(), exact->end().page_ceil());
  if (range.end() < range.start()) return std::nullopt;
  return range;
}

// What of the map mlockall and munlockall reach: all but what the host itself cannot lock.
void for_each_lockable(VmSpace& space, const std::function<void(MapEntry&)>& visit) {
  space.refresh_host(space.layout().bounds);
  for (MapEntry& entry : space.map()) {
    if (entry.source == Source::device || entry.protection == Protection::none()) continue;
    if (entry.source == Source::host && entry.path.starts_with("[v")) continue;  // vvar, vdso
    visit(entry);
  }
}

}  // namespace

void mlock(VmSpace& space, Call& call) {
  if (refused(space, call)) return;
  const auto range = wired_range(call);
  if (!range) return call.finish(Error::invalid);
  const std::uint64_t most = space.machine().options().max_wired_pages;
  if (range->pages() > most) return call.finish(Error::no_memory);
  Error error = Error::none;
  {
    const auto guard = space.lock();
    space.refresh_host(*range);
    const std::uint64_t limit = call.request.limits[0] >> hal::kPageShift;
    if (range->pages() + space.wired_pages() > limit) {
      error = Error::no_memory;
    } else if (range->pages() + space.machine().wired_pages() > most) {
      error = Error::again;
    } else if (!space.map().covers(*range)) {
      error = Error::no_memory;
    }
  }
  if (error != Error::none) return call.finish(error);
  if (range->empty()) return call.finish(Error::none);
  call.plan.add(Step::Kind::lock, *range);
  call.run_plan([&space, &call, range = *range](Error failed) {
    if (failed != Error::none) return call.finish(Error::no_memory);
    {
      const auto guard = space.lock();
      space.set_wired(range, true);
    }
    call.finish(Error::none);
  });
}

void munlock(VmSpace& space, Call& call) {
  if (refused(space, call)) return;
  const auto range = wired_range(call);
  if (!range) return call.finish(Error::invalid);
  bool holes = false;
  {
    const auto guard = space.lock();
    space.refresh_host(*range);
    holes = !space.map().covers(*range);
    if (!holes && !range->empty()) {
      space.set_wired(*range, false);
      space.map().simplify(*range);
      call.plan.add(Step::Kind::unlock, *range);
    }
  }
  call.finish(holes ? Error::no_memory : Error::none);
}

void mlockall(VmSpace& space, Call& call) {
  const LockAllFlags how = call.abi->lock_all_flags(call.argument(0));
  if (how.unknown) return call.finish(Error::invalid);
  if (refused(space, call)) return;
  {
    const auto guard = space.lock();
    if (how.future) space.set_wire_future(true);
    if (how.current) {
      for_each_lockable(space, [&](MapEntry& entry) {
        call.plan.add(Step::Kind::lock, entry.range);
      });
    }
  }
  if (call.plan.empty()) return call.finish(Error::none);
  call.run_plan([&space, &call](Error failed) {
    if (failed != Error::none) return call.finish(Error::again);
    {
      const auto guard = space.lock();
      std::vector<VirtualRange> wired;
      for (MapEntry& entry : space.map()) {
        if (entry.source != Source::device && entry.protection != Protection::none()) {
          wired.push_back(entry.range);
        }
      }
      for (VirtualRange range : wired) space.set_wired(range, true);
    }
    call.finish(Error::none);
  });
}

void munlockall(VmSpace& space, Call& call) {
  if (refused(space, call)) return;
  {
    const auto guard = space.lock();
    space.set_wire_future(false);
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
