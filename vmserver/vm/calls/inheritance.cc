// minherit, after the seed's function and FreeBSD's vm_map_inherit(); and what a program asks for
// before it forks.
//
// Two of its wishes the host has no word for:
//   private memory that children share   becomes an object of shared anonymous memory, here and now
//   shared memory that children copy     is left out of the fork by the host; the program announces
//                                        its forks from then on, the server keeps a copy of the
//                                        pages for the child (VmSpace::prepare_fork), and the child
//                                        maps that when it settles
#include "vmserver/vm/calls/inheritance.h"

#include <memory>
#include <utility>
#include <vector>

#include "vmserver/vm/calls/checks.h"
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/machine.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {

using hal::Inherit;
using hal::PageIndex;
using hal::Protection;
using hal::Sharing;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

bool same_for_host(const MapEntry& entry) {
  return entry.source == Source::anonymous || entry.source == Source::host;
}

// Private memory on its way to becoming an object that children share. The program goes on meanwhile:
// who touches the range waits. (A private mapping of a file is out of reach for that moment; another
// thread that touches it then gets a SIGSEGV.) Step by step:
//   take_away   the pages go to a place of their own, in one step
//   copy_out    the program writes them into the object
//   map_backing the object takes the range
// If one of them fails, the pages go back where they were.
class ShareWithChildren : public std::enable_shared_from_this<ShareWithChildren> {
 public:
  using Done = std::function<void(Error)>;
  static constexpr unsigned kMostClaims = 8;

  ShareWithChildren(VmSpace& space, Call& call, VirtualRange range, Done done)
      : space_(space), call_(call), range_(range), done_(std::move(done)) {}
  ~ShareWithChildren() {
    if (object_) object_->stay(false);
  }

  void start() {
    auto made = space_.machine().objects().make_anonymous(there().bytes());
    if (!made) return done_(made.error());
    object_ = std::move(made).value();
    object_->stay(true);
    space_.bring_all_back(range_, [self = shared_from_this()](Error error) {
      if (error != Error::none) return self->done_(error);
      self->set_out(kMostClaims);
    });
  }

 private:
  // The part of the range that has pages: behind a file's end there is nothing to share.
  VirtualRange there() {
    const auto guard = space_.lock();
    const MapEntry* entry = space_.map().find(range_.start());
    if (entry == nullptr || !entry->object) return range_;
    const hal::PageRange pages = entry->pages_of(range_).intersect(entry->object->all_pages());
    return {range_.start(), range_.start() + pages.bytes()};
  }

  // Something of the host's may be in the place that the map has for free: then another is claimed.
  void set_out(unsigned claims) {
    if (claims == 0 || !plan_taking_away()) return done_(Error::no_memory);
    call_.run_plan([self = shared_from_this(), claims](Error error) {
      if (error == Error::exists) {
        self->forget_claim();
        return self->set_out(claims - 1);
      }
      if (error != Error::none) return self->forget_place(error);
      self->copy();
    });
  }

  // False when there is no place.
  bool plan_taking_away() {
    const auto guard = space_.lock();
    VmMap& map = space_.map();
    MapEntry* entry = map.find(range_.start());
    const auto place = map.find_space(range_.bytes(), VirtualAddress(0));
    if (entry == nullptr || !place) return false;
    place_ = *place;
    call_.plan.add(Step::Kind::claim, place_);
    of_file_ = entry->object != nullptr;
    auto aside = entry->alike(place_, entry->page);
    aside->in_transit = !of_file_;
    map.insert(std::move(aside));
    entry->in_transit = true;
    // What is left in the range of a file's mapping are the file's own pages, which nobody must take
    // for the program's.
    if (of_file_) call_.plan.protect(range_, Protection::none());
    Step& step = call_.plan.add(Step::Kind::take_away, range_);
    step.target = place_.start();
    step.sharing = entry->sharing;
    if (of_file_) call_.plan.add(Step::Kind::manage, place_);
    return true;
  }

  void forget_claim() {
    const auto guard = space_.lock();
    space_.take_out(place_, [](VirtualRange) {});
    if (MapEntry* entry = space_.map().find(range_.start())) entry->in_transit = false;
    space_.look_again();
  }

  // The program has ended: its map is empty.
  void gone() { done_(Error::io); }

  void copy() {
    const VirtualRange content = there();
    {
      const auto guard = space_.lock();
      const auto copy = [this](VirtualRange part) {
        Step& step = call_.plan.add(Step::Kind::copy_out, part);
        step.backing = object_->backing();
        step.page = PageIndex((part.start() - place_.start()) >> hal::kPageShift);
      };
      // Private memory that nobody has touched is zero in the object, too.
      const bool told = !of_file_ && space_.pmap().mapped_pages(
          place_, [&](hal::PageRun run) { copy(run.range); });
      if (!told) {
        call_.plan.clear();
        if (!content.empty()) copy(VirtualRange(place_.start(), place_.start() + content.bytes()));
      }
    }
    if (call_.plan.empty()) return replace();
    call_.run_plan([self = shared_from_this()](Error error) {
      if (error != Error::none) return self->put_back(error);
      self->replace();
    });
  }

  void replace() {
    if (!plan_replacement()) return gone();
    call_.run_plan([self = shared_from_this()](Error error) {
      if (error != Error::none) return self->put_back(error);
      self->enter();
    });
  }

  bool plan_replacement() {
    object_->filled(object_->all_pages());
    const auto guard = space_.lock();
    MapEntry* entry = space_.map().find(range_.start());
    if (entry == nullptr) return false;
    Step& step = call_.plan.add(Step::Kind::map_backing, range_);
    step.backing = object_->backing();
    step.sharing = object_->tracks_stores() ? Sharing::shared_tracked : Sharing::shared;
    // Absent pages are zero pages, with or without the server.
    step.protection = entry->protection;
    if (entry->no_core) call_.plan.add(Step::Kind::dump, range_).enable = false;
    return true;
  }

  void enter() {
    if (!replace_entry()) return gone();
    space_.pmap().wake(range_);
    done_(Error::none);
  }

  bool replace_entry() {
    const auto guard = space_.lock();
    VmMap& map = space_.map();
    MapEntry* entry = map.find(range_.start());
    if (entry == nullptr) return false;
    auto shared = entry->alike(range_, PageIndex(0));
    shared->source = Source::object;
    shared->object = object_;
    shared->sharing = object_->tracks_stores() ? Sharing::shared_tracked : Sharing::shared;
    shared->inherit = Inherit::share;
    const bool wired = entry->wired;
    space_.set_wired(range_, false);
    map.erase(range_);
    map.insert(std::move(shared));
    if (wired) {
      space_.set_wired(range_, true);
      // Not before: while it is in transit nobody answers what that touches.
      call_.plan.add(Step::Kind::lock, range_).may_fail = true;
    }
    space_.remove(place_, call_.plan);
    return true;
  }

  void put_back(Error error) {
    {
      const auto guard = space_.lock();
      Step& step = call_.plan.add(Step::Kind::move, place_);
      step.target = range_.start();
      if (const MapEntry* entry = space_.map().find(range_.start())) step.sharing = entry->sharing;
    }
    call_.run_plan([self = shared_from_this(), error](Error) { self->forget_place(error); });
  }

  void forget_place(Error error) {
    {
      const auto guard = space_.lock();
      call_.plan.add(Step::Kind::manage, range_).may_fail = true;
      space_.remove(place_, call_.plan);
      if (MapEntry* entry = space_.map().find(range_.start())) {
        entry->in_transit = false;
        call_.plan.protect(range_, entry->protection);
      }
    }
    space_.pmap().wake(range_);
    done_(error);
  }

  VmSpace& space_;
  Call& call_;
  const VirtualRange range_;
  const Done done_;
  VirtualRange place_;
  bool of_file_ = false;
  std::shared_ptr<VmObject> object_;
};

}  // namespace

