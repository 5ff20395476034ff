// What is in swap of an address space: how it follows the plans of calls, what counts as in memory, and
// how a fault has a page back. How pages get there: vm_space_leaving.cc.
#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "vmserver/vm/page_ranges.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::PageIndex;
using hal::PageRange;
using hal::Pmap;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

// Most pages that one fault brings back; they lie in one cluster of the swap space if they left
// together.
constexpr std::uint64_t kMostBack = 64;
// Of its limit a program keeps this part free, for what it needs next.
constexpr std::uint64_t kSpareFraction = 16;
// How long a fork takes to be heard of, about.
constexpr std::chrono::milliseconds kForkPause{1};

enum class Change {
  none,
  protection,  ///< what leaves by a copy must not become writable meanwhile
  content      ///< what is there goes, or goes elsewhere
};

Change change_of(const Step& step) {
  switch (step.kind) {
    case Step::Kind::replace:
    case Step::Kind::map_backing:
    case Step::Kind::map_device:
    case Step::Kind::give_back:
    case Step::Kind::unmanage:
    case Step::Kind::discard:
    case Step::Kind::lazy_free:
    case Step::Kind::move:
    case Step::Kind::take_away:
      return Change::content;
    case Step::Kind::protect:
      return Change::protection;
    default:
      return Change::none;
  }
}

// Where a step puts what it takes away.
VirtualRange target_of(const Step& step) {
  const bool moves = step.kind == Step::Kind::move || step.kind == Step::Kind::take_away;
  return moves ? VirtualRange(step.target, step.target + step.range.bytes()) : VirtualRange();
}

bool brings_in(const Step& step) {
  return step.kind == Step::Kind::populate || step.kind == Step::Kind::lock ||
         step.kind == Step::Kind::host_call;
}

}  // namespace

// ---- plans ----

hal::Plan VmSpace::part_that_touches(hal::Plan& plan) {
  const auto& steps = plan.steps();
  const auto first = std::find_if(steps.begin(), steps.end(), brings_in);
  const bool changes = std::any_of(steps.begin(), first, [](const Step& step) {
    return change_of(step) != Change::none && step.kind != Step::Kind::give_back;
  });
  if (!changes) return {};
  return plan.split_off(static_cast<std::size_t>(first - steps.begin()));
}

bool VmSpace::is_leaving(const hal::Plan& plan) const {
  if (leaving_.empty()) return false;
  const auto& steps = plan.steps();
  return std::any_of(steps.begin(), steps.end(), [&](const Step& step) {
    return change_of(step) != Change::none &&
           (step.range.overlaps(leaving_) || target_of(step).overlaps(leaving_));
  });
}

void VmSpace::follow(const hal::Plan& plan) {
  unsettled_.clear();
  drop_doubles();
  for (const Step& step : plan.steps()) {
    const Change change = change_of(step);
    if (change == Change::none) continue;
    // What a give_back takes has no entry any more, and no other call can put one there before it is
    // done.
    if (step.kind != Step::Kind::give_back) unsettled_.push_back(step.range);
    if (change != Change::content) continue;
    const VirtualRange target = target_of(step);
    const bool stays_mapped = step.kind == Step::Kind::discard || step.kind == Step::Kind::lazy_free;
    if (!stays_.empty() && !stays_mapped) stays_ -= numbers(step.range);
    if (target.empty()) {
      uncount(step.range);
      forget_swapped(step.range);
      continue;
    }
    uncount(target);
    forget_swapped(target);
    unsettled_.push_back(target);
    swapped_.move(step.range, target.start());
    move_doubles(step.range, target.start());
  }
}

void VmSpace::before_plan(const hal::Plan& plan, std::function<void()> go) {
  PutOffPlan put_off{&plan, std::move(go)};
  {
    const std::lock_guard guard(lock_);
    if (!begin_plan(put_off)) return;
  }
  put_off.go();
}

