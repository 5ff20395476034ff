// mmap, ommap and munmap, after the seed's mmap(), vm_mmap(), ommap() and munmap(). What can be wrong
// with the arguments is in vm/calls/mmap_request.h; here is what is done once nothing is.
#include <algorithm>
#include <memory>

#include "vmserver/vm/calls/checks.h"
#include "vmserver/vm/calls/mmap_request.h"
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/hooks.h"
#include "vmserver/vm/machine.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

using hal::PageIndex;
using hal::Protection;
using hal::Sharing;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

/// Most that is kept free below a mapping that grows down under the host's rules, whatever
/// RLIMIT_STACK says.
constexpr std::uint64_t kMostRoomBelow = std::uint64_t{64} << 20;
/// MAP_32BIT: the first 2 GiB, without what no system maps unasked.
constexpr VirtualRange kLowRange(VirtualAddress(0x10000), VirtualAddress(std::uint64_t{1} << 31));

Sharing sharing_of(const MmapRequest& m) {
  if (!m.object || !m.flags.shared) return Sharing::copy_on_write;
  if (!m.maximum.writable()) return Sharing::shared_read_only;
  // Tracking costs the host's fault-around, so it begins with the right to write (mprotect).
  const bool track = m.object->tracks_stores() && m.protection.writable();
  return track ? Sharing::shared_tracked : Sharing::shared;
}

std::unique_ptr<MapEntry> make_entry(const MmapRequest& m, VirtualRange range, Source source) {
  auto entry = std::make_unique<MapEntry>();
  entry->range = range;
  entry->page = m.page;
  entry->space = &m.space;
  entry->source = source;
  entry->protection = m.protection;
  entry->maximum = m.maximum;
  entry->inherit = m.flags.shared ? hal::Inherit::share : hal::Inherit::copy;
  entry->no_sync = m.flags.no_sync;
  entry->no_core = m.flags.no_core;
  if (source == Source::object) {
    entry->object = m.object;
    entry->sharing = sharing_of(m);
  }
  if (source == Source::device) {
    entry->sharing = Sharing::shared;
    entry->path = m.call.file->attributes.path;
  }
  return entry;
}

bool replaces(const MmapRequest& m) { return m.flags.fixed && !m.flags.no_replace; }

// Private memory where the mapping goes: what is there is replaced, or nothing may be there.
void plan_memory(const MmapRequest& m, VirtualRange range, Protection protection) {
  const bool replace = replaces(m) && m.range.contains(range);
  Step& step = m.call.plan.add(replace ? Step::Kind::replace : Step::Kind::claim, range);
  step.protection = protection;
  step.enable = m.flags.no_reserve || m.rules.overcommits;
}

// A mapping that grows down: the part that is there, the gap it may grow into, and what stays out of
// reach below that. The host has all of gap and stack accessible; which of it is the program's is
// told by the faults (VmSpace::fault).
void insert_stack(const MmapRequest& m, VirtualRange stack, VirtualRange gap) {
  VmMap& map = m.space.map();
  auto entry = make_entry(m, stack, Source::anonymous);
  entry->stack = true;
  map.insert(std::move(entry));
  if (gap.empty() || m.range.contains(gap)) {
    plan_memory(m, m.range, Protection::none());
  } else if (m.flags.fixed) {
    plan_memory(m, gap, Protection::none());
    plan_memory(m, stack, Protection::none());
  } else {
    plan_memory(m, VirtualRange(gap.start(), stack.end()), Protection::none());
  }
  m.call.plan.protect(stack, m.protection);
  if (gap.empty()) return;
  const std::uint64_t guard = std::min(hal::bytes_from_pages(m.rules.stack_guard_pages),
                                       gap.bytes());
  const VirtualRange grows(gap.start() + guard, gap.end());
  if (!grows.empty()) {
    map.insert(make_entry(m, grows, Source::gap));
    m.call.plan.protect(grows, m.protection);
  }
  if (guard == 0) return;
  auto lowest = make_entry(m, VirtualRange(gap.start(), grows.start()), Source::guard);
  lowest->protection = lowest->maximum = Protection::none();
  map.insert(std::move(lowest));
}

