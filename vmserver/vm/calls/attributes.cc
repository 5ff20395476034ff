// mprotect, minherit and madvise, after the seed's functions of these names and FreeBSD's
// vm_map_protect(), vm_map_inherit() and vm_map_madvise().
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/hooks.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

using hal::Inherit;
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
    if (entry.source == Source::host) return;
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

void set_inheritance(VmSpace& space, Call& call, VirtualRange range, Inherit inherit) {
  VmMap& map = space.map();
  map.clip(range);
  map.for_each_in(range, [&](MapEntry& entry) {
    entry.inherit = inherit;
    Step& step = call.plan.add(Step::Kind::inherit, entry.range);
    step.inheritance = inherit;
  });
  map.simplify(range);
}

void advise_entry(MapEntry& entry, Advice advice, hal::Plan& plan) {
  const bool private_data = entry.sharing == Sharing::copy_on_write;
  switch (advice) {
    case Advice::normal:
    case Advice::random:
    case Advice::sequential:
      entry.advice = advice;
      break;
    case Advice::will_need:
      if (entry.object && !entry.object->host_memory()) {
        entry.object->prefetch(entry.pages_of(entry.range));
      }
      break;
    case Advice::discard:
      // Shared pages stay with the object either way.
      if (private_data) plan.add(Step::Kind::discard, entry.range);
      break;
    case Advice::free:
      if (entry.source == Source::anonymous) plan.add(Step::Kind::lazy_free, entry.range);
      break;
    case Advice::no_sync:
    case Advice::auto_sync:
      entry.no_sync = advice == Advice::no_sync;
      break;
    case Advice::no_core:
    case Advice::core:
      entry.no_core = advice == Advice::no_core;
      plan.add(Step::Kind::dump, entry.range).enable = !entry.no_core;
      break;
    default:
      break;
  }
}

// MADV_REMOVE: a hole in memory that is shared and has no other home.
Error punch_hole(VmSpace& space, VirtualRange range) {
  Error error = Error::none;
  space.map().for_each_in(range, [&](MapEntry& entry) {
    if (!entry.object || entry.object->kind() != VmObject::Kind::anonymous) {
      error = Error::not_supported;
    } else {
      entry.object->backing()->discard(entry.pages_of(entry.range.intersect(range)));
    }
  });
  return error;
}

void advise(VmSpace& space, Call& call, Advice advice) {
  if (advice == Advice::protect) {
    if (!call.superuser()) return call.finish(Error::not_permitted);
    {
      const auto guard = space.lock();
      space.set_spared(true);
    }
    return call.finish(Error::none);
  }
  if (advice == Advice::unknown) return call.finish(Error::invalid);
  const VirtualAddress address(call.argument(0));
  const auto exact = VirtualRange::of_length(address, call.argument(1));
  if (!exact || !space.layout().bounds.contains(*exact)) return call.finish(Error::invalid);
  const VirtualRange range(exact->start().page_floor(), exact->end().page_ceil());
  if (advice == Advice::ignore || advice == Advice::deactivate || range.empty()) {
    return call.finish(Error::none);
  }

  Answer answer;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    space.refresh_host(range);
    switch (advice) {
      case Advice::host:
        call.plan.add(Step::Kind::host_call, range);
        break;
      case Advice::remove:
        if (pass_host_parts(space, call, range)) answer.error = punch_hole(space, range);
        break;
      case Advice::inherit_none:
        set_inheritance(space, call, range, Inherit::none);
        break;
      case Advice::inherit_copy:
        set_inheritance(space, call, range, Inherit::copy);
        break;
      case Advice::inherit_zero:
        set_inheritance(space, call, range, Inherit::zero);
        break;
      default:
        pass_host_parts(space, call, range);
        map.clip(range);
        map.for_each_in(range, [&](MapEntry& entry) {
          if (entry.source != Source::host) advise_entry(entry, advice, call.plan);
        });
        map.simplify(range);
    }
  }
  call.finish(answer);
}

}  // namespace

void mprotect(VmSpace& space, Call& call) {
  const auto range = VirtualRange::covering(VirtualAddress(call.argument(0)), call.argument(1));
  const Protection protection = Abi::protection(call.argument(2));
  if (!range) return call.finish(Error::invalid);
  Error error = Error::none;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    space.refresh_host(*range);
    map.for_each_in(*range, [&](MapEntry& entry) {
      if (entry.source != Source::host && !entry.maximum.allows(protection)) error = Error::access;
    });
    if (range->overlaps(space.layout().nameplate)) error = Error::access;
    if (error == Error::none) error = ask_policy(space, call, *range, protection);
    if (error == Error::none) {
      map.clip(*range);
      map.for_each_in(*range, [&](MapEntry& entry) {
        if (entry.source == Source::host) return;
        if (starts_tracking(entry, protection)) {
          entry.object->set_sharing(entry, Sharing::shared_tracked);
          call.plan.add(Step::Kind::track, entry.range);
        }
        entry.protection = protection;
      });
      for_each_managed_run(map, *range,
                           [&](VirtualRange run) { call.plan.protect(run, protection); });
      pass_host_parts(space, call, *range);
      map.simplify(*range);
    }
  }
  call.finish(error);
}

void minherit(VmSpace& space, Call& call) {
  const auto range = VirtualRange::covering(VirtualAddress(call.argument(0)), call.argument(1));
  const InheritArgument inherit = call.abi->inheritance(static_cast<int>(call.argument(2)));
  if (!range || !inherit.valid) return call.finish(Error::invalid);
  Error error = Error::none;
  {
    const auto guard = space.lock();
    space.refresh_host(*range);
    space.map().for_each_in(*range, [&](MapEntry& entry) {
      // Private memory would have to become an object, and shared memory private, in the child.
      // Neither is offered yet, and saying yes would lose data.
      const bool shared = entry.sharing != Sharing::copy_on_write;
      if (inherit.value == Inherit::share && !shared) error = Error::not_supported;
      if (inherit.value == Inherit::copy && shared && entry.sharing != Sharing::shared_read_only) {
        error = Error::not_supported;
      }
    });
    if (error == Error::none) set_inheritance(space, call, *range, inherit.value);
  }
  call.finish(error);
}

void madvise(VmSpace& space, Call& call) {
  advise(space, call, call.abi->advice(static_cast<int>(call.argument(2))));
}

void posix_madvise(VmSpace& space, Call& call) {
  advise(space, call, call.abi->posix_advice(static_cast<int>(call.argument(2))));
}

}  // namespace vm::calls