// False when it has to wait: it is kept then.
bool VmSpace::begin_plan(PutOffPlan& put_off) {
  const hal::Plan& plan = *put_off.plan;
  if (is_leaving(plan)) {
    put_off_.push_back(std::move(put_off));
    return false;
  }
  // A child that has not been heard of has what the host copied, and needs the rest from here.
  if (!swapped_.empty() && pmap_->forking()) {
    machine_.later(kForkPause,
                   [keep = shared_from_this(), &plan, go = std::move(put_off.go)]() mutable {
                     keep->before_plan(plan, std::move(go));
                   });
    return false;
  }
  follow(plan);
  return true;
}

void VmSpace::plan_done() {
  const std::lock_guard guard(lock_);
  unsettled_.clear();
  for (VirtualRange range : displaced_) pmap_->wake(range);
  displaced_.clear();
}

void VmSpace::let_leave() {
  const std::lock_guard guard(lock_);
  keeps_ = false;
}

bool VmSpace::awaits_plan() {
  const std::lock_guard guard(lock_);
  // Where nothing took the place there is nothing to be entered.
  return !unsettled_.empty() ||
         std::any_of(displaced_.begin(), displaced_.end(), [&](VirtualRange range) {
           const auto there = map_.first_in(range);
           return there != map_.end() && there->range.start() < range.end();
         });
}

// ---- counting ----

void VmSpace::add_resident(std::int64_t pages) {
  resident_ += pages;
  machine_.memory().add_private(pages);
}

void VmSpace::uncount(VirtualRange range) {
  std::int64_t pages = 0;
  pmap_->mapped_pages(range, [&](hal::PageRun run) {
    if (run.written) pages += static_cast<std::int64_t>(run.range.pages());
  });
  add_resident(-std::min<std::int64_t>(pages, resident_));
}

bool VmSpace::grows_unasked() {
  const std::lock_guard guard(lock_);
  return forked_ || std::any_of(map_.begin(), map_.end(), [](const MapEntry& entry) {
           return entry.object && !entry.shared() && entry.protection.writable();
         });
}

void VmSpace::recount() {
  const std::lock_guard guard(lock_);
  if (closed_) return;
  drop_doubles();
  share_ = pmap_->resident_limit().value_or(kNoShare);
  std::int64_t pages = 0;
  // What a fork shares is counted by its parts.
  const std::optional<std::uint64_t> parts =
      forked_ ? pmap_->proportional_pages() : std::nullopt;
  if (parts) {
    pages = static_cast<std::int64_t>(*parts);
  } else {
    for (MapEntry& entry : map_) {
      if (!entry.managed() || entry.shared() || entry.source == Source::device) continue;
      pmap_->mapped_pages(entry.range, [&](hal::PageRun run) {
        if (entry.source == Source::anonymous || run.written) {
          pages += static_cast<std::int64_t>(run.range.pages());
        }
      });
    }
  }
  for (const Coming& coming : coming_) pages += static_cast<std::int64_t>(coming.granted);
  // What nobody was asked for the host copied, after a fork.
  if (forked_ && pages > resident_) {
    machine_.counters().copied += static_cast<std::uint64_t>(pages - resident_);
  }
  add_resident(pages - resident_);
}

void VmSpace::set_limit(std::uint64_t pages) {
  limit_ = pages;
  machine_.memory().kick();
}

// Nothing of it can leave, and it is at its limit: it goes on, a page at a time.
std::uint64_t VmSpace::below_limit() const {
  const std::uint64_t limit = limit_;
  if (limit == 0) return kNoShare;
  const std::uint64_t counted = counted_pages();
  return counted < limit ? limit - counted : barren_ ? 1 : 0;
}

bool VmSpace::shall_shrink() const {
  const std::uint64_t limit = limit_;
  return limit != 0 && counted_pages() + limit / kSpareFraction >= limit;
}

std::uint64_t VmSpace::swapped_pages() {
  const std::lock_guard guard(lock_);
  return swapped_.count();
}

bool VmSpace::spared() {
  const std::lock_guard guard(lock_);
  return spared_;
}

// ---- faults ----

bool VmSpace::on_its_way(VirtualAddress page) const {
  return leaving_.contains(page) ||
         std::any_of(coming_.begin(), coming_.end(),
                     [&](const Coming& coming) { return coming.pages.contains(page); });
}