Inherit hosts_inheritance(const MapEntry& entry) {
  const bool left_out =
      entry.copied_by_server() || (entry.inherit == Inherit::zero && !same_for_host(entry));
  return left_out ? Inherit::none : entry.inherit;
}

void inherit_as(MapEntry& entry, Inherit inherit, hal::Plan& plan) {
  entry.inherit = inherit;
  plan.add(Step::Kind::inherit, entry.range).inheritance = hosts_inheritance(entry);
}

namespace {

// What cannot be given: the host's own private memory cannot be shared, and a device's pages cannot be
// copied. A stack would grow into what is not the object's.
Error unfit(const MapEntry& entry, Inherit wanted) {
  if (wanted == Inherit::share && !entry.shared() &&
      (entry.stack || entry.source == Source::host)) {
    return Error::not_supported;
  }
  const bool device = entry.source == Source::device || (entry.object && entry.object->host_memory());
  if (wanted == Inherit::copy && entry.shared() && (device || entry.source == Source::host)) {
    return Error::not_supported;
  }
  return Error::none;
}

void set_inheritance(VmSpace& space, Call& call, VirtualRange range, Inherit wanted) {
  Answer answer;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    map.clip(range);
    map.for_each_in(range, [&](MapEntry& entry) {
      if (entry.source == Source::guard) return;
      inherit_as(entry, wanted, call.plan);
      answer.prepare_forks = answer.prepare_forks || entry.copied_by_server();
    });
    map.simplify(range);
  }
  if (!answer.prepare_forks || !space.expects_fork()) return call.finish(answer);
  // Another thread has announced a fork and waits for nothing any more.
  space.prepare_fork([&call, answer](Error error) mutable {
    answer.error = error;
    call.finish(answer);
  });
}

