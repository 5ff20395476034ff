// mremap: the host's call; FreeBSD has none. Its rules are those of Linux's mremap(2), whatever the
// personality.
//
// The program moves its pages first and the map follows, so that a host that cannot move them leaves
// everything as it was.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "vmserver/vm/calls/inheritance.h"
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

using hal::Protection;
using hal::Sharing;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

constexpr std::uint64_t kMayMove = 1;
constexpr std::uint64_t kFixed = 2;
constexpr std::uint64_t kDontUnmap = 4;

/// One mremap of what the server manages, from its checks to its end.
class Remap : public std::enable_shared_from_this<Remap> {
 public:
  Remap(VmSpace& space, Call& call, VirtualRange from, std::uint64_t bytes)
      : space_(space), call_(call), from_(from), bytes_(bytes), flags_(call.argument(3)) {
    if ((flags_ & kFixed) != 0) fixed_ = VirtualRange::of_length(VirtualAddress(call.argument(4)), bytes);
  }

  void start() {
    Error error = Error::none;
    bool tracked = false;
    {
      const auto guard = space_.lock();
      error = prepare(tracked);
    }
    if (error != Error::none) return call_.finish(error);
    if (host_) return pass_to_host();
    if (from_.empty()) return duplicate();
    if (shrinks_in_place()) return shrink();
    // Moving loses which pages were written, so that is collected first; so it is of what a fixed
    // target replaces.
    const auto act = [self = shared_from_this()] { self->grow_or_move(); };
    const auto collect_source = [self = shared_from_this(), tracked, act] {
      if (!tracked) return act();
      settle_stores(self->space_, self->call_, self->from_, false, act);
    };
    if (!fixed_) return collect_source();
    settle_stores(space_, call_, *fixed_, true, collect_source);
  }

 private:
  bool grows() const { return bytes_ > from_.bytes(); }
  bool shrinks_in_place() const {
    return !fixed_ && (flags_ & kDontUnmap) == 0 && bytes_ <= from_.bytes();
  }

  // The checks that need the map. Needs the space's lock.
  Error prepare(bool& tracked) {
    VmMap& map = space_.map();
    const VirtualRange looked_at =
        from_.empty() ? VirtualRange(from_.start(), from_.start() + hal::kPageSize) : from_;
    space_.refresh_host(looked_at);
    MapEntry* entry = map.find(from_.start());
    if (entry == nullptr || !entry->present() || entry->source == Source::guard) {
      return Error::fault;
    }
    if (entry->source == Source::host) return prepare_host(*entry);
    if (entry->source == Source::device) return Error::invalid;
    // Several mappings at once are moved, but not resized; what goes is only unmapped.
    if (!entry->range.contains(from_) && !shrinks_in_place()) {
      if (!fixed_ || bytes_ != from_.bytes() || !map.covers(from_)) return Error::fault;
      bool managed = true;
      map.for_each_in(from_, [&](MapEntry& part) {
        managed = managed && part.managed() && part.source != Source::device;
      });
      if (!managed) return Error::fault;
    }
    if (from_.empty() && !entry->shared()) return Error::invalid;
    map.clip(from_);
    map.for_each_in(from_, [&](MapEntry& part) {
      tracked = tracked || part.tracked();
      // A program that grew its file and now maps more of it finds the new pages.
      if (part.object && part.object->kind() == VmObject::Kind::file) part.object->revalidate({});
    });
    return Error::none;
  }

  // The host would put its mapping where only the server's may be.
  Error prepare_host(const MapEntry& entry) {
    host_ = true;
    if (!entry.range.contains(from_)) return Error::fault;
    if (!fixed_) return Error::none;
    bool taken = false;
    space_.map().for_each_in(*fixed_, [&](MapEntry& there) {
      taken = taken || there.source != Source::host;
    });
    return taken ? Error::no_memory : Error::none;
  }

  void pass_to_host() {
    call_.plan.add(Step::Kind::host_call, from_);
    Answer answer;
    answer.value_from_host = true;
    call_.finish(answer);
  }

  void shrink() {
    const VirtualRange tail(from_.start() + bytes_, from_.end());
    settle_stores(space_, call_, tail, true, [self = shared_from_this(), tail] {
      {
        const auto guard = self->space_.lock();
        self->space_.remove(tail, self->call_.plan);
        self->space_.map().simplify(self->from_);
      }
      self->call_.finish(Error::none, self->from_.start().value());
    });
  }