VirtualRange VmSpace::vacant(VirtualRange range) const {
  range = undisplaced(range).before(leaving_);
  for (const Coming& coming : coming_) range = range.before(coming.pages);
  if (const auto run = swapped_.first_in(range)) range = range.before(run->pages);
  return range;
}

void VmSpace::fault_limited(MapEntry& entry, VirtualAddress page, bool write,
                            std::uint64_t number, std::uint64_t window) {
  if (on_its_way(page)) return;  // woken when it has left, or come
  const VirtualRange wanted =
      VirtualRange(page, page + hal::bytes_from_pages(window)).intersect(entry.range);
  const VirtualAddress most =
      std::min(entry.range.end(), page + hal::bytes_from_pages(kMostBack));
  if (const auto run = swapped_.run_at(page, most)) {
    return bring_back(entry, *run, write, window);
  }
  enter_zeroes(entry, vacant(wanted), write, number);
}

// As many pages as there is memory for, counted as its own. Without any the fault is put off.
std::uint64_t VmSpace::admit(VirtualAddress page, bool write, std::uint64_t wanted) {
  Memory& memory = machine_.memory();
  const std::uint64_t most = std::min(wanted, below_limit());
  std::uint64_t granted = most == 0 ? 0 : memory.admit(most);
  // A call for which nothing may leave would wait for itself: it goes over the limit, page by page.
  if (granted == 0 && keeps_) {
    granted = 1;
    memory.add_private(1);
  }
  if (granted == 0) {
    memory.put_off({weak_from_this(), page, write});
  } else if (shall_shrink()) {
    memory.kick();
  }
  return granted;
}

void VmSpace::enter_zeroes(MapEntry& entry, VirtualRange wanted, bool write,
                           std::uint64_t number) {
  const VirtualAddress page = wanted.start();
  const std::uint64_t granted = admit(page, write, wanted.pages());
  if (granted == 0) return;
  // Never the host's common page of zeroes: a store would make it a page that nobody was asked for.
  const Pmap::Entered entered =
      pmap_->enter_zero(VirtualRange(page, page + hal::bytes_from_pages(granted)), false);
  resident_ += static_cast<std::int64_t>(entered.pages);
  machine_.memory().add_private(static_cast<std::int64_t>(entered.pages) -
                                static_cast<std::int64_t>(granted));
  machine_.counters().zero_fills += entered.pages;
  if (entered.pages != 0) entry.window.ended_at(number + entered.pages);
  if (entered.outcome == Pmap::Outcome::retry) pmap_->wake(page_at(page));
}

