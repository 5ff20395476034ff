// mremap: the host's call; FreeBSD has none. Its rules are those of Linux's mremap(2).
#include <memory>

#include "vmserver/vm/calls/inheritance.h"
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

using hal::Protection;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

constexpr std::uint64_t kMayMove = 1;
constexpr std::uint64_t kFixed = 2;

// Adds the steps that make the new end of a grown mapping exist.
void plan_growth(const MapEntry& entry, VirtualRange range, hal::PageIndex page, hal::Plan& plan) {
  if (entry.object) {
    Step& step = plan.add(Step::Kind::map_backing, range);
    step.backing = entry.object->backing();
    step.sharing = entry.sharing;
    step.page = page;
  }
  const hal::Inherit inherit = hosts_inheritance(entry);
  if (inherit == hal::Inherit::none || inherit == hal::Inherit::zero) {
    plan.add(Step::Kind::inherit, range).inheritance = inherit;
  }
  if (entry.no_core) plan.add(Step::Kind::dump, range).enable = false;
  if (entry.protection != Protection::none()) plan.protect(range, entry.protection);
}

// Follows the file: a program that grew it and now maps more of it finds the new pages.
void follow_size(const MapEntry& entry) {
  if (entry.object && entry.object->kind() == VmObject::Kind::file) entry.object->follow_file();
}

void grow_or_move(VmSpace& space, Call& call, VirtualRange from, std::uint64_t bytes,
                  std::optional<VirtualRange> fixed) {
  Answer answer;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    MapEntry* entry = map.find(from.start());
    // Where stores were settled first, the program cannot reach the range now. If it stays, it has
    // to be as it was.
    const auto stay = [&] {
      if (entry->tracked()) call.plan.protect(from, entry->protection);
    };
    if (entry == nullptr) {
      answer.error = Error::fault;
    } else if (!fixed && map.arena().contains(from) && bytes > from.bytes() &&
               map.arena().contains(VirtualRange(from.start(), from.start() + bytes)) &&
               map.is_free(VirtualRange(from.end(), from.start() + bytes))) {
      const VirtualRange more(from.end(), from.start() + bytes);
      const hal::PageIndex page = entry->page_at(more.start());
      auto grown = entry->alike(more, page);
      stay();
      plan_growth(*entry, more, page, call.plan);
      map.insert(std::move(grown));
      map.simplify(more);
      answer.value = from.start().value();
      answer.undo = more;
    } else if ((call.argument(3) & kMayMove) == 0) {
      answer.error = Error::no_memory;
      stay();
      map.simplify(from);
    } else {
      std::optional<VirtualRange> target = fixed ? fixed : map.find_space(bytes, VirtualAddress(0));
      if (!target || !map.arena().contains(*target)) {
        answer.error = Error::no_memory;
        stay();
        map.simplify(from);
      } else {
        if (fixed) space.remove(*target, call.plan);
        const VirtualRange kept(target->start(),
                                target->start() + std::min(from.bytes(), bytes));
        Step& move = call.plan.add(Step::Kind::move, VirtualRange(from.start(), from.start() +
                                                                                    kept.bytes()));
        move.target = target->start();
        move.sharing = entry->sharing;
        call.plan.protect(kept, entry->protection);
        auto moved = entry->alike(*target, entry->page_at(from.start()));
        if (target->end() > kept.end()) {
          plan_growth(*entry, VirtualRange(kept.end(), target->end()),
                      moved->page_at(kept.end()), call.plan);
        }
        space.remove(from, call.plan);
        map.insert(std::move(moved));
        map.simplify(*target);
        answer.value = target->start().value();
      }
    }
  }
  call.finish(answer);
}

}  // namespace

void mremap(VmSpace& space, Call& call) {
  const VirtualAddress address(call.argument(0));
  const std::uint64_t flags = call.argument(3);
  const std::uint64_t old_bytes = hal::bytes_from_pages(hal::pages_for_bytes(call.argument(1)));
  const std::uint64_t new_bytes = hal::bytes_from_pages(hal::pages_for_bytes(call.argument(2)));
  const auto from = VirtualRange::of_length(address, old_bytes);
  if (!address.is_page_aligned() || !from || new_bytes == 0 || !space.may_map(*from)) {
    return call.finish(Error::invalid);
  }
  // MREMAP_DONTUNMAP and the duplication by an old length of 0 are not offered for managed ranges.
  if ((flags & ~(kMayMove | kFixed)) != 0 || old_bytes == 0 ||
      ((flags & kFixed) != 0 && (flags & kMayMove) == 0)) {
    return call.finish(Error::invalid);
  }
  std::optional<VirtualRange> fixed;
  if ((flags & kFixed) != 0) {
    fixed = VirtualRange::of_length(VirtualAddress(call.argument(4)), new_bytes);
    if (!fixed || !fixed->start().is_page_aligned() || !space.may_map(*fixed) ||
        fixed->overlaps(*from)) {
      return call.finish(Error::invalid);
    }
  }
  if (new_bytes > space.layout().bounds.bytes()) return call.finish(Error::no_memory);

  Error error = Error::none;
  bool host = false;
  bool tracked = false;
  {
    const auto guard = space.lock();
    space.refresh_host(*from);
    MapEntry* entry = space.map().find(address);
    if (entry == nullptr || !entry->range.contains(*from)) {
      error = Error::fault;  // a hole, or more than one mapping
    } else if (entry->source == Source::host) {
      host = true;
      // The host would put its mapping where only the server's may be.
      if (fixed) {
        if (fixed->overlaps(space.map().arena())) error = Error::no_memory;
        space.map().for_each_in(*fixed, [&](MapEntry& there) {
          if (there.source != Source::host) error = Error::no_memory;
        });
      }
    } else if (entry->source == Source::device) {
      error = Error::invalid;
    } else if (fixed && !space.map().arena().contains(*fixed)) {
      error = Error::no_memory;  // before anything at the target or the source is touched
    } else {
      space.map().clip(*from);
      entry = space.map().find(address);
      tracked = entry->tracked();
      follow_size(*entry);
    }
  }
  if (error != Error::none) return call.finish(error);
  if (host) {
    call.plan.add(Step::Kind::host_call, *from);
    Answer answer;
    answer.value_from_host = true;
    return call.finish(answer);
  }

  if (!fixed && new_bytes <= old_bytes) {
    const VirtualRange tail(address + new_bytes, from->end());
    if (tail.empty()) {
      {
        const auto guard = space.lock();
        space.map().simplify(*from);
      }
      return call.finish(Error::none, address.value());
    }
    return settle_stores(space, call, tail, true, [&space, &call, tail, address] {
      {
        const auto guard = space.lock();
        space.remove(tail, call.plan);
      }
      call.finish(Error::none, address.value());
    });
  }

  // Moving loses which pages were written, so that is collected first; so it is of what a fixed
  // target replaces.
  const auto move = [&space, &call, from = *from, new_bytes, fixed] {
    grow_or_move(space, call, from, new_bytes, fixed);
  };
  const auto collect_source = [&space, &call, from = *from, tracked, move] {
    if (tracked) {
      settle_stores(space, call, from, false, move);
    } else {
      move();
    }
  };
  if (fixed) {
    settle_stores(space, call, *fixed, true, collect_source);
  } else {
    collect_source();
  }
}

}  // namespace vm::calls