  // The plan of what makes the new end of a grown mapping exist. `claim`: nothing may be there.
  void plan_growth(const MapEntry& entry, VirtualRange range, hal::PageIndex page, bool claim) {
    hal::Plan& plan = call_.plan;
    if (entry.object) {
      Step& step = plan.add(Step::Kind::map_backing, range);
      step.backing = entry.object->backing();
      step.sharing = entry.sharing;
      step.page = page;
      step.enable = claim;
      if (entry.protection != Protection::none()) plan.protect(range, entry.protection);
    } else {
      Step& step = plan.add(claim ? Step::Kind::claim : Step::Kind::replace, range);
      step.protection = entry.protection;
      step.enable = call_.rules->mmap.overcommits;
    }
    const hal::Inherit inherit = hosts_inheritance(entry);
    if (inherit == hal::Inherit::none || inherit == hal::Inherit::zero) {
      plan.add(Step::Kind::inherit, range).inheritance = inherit;
    }
    if (entry.no_core) plan.add(Step::Kind::dump, range).enable = false;
  }

  void grow_or_move() {
    Error error = Error::none;
    bool moves = false;
    {
      const auto guard = space_.lock();
      error = plan_it(moves);
      if (error != Error::none) stay();
    }
    if (error != Error::none) return call_.finish(error);
    if (!moves) return call_.finish(grown_);
    call_.run_plan([self = shared_from_this()](Error failed) { self->moved(failed); });
  }

  // Needs the space's lock.
  Error plan_it(bool& moves) {
    VmMap& map = space_.map();
    MapEntry* entry = map.find(from_.start());
    if (entry == nullptr) return Error::fault;  // the program is gone
    if (!fixed_ && grows() && grow_in_place(*entry)) return Error::none;
    if ((flags_ & kMayMove) == 0) return Error::no_memory;
    if (!find_target()) return Error::no_memory;
    moves = true;
    plan_move(*entry);
    space_.begin_move(from_, target_);
    return Error::none;
  }

  bool grow_in_place(const MapEntry& entry) {
    VmMap& map = space_.map();
    const VirtualRange more(from_.end(), from_.start() + bytes_);
    const VirtualRange whole(from_.start(), more.end());
    // What the server placed stays where it puts mappings.
    const VirtualRange own = map.placement();
    if (own.overlaps(whole) ? !own.contains(whole) : !space_.may_map(whole)) return false;
    space_.refresh_host(more);
    if (!map.is_free(more)) return false;
    const hal::PageIndex page = entry.page_at(more.start());
    plan_growth(entry, more, page, true);
    map.insert(entry.alike(more, page));
    stay();  // joins neighbours: `entry` may be gone
    map.simplify(more);
    grown_.value = from_.start().value();
    grown_.undo = more;
    grown_.claims = true;
    return true;
  }

  // Where stores were settled first, the program cannot reach the range now. If it stays, it has to
  // be as it was. Needs the space's lock.
  void stay() {
    space_.map().for_each_in(from_, [&](MapEntry& entry) {
      if (entry.tracked()) call_.plan.protect(entry.range.intersect(from_), entry.protection);
    });
    space_.map().simplify(from_);
  }

  // Needs the space's lock.
  bool find_target() {
    if (fixed_) {
      target_ = *fixed_;
      return true;
    }
    const auto found = space_.map().find_space(bytes_, VirtualAddress(0));
    if (!found) return false;
    target_ = *found;
    return true;
  }

  VirtualRange target_of(VirtualRange part) const {
    const VirtualAddress start = target_.start() + (part.start() - from_.start());
    return {start, start + std::min(part.bytes(), target_.end() - start)};
  }

  void plan_move(const MapEntry& first) {
    hal::Plan& plan = call_.plan;
    if (!fixed_) plan.add(Step::Kind::claim, target_);
    space_.map().for_each_in(from_, [&](MapEntry& entry) {
      const VirtualRange to = target_of(entry.range);
      const VirtualRange part(entry.range.start(), entry.range.start() + to.bytes());
      const bool stays = (flags_ & kDontUnmap) != 0;
      Step& step = plan.add(stays ? Step::Kind::take_away : Step::Kind::move, part);
      step.target = to.start();
      step.sharing = entry.sharing;
      if (stays) {
        plan.add(Step::Kind::manage, to);
        if (entry.tracked()) {
          plan.add(Step::Kind::track, to);
          plan.protect(part, entry.protection);
        }
      }
      plan.protect(to, entry.protection);
    });
    const VirtualRange kept = target_of(from_);
    if (target_.end() > kept.end()) {
      plan_growth(first, VirtualRange(kept.end(), target_.end()),
                  first.page_at(from_.start()) + kept.pages(), false);
    }
  }

  void moved(Error failed) {
    Answer answer;
    answer.error = failed;
    {
      const auto guard = space_.lock();
      if (failed == Error::exists && !fixed_) {
        space_.look_again();
        target_ = VirtualRange();
        answer.error = Error::none;
        answer.again = true;
      }
      if (failed == Error::none) {
        follow();
        answer.value = target_.start().value();
      } else {
        restore();
      }
      space_.end_move();
    }
    call_.finish(answer);
  }