void insert_mapping(const MmapRequest& m) {
  VmMap& map = m.space.map();
  hal::Plan& plan = m.call.plan;
  if (m.flags.guard) {
    plan_memory(m, m.range, Protection::none());
    map.insert(make_entry(m, m.range, Source::guard));
  } else if (m.host_device) {
    if (!replaces(m)) plan_memory(m, m.range, Protection::none());
    Step& step = plan.add(Step::Kind::map_device, m.range);
    step.page = m.page;
    step.protection = m.protection;
    step.descriptor = static_cast<int>(m.call.argument(4));
    map.insert(make_entry(m, m.range, Source::device));
  } else if (m.object) {
    auto entry = make_entry(m, m.range, Source::object);
    Step& step = plan.add(Step::Kind::map_backing, m.range);
    step.backing = m.object->backing();
    step.sharing = entry->sharing;
    step.page = m.page;
    step.enable = !replaces(m);
    map.insert(std::move(entry));
    if (m.protection != Protection::none()) plan.protect(m.range, m.protection);
  } else if (m.flags.stack && m.rules.growth == Growth::within) {
    const std::uint64_t guard = hal::bytes_from_pages(m.rules.stack_guard_pages);
    const std::uint64_t first = std::min(m.bytes - guard, kStackGrowth);
    const VirtualRange stack(m.range.end() - first, m.range.end());
    insert_stack(m, stack, VirtualRange(m.range.start(), stack.start()));
  } else if (m.flags.stack) {
    insert_stack(m, m.range, VirtualRange(m.range.start() - m.room_below, m.range.start()));
  } else {
    plan_memory(m, m.range, m.protection);
    map.insert(make_entry(m, m.range, Source::anonymous));
    if (m.flags.thread_stack) m.space.keep_thread_at_end_of(m.range);
  }
}

// MAP_POPULATE brings everything in; MAP_PREFAULT_READ enters what is there.
void plan_prefault(const MmapRequest& m) {
  constexpr std::size_t kMostRuns = 4;
  if (m.protection == Protection::none()) return;
  const auto populate = [&](VirtualRange range, bool write) {
    Step& step = m.call.plan.add(Step::Kind::populate, range);
    step.enable = write;
    step.may_fail = true;
  };
  if (m.flags.populate) {
    if (m.object) m.object->prefetch(hal::PageRange(m.page, m.range.pages()));
    populate(m.range, m.protection.writable() && !m.flags.shared);
  } else if (m.flags.prefault && m.object && m.protection.readable()) {
    std::size_t runs = 0;
    m.object->resident(hal::PageRange(m.page, m.range.pages()), [&](hal::PageRange run) {
      if (runs++ >= kMostRuns) return;
      const VirtualAddress start = m.range.start() + hal::bytes_from_pages(run.first() - m.page);
      populate(VirtualRange(start, start + run.bytes()), false);
    });
  }
}

bool wires(const MmapRequest& m) {
  if (m.protection == Protection::none() || m.flags.guard) return false;
  return m.space.wire_future() != VmSpace::WireFuture::no ||
         (m.flags.locked && m.rules.heeds_locked);
}

// What of a mapping is there to be wired: a stack's gap is not. Needs the space's lock.
VirtualRange wired_part(const MmapRequest& m) {
  if (!m.flags.stack) return m.range;
  const MapEntry* stack = m.space.map().find(m.range.end() - hal::kPageSize);
  return stack != nullptr ? stack->range.intersect(m.range) : m.range;
}

void finish_mapped(const std::shared_ptr<MmapRequest>& m, const Answer& answer) {
  trace_mapped(m->space, m->call, m->range, m->protection);
  m->call.finish(answer);
}

// Where a mapping that cannot be wired must not stay, it is there before it is wired.
void wire_and_finish(const std::shared_ptr<MmapRequest>& m, const Answer& answer) {
  m->call.run_plan([m, answer](Error failed) {
    if (failed != Error::none) return m->space.undo(m->call, answer, failed);
    VirtualRange part;
    {
      const auto guard = m->space.lock();
      part = wired_part(*m);
      m->call.plan.add(Step::Kind::lock, part).enable =
          m->space.wire_future() == VmSpace::WireFuture::on_fault && !m->flags.locked;
    }
    m->call.run_plan([m, answer, part](Error not_wired) {
      if (not_wired == Error::none) {
        {
          const auto guard = m->space.lock();
          m->space.set_wired(part, true);
        }
        return finish_mapped(m, answer);
      }
      const bool no_right = not_wired == Error::not_permitted;
      m->space.undo(m->call, answer, no_right ? not_wired : m->rules.wiring_failed);
    });
  });
}

