// mprotect, after the seed's function and FreeBSD's vm_map_protect().
#include "vmserver/vm/calls/checks.h"
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/hooks.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

using hal::Protection;
using hal::Sharing;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

// Runs of neighbouring managed entries, so that the program has one step for each.
template <class Visit>
void for_each_managed_run(VmMap& map, VirtualRange range, Visit visit) {
  VirtualRange run;
  map.for_each_in(range, [&](MapEntry& entry) {
    const VirtualRange part = entry.range.intersect(range);
    if (!entry.managed()) return;
    if (!run.empty() && run.end() == part.start()) {
      run = VirtualRange(run.start(), part.end());
      return;
    }
    if (!run.empty()) visit(run);
    run = part;
  });
  if (!run.empty()) visit(run);
}

// A shared file mapping that may be written from now on has to tell which pages were.
bool starts_tracking(const MapEntry& entry, Protection protection) {
  return entry.object && entry.sharing == Sharing::shared && protection.writable() &&
         entry.object->tracks_stores();
}

struct Reach {
  VirtualAddress end;  // where the change has to stop
  Error error = Error::none;
};

// How far the range lets itself be changed. Needs the space's lock.
Reach find_reach(VmSpace& space, const Personality::Mprotect& rules,
                 const ProtectionArgument& argument, VirtualRange range) {
  const VirtualRange nameplate = space.layout().nameplate;
  Reach reach{range.end(), Error::none};
  const auto stop = [&](VirtualAddress where, Error error) {
    reach = {where, error};
    return false;
  };
  walk(space.map(), range, [&](VirtualRange hole, MapEntry* entry) {
    if (!hole.empty() && rules.holes.error != Error::none) {
      return stop(hole.start(), rules.holes.error);
    }
    if (entry == nullptr || entry->source == Source::guard) return true;
    const Protection wanted = argument.maximum.value_or(Protection::none()) | argument.value;
    if (entry->source != Source::host && !entry->maximum.allows(wanted)) {
      return stop(std::max(range.start(), entry->range.start()), Error::access);
    }
    return true;
  });
  if (range.overlaps(nameplate) && nameplate.start() < reach.end) {
    reach = {std::max(range.start(), nameplate.start()), Error::access};
  }
  return reach;
}

void change(VmSpace& space, Call& call, VirtualRange range, const ProtectionArgument& argument) {
  VmMap& map = space.map();
  map.clip(range);
  map.for_each_in(range, [&](MapEntry& entry) {
    if (!entry.managed()) return;
    if (starts_tracking(entry, argument.value)) {
      entry.object->set_sharing(entry, Sharing::shared_tracked);
      call.plan.add(Step::Kind::track, entry.range);
    }
    entry.protection = argument.value;
    if (argument.maximum) entry.maximum = *argument.maximum;
  });
  for_each_managed_run(map, range,
                       [&](VirtualRange run) { call.plan.protect(run, argument.value); });
  pass_host_parts(space, call, range);
  map.simplify(range);
}

// The host's PROT_GROWSDOWN: the change begins where the mapping does that grows down. Needs the
// space's lock.
Error extend_down(VmSpace& space, VirtualRange& range) {
  const MapEntry* entry = space.map().find(range.start());
  if (entry == nullptr) return Error::none;  // the hole is found next
  if (entry->source == Source::host) return Error::none;  // the host extends its own
  if (!entry->stack) return Error::invalid;
  range = VirtualRange(entry->range.start(), range.end());
  return Error::none;
}

}  // namespace

// Only what has no effect but on the map: nothing of an object's, nothing that may be run.
bool note_mprotect(VmSpace& space, const protocol::TrapRequest& request) {
  const auto range = whole_pages_of(request);
  const Protection protection(static_cast<std::uint8_t>(request.args[2]));
  if (!range || request.args[2] > Protection::all().bits() || protection.executable()) return false;
  VmMap& map = space.map();
  bool allowed = map.covers(*range) && is_plain(map, *range);
  map.for_each_in(*range, [&](MapEntry& entry) {
    allowed = allowed && entry.maximum.allows(protection);
  });
  if (!allowed) return false;
  map.clip(*range);
  map.for_each_in(*range, [&](MapEntry& entry) { entry.protection = protection; });
  map.simplify(*range);
  return true;
}

void mprotect(VmSpace& space, Call& call) {
  const Personality::Mprotect& rules = call.rules->mprotect;
  RangeChecks checks(space, call);
  checks.protection = call.abi->protection(call.argument(2));
  if (checks.end_call(rules.checks)) return;
  VirtualRange range = *checks.range();
  Error error = Error::none;
  {
    const auto guard = space.lock();
    space.refresh_host(range);
    if (checks.protection.grows_up) error = Error::invalid;
    if (checks.protection.grows_down) error = extend_down(space, range);
    if (error == Error::none) {
      const Reach reach = find_reach(space, rules, checks.protection, range);
      error = reach.error;
      const Error denied = ask_policy(space, call, range, checks.protection.value);
      if (denied != Error::none) {
        error = denied;
      } else if (error == Error::none || rules.stops_at_refusal) {
        change(space, call, VirtualRange(range.start(), reach.end), checks.protection);
      }
    }
  }
  call.finish(error);
}

}  // namespace vm::calls