  // The map after the move. Needs the space's lock.
  void follow() {
    VmMap& map = space_.map();
    space_.set_wired(target_, false);
    map.erase(target_);
    std::vector<std::unique_ptr<MapEntry>> moved;
    map.for_each_in(from_, [&](MapEntry& entry) {
      auto copy = entry.alike(target_of(entry.range), entry.page_at(entry.range.start()));
      if (entry.range.end() == from_.end()) {
        copy->range = VirtualRange(copy->range.start(), target_.end());
      }
      copy->stack = false;
      moved.push_back(std::move(copy));
    });
    if ((flags_ & kDontUnmap) == 0) {
      // The host has unmapped what it moved. The rest goes, too, and with a stack what it could have
      // grown into.
      const VirtualRange gone(from_.start(),
                              from_.start() + std::min(from_.bytes(), target_.bytes()));
      space_.take_out(from_, [&](VirtualRange run) {
        for (const VirtualRange rest : {VirtualRange(run.start(), std::min(run.end(), gone.start())),
                                        VirtualRange(std::max(run.start(), gone.end()), run.end())}) {
          if (!rest.empty()) call_.plan.add(Step::Kind::give_back, rest);
        }
      });
    }
    for (auto& entry : moved) map.insert(std::move(entry));
    map.simplify(target_);
  }

  // Nothing moved. What the way there took is given back; a fixed target is lost, as the host takes
  // it first. Needs the space's lock.
  void restore() {
    space_.map().for_each_in(from_, [&](MapEntry& entry) {
      call_.plan.add(Step::Kind::manage, entry.range).may_fail = true;
      if (entry.tracked()) call_.plan.add(Step::Kind::track, entry.range).may_fail = true;
      Step& step = call_.plan.add(Step::Kind::protect, entry.range);
      step.protection = entry.protection;
      step.may_fail = true;
    });
    if (fixed_) {
      space_.remove(target_, call_.plan);
    } else if (!target_.empty()) {
      call_.plan.add(Step::Kind::give_back, target_).may_fail = true;
    }
    space_.map().simplify(from_);
  }

  // An old length of 0: shared pages once more, somewhere else.
  void duplicate() {
    Answer answer;
    {
      const auto guard = space_.lock();
      VmMap& map = space_.map();
      const MapEntry* entry = map.find(from_.start());
      if ((flags_ & kMayMove) == 0 || !find_target()) {
        answer.error = Error::no_memory;
      } else if (entry != nullptr) {
        auto copy = entry->alike(target_, entry->page_at(from_.start()));
        copy->stack = false;
        if (fixed_) {
          space_.remove(target_, call_.plan);
          call_.plan.keep_mapped(target_);
        }
        plan_growth(*copy, target_, copy->page, !fixed_);
        map.insert(std::move(copy));
        answer.value = target_.start().value();
        answer.undo = target_;
        answer.claims = !fixed_;
      }
    }
    call_.finish(answer);
  }

  VmSpace& space_;
  Call& call_;
  const VirtualRange from_;
  const std::uint64_t bytes_;
  const std::uint64_t flags_;
  std::optional<VirtualRange> fixed_;
  VirtualRange target_;
  Answer grown_;
  bool host_ = false;
};

// mremap(2), as far as it can be told from the arguments alone.
bool arguments_wrong(const VmSpace& space, const Call& call, std::uint64_t old_bytes,
                     std::uint64_t new_bytes) {
  const VirtualAddress address(call.argument(0));
  const std::uint64_t flags = call.argument(3);
  if ((flags & ~(kMayMove | kFixed | kDontUnmap)) != 0 || !address.is_page_aligned() ||
      new_bytes == 0 || new_bytes > space.layout().bounds.bytes()) {
    return true;
  }
  const auto from = VirtualRange::of_length(address, old_bytes);
  if (!from || !space.may_map(*from)) return true;
  if ((flags & (kFixed | kDontUnmap)) == 0) return false;
  const VirtualAddress target(call.argument(4));
  const auto to = VirtualRange::of_length(target, new_bytes);
  if (!to || !target.is_page_aligned() || (flags & kMayMove) == 0) return true;
  if ((flags & kDontUnmap) != 0 && old_bytes != new_bytes) return true;
  return (flags & kFixed) != 0 && (!space.may_map(*to) || to->overlaps(*from));
}

}  // namespace

void mremap(VmSpace& space, Call& call) {
  const std::uint64_t old_bytes = hal::bytes_from_pages(hal::pages_for_bytes(call.argument(1)));
  const std::uint64_t new_bytes = hal::bytes_from_pages(hal::pages_for_bytes(call.argument(2)));
  if (arguments_wrong(space, call, old_bytes, new_bytes)) return call.finish(Error::invalid);
  const VirtualAddress address(call.argument(0));
  std::make_shared<Remap>(space, call, VirtualRange(address, address + old_bytes), new_bytes)
      ->start();
}

}  // namespace vm::calls