// The last part: the place is known.
void enter(const std::shared_ptr<MmapRequest>& m) {
  VmSpace& space = m->space;
  hal::Plan& plan = m->call.plan;
  Answer answer;
  bool must_wire = false;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    if (replaces(*m)) {
      space.remove(m->range, plan);
      plan.keep_mapped(m->range);
    }
    insert_mapping(*m);
    if (m->flags.no_core) plan.add(Step::Kind::dump, m->range).enable = false;
    plan_prefault(*m);
    answer.undo = m->range;
    answer.claims = !replaces(*m);
    answer.occupied = m->flags.fixed ? m->rules.occupied : Error::none;
    answer.value = (m->range.start() + m->page_offset).value();
    if (wires(*m)) {
      must_wire = m->rules.wiring_failed != Error::none;
      if (!must_wire) {
        plan.add(Step::Kind::lock, wired_part(*m)).may_fail = true;
        space.set_wired(wired_part(*m), true);
      }
    }
    if (!m->object) map.simplify(m->range);
    if ((m->call.request.flags & protocol::kRequestLease) != 0) space.offer_lease();
  }
  if (must_wire) return wire_and_finish(m, answer);
  finish_mapped(m, answer);
}

// What the host keeps free below a stack and lets it grow into.
std::uint64_t room_for_growth(const MmapRequest& m) {
  if (!m.flags.stack || m.rules.growth == Growth::within) return 0;
  const std::uint64_t most = std::min(m.call.request.limits[2] & ~(hal::kPageSize - 1),
                                      kMostRoomBelow);
  const std::uint64_t guard = hal::bytes_from_pages(m.rules.stack_guard_pages);
  return guard + (most > m.bytes ? most - m.bytes : 0);
}

struct Place {
  std::optional<VirtualRange> range;
  Error error = Error::no_memory;
};

// Needs the space's lock.
Place find_place(MmapRequest& m) {
  VmSpace& space = m.space;
  VmMap& map = space.map();
  if (m.flags.fixed) {
    const VirtualRange range(m.address, m.address + m.bytes);
    if (m.flags.no_replace) {
      space.refresh_host(range);
      if (!map.is_free(range)) return {std::nullopt, m.rules.occupied};
    }
    // It grows only into what is free where the server puts mappings.
    const std::uint64_t room = room_for_growth(m);
    if (room != 0 && map.placement().contains(range) &&
        range.start() - map.placement().start() >= room &&
        map.is_free(VirtualRange(range.start() - room, range.start()))) {
      m.room_below = room;
    }
    return {range, Error::none};
  }
  if (m.flags.low) {
    const VirtualRange low = kLowRange.intersect(space.layout().bounds);
    space.refresh_host(low);
    return {map.find_space_in(low, m.bytes, m.flags.alignment), Error::no_memory};
  }
  // Behind the heap is where the server puts mappings anyway.
  const VirtualAddress asked =
      m.rules.hints_round_down ? m.address.page_floor() : m.address.page_ceil();
  const VirtualAddress hint = m.hint() == m.address ? asked : VirtualAddress(0);
  if (hint != VirtualAddress(0) && !map.placement().contains(hint) &&
      m.flags.alignment == 0) {
    const auto wanted = VirtualRange::of_length(hint, m.bytes);
    if (wanted && space.may_map(*wanted)) {
      space.refresh_host(*wanted);
      if (map.is_free(*wanted)) return {wanted, Error::none};
    }
  }
  const std::uint64_t room = room_for_growth(m);
  auto found = map.find_space(m.bytes + room, hint, m.flags.alignment);
  if (found && room != 0) {
    m.room_below = room;
    found = VirtualRange(found->start() + room, found->end());
  }
  return {found, Error::no_memory};
}

// Finds the place, once the object is known.
void place(const std::shared_ptr<MmapRequest>& m) {
  Place found;
  {
    const auto guard = m->space.lock();
    found = find_place(*m);
    if (found.range) m->range = *found.range;
  }
  if (!found.range) return m->call.finish(found.error);
  enter(m);
}

