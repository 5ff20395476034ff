// What a forked child's address space is made of: the part of VmSpace that is about forks.
#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "vmserver/vm/vm_object.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::Inherit;
using hal::Pmap;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

std::shared_ptr<VmSpace> VmSpace::fork(std::unique_ptr<Pmap> pmap) {
  auto child = make(machine_, std::move(pmap), layout_);
  ++machine_.counters().forks;
  const std::lock_guard guard(lock_);
  const std::lock_guard child_guard(child->lock_);
  std::vector<VirtualRange> moving;
  for (const MapEntry& entry : map_) {
    if (entry.source == Source::host || entry.source == Source::lease) continue;
    // A child of a fork that nobody announced has no copy of what is shared.
    const bool no_copy = entry.copied_by_server() && !entry.snapshot;
    if (entry.in_transit) moving.push_back(entry.range);
    if (entry.inherit == Inherit::none || entry.in_transit || no_copy) continue;
    auto copy = entry.alike(entry.range, entry.page);
    copy->space = child.get();
    const bool zeroed = entry.inherit == Inherit::zero && entry.source == Source::object;
    if (entry.copied_by_server()) {
      copy->object = entry.snapshot;
      copy->page = entry.snapshot_page;
    }
    if (zeroed) {
      copy->object = nullptr;
      copy->source = Source::anonymous;
      copy->page = hal::PageIndex(0);
    }
    if (entry.copied_by_server() || zeroed) {
      copy->sharing = hal::Sharing::copy_on_write;
      if (!zeroed) copy->inherit = Inherit::copy;
      copy->maximum = hal::Protection::all();
      child->rebuilt_.push_back(entry.range);
    }
    child->map_.insert(std::move(copy));
  }
  inherit_lease(*child);
  for (VirtualRange range : moving) child->keep_clear_of(range);
  // What a program does by itself it has done before its notes are read: which of it came after the fork
  // only the child's mappings tell.
  child->newer_ = noted_;
  for (const Removed& one : removed_) {
    if (one.by_program) child->presume_memory(one.range);
  }
  for (const Removed& one : removed_) child->keep_clear_of(one.range.intersect(layout_.placement));
  if (pages_leave()) inherit_swapped(*child);
  child->limit_ = limit_.load();
  return child;
}

bool VmSpace::announce_fork(std::uint64_t thread) {
  constexpr std::size_t kMostThreads = 32768;
  const std::lock_guard guard(lock_);
  if (forking_threads_.size() >= kMostThreads) return false;
  forking_threads_.insert(thread);
  return true;
}

void VmSpace::end_fork(std::uint64_t thread) {
  const std::lock_guard guard(lock_);
  forking_threads_.erase(thread);
  outdated_ = true;
  drop_outdated();
}

bool VmSpace::expects_fork() {
  const std::lock_guard guard(lock_);
  return !forking_threads_.empty();
}

void VmSpace::prepare_fork(std::function<void(Error)> done) {
  struct Copy {
    std::shared_ptr<VmObject> object;
    hal::PageRange pages;
    VirtualRange range;
  };
  std::vector<Copy> copies;
  {
    const std::lock_guard guard(lock_);
    for (MapEntry& entry : map_) {
      if (!entry.copied_by_server()) continue;
      copies.push_back({entry.object, entry.pages_of(entry.range), entry.range});
    }
  }
  auto rest = std::make_shared<std::vector<Copy>>(std::move(copies));
  auto next = std::make_shared<std::function<void()>>();
  *next = [this, rest, weak = std::weak_ptr(next), done = std::move(done)] {
    if (rest->empty()) return done(Error::none);
    const Copy copy = rest->back();
    rest->pop_back();
    // Kept alive by the callback, not by itself.
    copy.object->stay(true);
    const auto take = [this, copy, rest, again = weak.lock(), done](Error error) {
      std::optional<Error> taken = error;
      if (error == Error::none) taken = take_snapshot(copy.object, copy.pages, copy.range);
      copy.object->stay(false);
      if (!taken) {
        rest->push_back(copy);
      } else if (*taken != Error::none) {
        return done(*taken);
      }
      (*again)();
    };
    // What is absent of anonymous memory is zero in the copy as well, where none of it leaves; a
    // program may have mapped more of it than there is memory.
    if (copy.object->kind() == VmObject::Kind::anonymous && !pages_leave()) return take(Error::none);
    copy.object->bring_in(copy.pages, take);
  };
  (*next)();
}