// How many of the run come with its first page: what a walk through memory is owed, and of what is
// there to be read already, as much as was read ahead in vain so far at most.
void VmSpace::bring_back(MapEntry& entry, const SwappedPages::Run& known, bool write,
                         std::uint64_t window) {
  const VirtualAddress page = known.pages.start();
  const std::uint64_t number = page.value() >> hal::kPageShift;
  SwapSpace& swap = machine_.swap();
  SwappedPages::Run run = known;
  const auto cut_to = [&](std::uint64_t pages) {
    pages = std::min(pages, run.pages.pages());
    run.pages = VirtualRange(page, page + hal::bytes_from_pages(pages));
    run.slots = PageRange(run.slots.first(), pages);
  };
  for (const Coming& coming : coming_) {
    if (coming.pages.overlaps(run.pages)) cut_to((coming.pages.start() - page) >> hal::kPageShift);
  }
  if (leaving_.overlaps(run.pages)) cut_to((leaving_.start() - page) >> hal::kPageShift);
  const SwapSpace::Ready ready = swap.ready(run.slots);
  SwapWindow& ahead = entry.swap_window;
  if (ready.pages != 0) {
    cut_to(std::min(ready.pages, std::max(window, ready.ahead ? ahead.pages() / 2 : 1)));
  } else {
    cut_to(window);
  }
  const std::uint64_t granted = admit(page, write, run.pages.pages());
  if (granted == 0) return;
  cut_to(granted);
  entry.window.ended_at(number + granted);
  resident_ += static_cast<std::int64_t>(granted);

  PageRange around = run.slots;
  if (ready.pages == 0) {
    const VirtualRange before(std::max(entry.range.start(), page - 2 * hal::kPageSize), page);
    const bool follows = pmap_->first_mapped(before, 2).pages() == 2;
    const std::uint64_t pages = std::max(ahead.miss(number, entry.advice, follows), granted);
    const PageIndex end = run.slots.end();
    around = ahead.down() ? PageRange::between(end - std::min(pages, end.value()), end)
                          : PageRange(run.slots.first(), pages);
  }
  const auto result =
      swap.bring_in(run.slots, around, [&swap, weak = weak_from_this(), run](Error error) {
        if (const auto space = weak.lock()) space->came_back(run, error);
        swap.unpin(run.slots);
      });
  if (result == SwapSpace::BringIn::coming) {
    coming_.push_back({run.pages, granted});
    return;
  }
  add_resident(-static_cast<std::int64_t>(granted));
  if (result == SwapSpace::BringIn::there) {
    machine_.counters().reactivations += granted;
    enter_swapped(run);
    pmap_->wake(run.pages);
    ahead.touched(number + granted - 1);
    if (ready.ahead) {
      ahead.hit(granted);
      // The next ones are on their way before they are missed.
      if (ready.pages - granted < ahead.pages() / 2 && !ahead.down()) {
        swap.read_ahead(PageRange(run.slots.end(), ahead.miss(number + granted - 1, entry.advice)));
      }
    }
  } else {
    lose(run);
  }
  swap.unpin(run.slots);
}

// Needs its slots to be readable. Wakes nobody.
void VmSpace::enter_swapped(const SwappedPages::Run& run) {
  if (is_displaced(run.pages)) return;
  alignas(hal::kPageSize) static thread_local std::array<std::byte, kMostBack * hal::kPageSize>
      content;
  try {
    machine_.swap().read(run.slots, content.data());
  } catch (const std::system_error& error) {
    spdlog::error("{}: {} pages at {:#x} cannot be read back: {}", pmap_->describe(),
                  run.pages.pages(), run.pages.start().value(), error.what());
    return lose(run);
  }
  const Pmap::Entered entered = pmap_->enter_pages(run.pages, content.data());
  // A page that is there already is the one that counts: a child has one that its parent had in swap
  // and in memory, and knows of both.
  const bool was_there = entered.pages == 0 && entered.outcome == Pmap::Outcome::entered;
  if (entered.pages != 0 || was_there) {
    const std::uint64_t pages = was_there ? 1 : entered.pages;
    const VirtualRange there(run.pages.start(),
                             run.pages.start() + hal::bytes_from_pages(pages));
    add_resident(static_cast<std::int64_t>(entered.pages));
    // In this order: a fork that has copied the page tables by now is still being heard of.
    if (pmap_->forking()) {
      doubles_ += numbers(there);
    } else {
      forget_swapped(there);
    }
  }
}

void VmSpace::lose(const SwappedPages::Run& run) {
  spdlog::error("{}: {} pages at {:#x} were in swap and are lost: a touch is a bus error",
                pmap_->describe(), run.pages.pages(), run.pages.start().value());
  machine_.counters().failed_faults += run.pages.pages();
  pmap_->fail(run.pages);
  pmap_->wake(run.pages);
  forget_swapped(run.pages);
}

// Of a child that has not been adopted yet nobody knows what it has.
void VmSpace::lose_absent(VirtualRange range) {
  spdlog::warn("{}: of {} pages at {:#x} that its parent took along, a touch of one that it has not itself "
               "is a bus error",
               pmap_->describe(), range.pages(), range.start().value());
  pmap_->fail(range);
  pmap_->wake(range);
  forget_swapped(range);
}

void VmSpace::came_back(const SwappedPages::Run& run, Error error) {
  enter_if_still_wanted(run, error);
  // Without the lock, which the next fault will want.
  pmap_->wake(run.pages);
}

