// madvise and posix_madvise, after the seed's madvise() and FreeBSD's vm_map_madvise(); and the
// advice that only the host's programs give, after madvise(2) of Linux.
#include "vmserver/vm/calls/checks.h"
#include "vmserver/vm/calls/inheritance.h"
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

using hal::Inherit;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

bool private_memory(const MapEntry& entry) {
  return entry.sharing == hal::Sharing::copy_on_write && entry.source != Source::device;
}

// What madvise(2) of the host says does not go together.
Error misfit(const MapEntry& entry, Advice advice) {
  const bool anonymous = entry.source == Source::anonymous;
  switch (advice) {
    case Advice::discard:
    case Advice::deactivate:
      return entry.wired ? Error::invalid : Error::none;
    case Advice::free:
      return anonymous && !entry.wired ? Error::none : Error::invalid;
    case Advice::inherit_zero:
      return anonymous ? Error::none : Error::invalid;
    case Advice::remove:
      if (entry.wired || !entry.object) return Error::invalid;
      return !private_memory(entry) && entry.maximum.writable() && entry.protection.writable()
                 ? Error::none
                 : Error::access;
    default:
      return Error::none;
  }
}

// What brings the pages of an entry in before they are touched. Of private memory that is nothing:
// it is all there, or was never stored to.
void will_need(MapEntry& entry) {
  if (entry.object && !entry.object->host_memory()) {
    entry.object->prefetch(entry.pages_of(entry.range));
  }
}

// MADV_REMOVE: a hole in memory that is shared and has no other home.
Error punch_hole(MapEntry& entry) {
  if (!entry.object || entry.object->kind() != VmObject::Kind::anonymous) {
    return Error::not_supported;
  }
  entry.object->punch(entry.pages_of(entry.range));
  return Error::none;
}

Error advise_entry(MapEntry& entry, Advice advice, hal::Plan& plan) {
  switch (advice) {
    case Advice::normal:
    case Advice::random:
    case Advice::sequential:
      entry.advice = advice;
      break;
    case Advice::will_need:
      will_need(entry);
      break;
    case Advice::deactivate:
      entry.space->let_go_first(entry, entry.range);
      plan.add(Step::Kind::deactivate, entry.range).may_fail = true;
      break;
    case Advice::discard:
    case Advice::discard_locked:
      // Shared pages stay with the object either way.
      if (private_memory(entry)) plan.add(Step::Kind::discard, entry.range);
      break;
    case Advice::free:
      if (entry.source != Source::anonymous) break;
      // The host does not know when memory is short here.
      plan.add(entry.space->pages_leave() ? Step::Kind::discard : Step::Kind::lazy_free, entry.range);
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
    case Advice::inherit_none:
      inherit_as(entry, Inherit::none, plan);
      break;
    case Advice::inherit_copy:
      inherit_as(entry, private_memory(entry) ? Inherit::copy : Inherit::share, plan);
      break;
    case Advice::inherit_zero:
      inherit_as(entry, Inherit::zero, plan);
      break;
    case Advice::remove:
      return punch_hole(entry);
    default:
      break;
  }
  return Error::none;
}

// Carries the advice out, entry by entry, as far as the rules go.
Error advise_range(VmSpace& space, Call& call, VirtualRange range, Advice advice) {
  const Personality::Madvise& rules = call.rules->madvise;
  Error error = Error::none;
  space.map().clip(range);
  walk(space.map(), range, [&](VirtualRange hole, MapEntry* entry) {
    if (!hole.empty() && rules.holes.error != Error::none) {
      error = rules.holes.error;
      if (!rules.holes.goes_on) return false;
    }
    if (entry == nullptr) return true;
    const VirtualRange part = entry->range.intersect(range);
    if (entry->source == Source::host) {
      call.plan.add(Step::Kind::host_call, part);
      return true;
    }
    if (!entry->managed()) return true;
    if (rules.strict) {
      if (const Error wrong = misfit(*entry, advice); wrong != Error::none) {
        error = wrong;
        return false;
      }
    }
    const Error failed = advise_entry(*entry, advice, call.plan);
    if (failed != Error::none) error = failed;
    return failed == Error::none;
  });
  space.map().simplify(range);
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
  RangeChecks checks(space, call);
  checks.advice = advice;
  if (checks.end_call(call.rules->madvise.checks)) return;
  const VirtualRange range = *checks.range();
  if (range.empty()) return call.finish(Error::none);

  Error error = Error::none;
  {
    const auto guard = space.lock();
    space.refresh_host(range);
    if (advice == Advice::host) {
      call.plan.add(Step::Kind::host_call, range);
    } else {
      error = advise_range(space, call, range, advice);
    }
  }
  call.finish(error);
}

}  // namespace

void madvise(VmSpace& space, Call& call) {
  advise(space, call, call.abi->advice(static_cast<int>(call.argument(2))));
}

void posix_madvise(VmSpace& space, Call& call) {
  advise(space, call, call.abi->posix_advice(static_cast<int>(call.argument(2))));
}

}  // namespace vm::calls
