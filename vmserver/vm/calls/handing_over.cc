// hand_over: what a program's shim asks for when the program registers a userfaultfd of its own with
// memory that is served. A range has one userfaultfd only (userfaultfd(2), EBUSY), so the server lets
// go of it: the pages stay, the mapping is the host's from then on. Of private memory only; what others
// share stays served, and the program's registration fails.
#include "vmserver/vm/calls/table.h"

namespace vm::calls {
namespace {

using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

Error plan_handing_over(VmSpace& space, Call& call, VirtualRange range) {
  const auto guard = space.lock();
  bool fit = true;
  bool any = false;
  space.map().for_each_in(range, [&](MapEntry& entry) {
    if (entry.source == Source::host) return;
    any = true;
    fit = fit && entry.source == Source::anonymous && !entry.stack && !entry.in_transit;
  });
  if (!any || !fit) return Error::busy;
  space.map().for_each_in(range, [&](MapEntry& entry) {
    if (entry.source != Source::host) {
      call.plan.add(Step::Kind::unmanage, entry.range.intersect(range));
    }
  });
  return Error::none;
}

// Faults of the range that are under way already find the host's entry and try again.
void hand_over_entries(VmSpace& space, VirtualRange range) {
  const auto guard = space.lock();
  VmMap& map = space.map();
  map.clip(range);
  std::vector<std::unique_ptr<MapEntry>> handed;
  map.for_each_in(range, [&](MapEntry& entry) {
    auto copy = entry.alike(entry.range, entry.page);
    copy->source = Source::host;
    handed.push_back(std::move(copy));
  });
  space.take_out(range, [](VirtualRange) {});
  for (auto& entry : handed) map.insert(std::move(entry));
}

}  // namespace

namespace {

void let_go(VmSpace& space, Call& call, VirtualRange range) {
  const Error error = plan_handing_over(space, call, range);
  if (error != Error::none) return call.finish(error);
  call.run_plan([&space, &call, range](Error failed) {
    if (failed == Error::none) hand_over_entries(space, range);
    call.finish(failed);
  });
}

}  // namespace

void hand_over(VmSpace& space, Call& call) {
  const VirtualAddress start(call.argument(0));
  const auto range = VirtualRange::of_length(start, call.argument(1));
  if (!range || range->empty() || !start.is_page_aligned() || !range->end().is_page_aligned() ||
      !space.may_map(*range)) {
    return call.finish(Error::invalid);
  }
  // The host has nothing to bring back.
  space.bring_all_back(*range, [&space, &call, where = *range](Error error) {
    if (error != Error::none) return call.finish(error);
    let_go(space, call, where);
  });
}

}  // namespace vm::calls