void VmSpace::enter_if_still_wanted(const SwappedPages::Run& run, Error error) {
  const std::lock_guard guard(lock_);
  const auto known = std::find_if(coming_.begin(), coming_.end(), [&](const Coming& coming) {
    return coming.pages == run.pages;
  });
  if (known != coming_.end()) {
    if (!closed_) add_resident(-static_cast<std::int64_t>(known->granted));
    coming_.erase(known);
  }
  if (closed_) return;
  // The program may have put something else there meanwhile, or moved it.
  std::vector<SwappedPages::Run> same;
  swapped_.for_each_in(run.pages, [&](const SwappedPages::Run& now) {
    const auto expected =
        run.slots.first() + ((now.pages.start() - run.pages.start()) >> hal::kPageShift);
    if (now.slots.first() == expected) same.push_back(now);
  });
  for (const SwappedPages::Run& now : same) {
    if (error == Error::none || machine_.swap().resident(now.slots)) {
      enter_swapped(now);
    } else {
      lose(now);
    }
  }
}

void VmSpace::forget_swapped(VirtualRange range) {
  if (swapped_.empty()) return;
  swapped_.erase(range, [&](PageRange slots) { machine_.swap().release(slots); });
  doubles_ -= numbers(range);
}

void VmSpace::move_doubles(VirtualRange range, VirtualAddress target) {
  if (doubles_.empty()) return;
  const PageSet moved = doubles_ & numbers(range);
  doubles_ -= moved;
  for (const auto& part : moved) {
    const VirtualRange from = range_of(part);
    const VirtualAddress to = target + (from.start() - range.start());
    doubles_ += numbers(VirtualRange(to, to + from.bytes()));
  }
}

// Every child has been heard of, and has what it needs.
void VmSpace::drop_doubles() {
  if (doubles_.empty() || pmap_->forking()) return;
  PageSet doubles;
  doubles.swap(doubles_);
  for (const auto& run : doubles) forget_swapped(range_of(run));
}

// ---- calls that need the pages ----

// Something in swap of the range that is not in memory as well.
std::optional<SwappedPages::Run> VmSpace::first_absent(VirtualRange range) const {
  std::optional<SwappedPages::Run> found;
  swapped_.for_each_in(range, [&](const SwappedPages::Run& run) {
    for (VirtualAddress at = run.pages.start(); at < run.pages.end() && !found;
         at = at + hal::kPageSize) {
      if (boost::icl::contains(doubles_, at.value() >> hal::kPageShift)) continue;
      found = swapped_.run_at(at, std::min(run.pages.end(),
                                           at + hal::bytes_from_pages(
                                                    doubles_.empty() ? kMostBack : 1)));
    }
  });
  return found;
}

void VmSpace::bring_all_back(VirtualRange range, std::function<void(Error)> done) {
  if (!pages_leave()) return done(Error::none);
  {
    const std::lock_guard guard(lock_);
    keeps_ = true;
    if (!leaving_.empty()) {
      until_left_.push_back([this, range, done = std::move(done)]() mutable {
        bring_all_back(range, std::move(done));
      });
      return;
    }
  }
  SwapSpace& swap = machine_.swap();
  VirtualAddress last;
  for (;;) {
    std::optional<SwappedPages::Run> run;
    {
      const std::lock_guard guard(lock_);
      if (!closed_) run = first_absent(range);
    }
    if (!run) return done(Error::none);
    if (run->pages.start() == last) {
      // The host forks, and takes nothing in.
      machine_.later(kForkPause, [keep = shared_from_this(), range, done = std::move(done)]() mutable {
        keep->bring_all_back(range, std::move(done));
      });
      return;
    }
    last = run->pages.start();
    const auto result = swap.bring_in(
        run->slots, run->slots, [&swap, keep = shared_from_this(), range, run = *run, done](Error error) {
          keep->came_back(run, error);
          swap.unpin(run.slots);
          keep->bring_all_back(range, done);
        });
    if (result == SwapSpace::BringIn::coming) return;
    came_back(*run, result == SwapSpace::BringIn::there ? Error::none : Error::io);
    swap.unpin(run->slots);
  }
}

}  // namespace vm