std::optional<Error> VmSpace::take_snapshot(const std::shared_ptr<VmObject>& object,
                                            hal::PageRange pages, VirtualRange range) {
  // Behind a file's end there is nothing for the child either.
  const hal::PageRange there = pages.intersect(object->all_pages());
  auto made = machine_.objects().make_anonymous(there.bytes());
  if (!made) return made.error();
  const std::shared_ptr<VmObject> snapshot = std::move(made).value();
  // Until it is known that the pager has nothing of it, its pages would go as if they were clean.
  snapshot->stay(true);
  try {
    // What is absent of anonymous memory that does not leave is zero, and may be.
    if (object->kind() == VmObject::Kind::anonymous && !pages_leave()) {
      object->backing()->copy_to(there, *snapshot->backing(), hal::PageIndex(0));
    } else if (!object->copy_if_resident(there, *snapshot->backing())) {
      return std::nullopt;
    }
    snapshot->filled(snapshot->all_pages());
    snapshot->stay(false);
  } catch (const std::system_error& error) {
    spdlog::error("{}: a copy for a child: {}", object->describe(), error.what());
    return error_from_errno(error.code().value());
  }
  const std::lock_guard guard(lock_);
  // It may have been cut meanwhile.
  map_.for_each_in(range, [&](MapEntry& entry) {
    if (!entry.copied_by_server() || entry.object != object || entry.page < pages.first()) return;
    entry.snapshot = snapshot;
    entry.snapshot_page = hal::PageIndex(entry.page - pages.first());
  });
  return Error::none;
}

// The program goes on as soon as its fork has been heard of, which is before the child has been made.
void VmSpace::drop_outdated() {
  if (!outdated_ || !forking_threads_.empty() || pmap_->forking()) return;
  drop_snapshots();
  outdated_ = false;
}

void VmSpace::drop_snapshots() {
  for (MapEntry& entry : map_) entry.snapshot.reset();
}

void VmSpace::keep_clear_of(VirtualRange range) {
  fill_free(range, [&](MapEntry& entry) { stale_.push_back(entry.range); });
}

void VmSpace::presume_memory(VirtualRange range) {
  fill_free(range, [](MapEntry& entry) {
    entry.protection = hal::Protection::read() | hal::Protection::write();
  });
}

void VmSpace::fill_free(VirtualRange range, const std::function<void(MapEntry&)>& visit) {
  for (VirtualAddress from = range.start(); from < range.end();) {
    const auto it = map_.first_in(VirtualRange(from, range.end()));
    const VirtualAddress stop =
        it == map_.end() ? range.end() : std::min(range.end(), std::max(from, it->range.start()));
    const VirtualAddress next = it == map_.end() ? range.end() : it->range.end();
    if (from < stop) {
      auto entry = std::make_unique<MapEntry>();
      entry->range = VirtualRange(from, stop);
      entry->space = this;
      entry->maximum = hal::Protection::all();
      visit(*entry);
      map_.insert(std::move(entry));
    }
    from = next;
  }
}

// Whatever is there: another thread of the parent may have been in the middle of a call, and the child
// has the old mapping.
void VmSpace::settle(hal::Plan& plan) {
  const std::lock_guard guard(lock_);
  for (VirtualRange range : rebuilt_) {
    map_.for_each_in(range, [&](MapEntry& entry) {
      const VirtualRange part = entry.range.intersect(range);
      if (entry.object) {
        Step& step = plan.add(Step::Kind::map_backing, part);
        step.backing = entry.object->backing();
        step.sharing = entry.sharing;
        step.page = entry.page_at(part.start());
        plan.protect(part, entry.protection);
      } else {
        plan.add(Step::Kind::replace, part).protection = entry.protection;
        plan.add(Step::Kind::inherit, part).inheritance = entry.inherit;
      }
      if (entry.no_core) plan.add(Step::Kind::dump, part).enable = false;
    });
  }
  rebuilt_.clear();
  for (VirtualRange range : stale_) {
    remove(range, plan);
  }
  stale_.clear();
}

}  // namespace vm