// From vm_mmap() on, with what MAP_FIXED replaces gone: the checks that are left, then the object.
void back(const std::shared_ptr<MmapRequest>& m) {
  if (m->end_call(m->rules.checks_after_unmapping)) return;
  m->settle_source();
  ObjectCache& objects = m->space.machine().objects();
  if (m->flags.anonymous || m->flags.guard) {
    m->page = PageIndex(0);
    if (m->flags.shared) {
      auto made = objects.make_anonymous(m->bytes);
      if (!made) {
        m->call.finish(made.error());
        return;
      }
      m->object = std::move(made).value();
    }
    place(m);
    return;
  }
  objects.find(*m->call.file, m->device() ? PagerKind::device : PagerKind::file,
               [m](Result<std::shared_ptr<VmObject>> found) {
                 if (!found) {
                   m->call.finish(found.error());
                   return;
                 }
                 m->object = std::move(found).value();
                 m->host_device = m->object->host_memory();
                 place(m);
               });
}

// The host maps it by itself. Where it may replace what is the server's, the map has to know.
void pass_to_host(const std::shared_ptr<MmapRequest>& m) {
  Answer answer;
  answer.value_from_host = true;
  const VirtualRange range(m->address, m->address + m->bytes);
  if (m->flags.fixed && !m->flags.no_replace) {
    const auto guard = m->space.lock();
    m->space.refresh_host(range);
    m->space.remove(range, m->call.plan);
    auto entry = make_entry(*m, range, Source::host);
    if (m->call.file) entry->path = m->call.file->attributes.path;
    m->space.map().insert(std::move(entry));
    answer.undo = range;
  }
  m->call.plan.add(Step::Kind::host_call, range);
  m->call.finish(answer);
}

}  // namespace

void mmap(VmSpace& space, Call& call) {
  auto m = std::make_shared<MmapRequest>(space, call);
  if (m->end_call(m->rules.checks)) return;
  const auto go_on = [m] {
    if (!m->flags.host_only) return back(m);
    if (!m->end_call(m->rules.checks_after_unmapping)) pass_to_host(m);
  };
  if (!m->flags.fixed || m->flags.no_replace) return go_on();
  // MAP_FIXED takes away what was there, whether the rest succeeds or not.
  const VirtualRange range(m->address, m->address + m->bytes);
  settle_stores(space, call, range, true, [m, range, go_on] {
    {
      const auto guard = m->space.lock();
      m->space.refresh_host(range);
      if (!m->flags.host_only) m->space.remove(range, m->call.plan);
    }
    go_on();
  });
}

void ommap(VmSpace& space, Call& call) {
  call.abi = &bsd43_abi();
  mmap(space, call);
}

void munmap(VmSpace& space, Call& call) {
  RangeChecks checks(space, call);
  if (checks.end_call(call.rules->munmap)) return;
  const VirtualRange range = *checks.range();
  // The server's own page is not there for programs.
  if (!space.may_map(range)) return call.finish(Error::invalid);
  settle_stores(space, call, range, true, [&space, &call, range] {
    {
      const auto guard = space.lock();
      space.refresh_host(range);
      trace_unmapped(space, call.pid(), range);
      space.remove(range, call.plan);
    }
    call.finish(Error::none);
  });
}

// The pages that a program brought with it count as a first window: a walk goes on behind them.
bool note_mmap(VmSpace& space, const protocol::TrapRequest& request) {
  const auto range = whole_pages_of(request);
  const std::uint64_t brought = request.args[2];
  if (!range || brought > range->pages() || !space.take_from_lease(*range)) return false;
  auto entry = std::make_unique<MapEntry>();
  entry->range = *range;
  entry->space = &space;
  entry->protection = Protection::read() | Protection::write();
  entry->maximum = Protection::all();
  space.map().insert(std::move(entry));
  space.map().simplify(*range);
  if (brought == 0) return true;
  space.machine().counters().zero_fills += brought;
  const std::uint64_t number = range->start().value() >> hal::kPageShift;
  FaultWindow& window = space.map().find(range->start())->window;
  window.grow(number, Advice::normal);
  window.ended_at(number + brought);
  return true;
}

bool note_munmap(VmSpace& space, const protocol::TrapRequest& request, std::int32_t pid) {
  const auto range = whole_pages_of(request);
  if (!range || space.pages_leave() || !is_plain(space.map(), *range)) return false;
  trace_unmapped(space, pid, *range);
  space.take_out(*range, [](VirtualRange) {}, true);
  space.return_to_lease(*range);
  return true;
}

}  // namespace vm::calls