// One after another, so that one of them fails before the next is touched.
void share_all(VmSpace& space, Call& call, std::shared_ptr<std::vector<VirtualRange>> ranges,
               std::function<void(Error)> done) {
  if (ranges->empty()) return done(Error::none);
  const VirtualRange range = ranges->back();
  ranges->pop_back();
  auto next = [&space, &call, ranges, done](Error error) {
    if (error != Error::none) return done(error);
    share_all(space, call, ranges, done);
  };
  std::make_shared<ShareWithChildren>(space, call, range, std::move(next))->start();
}

}  // namespace

void minherit(VmSpace& space, Call& call) {
  RangeChecks checks(space, call);
  checks.inherit = call.abi->inheritance(static_cast<int>(call.argument(2)));
  if (checks.end_call(call.rules->minherit)) return;
  const VirtualRange range = *checks.range();
  const Inherit wanted = checks.inherit.value;
  Error error = Error::none;
  auto to_share = std::make_shared<std::vector<VirtualRange>>();
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    space.refresh_host(range);
    map.for_each_in(range, [&](MapEntry& entry) {
      if (const Error wrong = unfit(entry, wanted); wrong != Error::none) error = wrong;
    });
    if (error == Error::none && wanted == Inherit::share) {
      map.clip(range);
      map.for_each_in(range, [&](MapEntry& entry) {
        if (entry.managed() && !entry.shared()) to_share->push_back(entry.range);
      });
    }
  }
  if (error != Error::none) return call.finish(error);
  share_all(space, call, to_share, [&space, &call, range, wanted](Error failed) {
    if (failed != Error::none) return call.finish(failed);
    set_inheritance(space, call, range, wanted);
  });
}

void fork(VmSpace& space, Call& call) {
  if (!space.announce_fork(call.argument(0))) return call.finish(Error::no_memory);
  space.prepare_fork([&call](Error error) { call.finish(error); });
}

void forked(VmSpace& space, Call& call) {
  space.end_fork(call.argument(0));
  call.finish(Error::none);
}

}  // namespace vm::calls
