// Private memory that leaves and comes back: the part of VmSpace that is about paging.
//
// A page leaves, step by step. The daemon calls start_leaving(), which chooses pages, marks their
// range as leaving and has the pmap take them out. have_left() puts what they held into slots of the
// swap space, writes down which, and wakes whoever touched them meanwhile. A fault then finds the page
// in swapped_ and has the slot read back, entered, and given up.
//
// What may go wrong is that somebody changes what the page belongs to in between:
//   a plan takes it away, or changes its protection
//                          the plan waits until the range has left (before_plan()), takes what is in
//                          swap away as well, and until the program has carried it out nothing more
//                          leaves of the range: it would come back as what it was before
//   a fork                 a page that had been taken out when the host copied the page tables is in
//                          neither; the child waits for have_left(), too (heirs_). A page that comes
//                          back while the host may have forked is kept in swap as well (doubles_): a
//                          child that nobody has heard of yet may be without it
#include <algorithm>
#include <array>
#include <cstring>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "vmserver/vm/vm_object.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::PageRange;
using hal::Pmap;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

// Most pages that one fault brings back; they lie in one cluster of the swap space if they left
// together.
constexpr std::uint64_t kMostBack = 64;
// How long a fork takes to be heard of, about.
constexpr std::chrono::milliseconds kForkPause{1};
// Most ranges that are remembered as those to leave first.
constexpr std::size_t kMostPreferred = 256;

VirtualRange page_at(VirtualAddress page) { return {page, page + hal::kPageSize}; }

PageSet::interval_type numbers(VirtualRange range) {
  return PageSet::interval_type::right_open(range.start().value() >> hal::kPageShift,
                                            range.end().value() >> hal::kPageShift);
}

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
    if (target.empty()) {
      uncount(step.range);
      forget_swapped(step.range);
      continue;
    }
    uncount(target);
    forget_swapped(target);
    unsettled_.push_back(target);
    swapped_.move(step.range, target.start());
  }
}

void VmSpace::before_plan(const hal::Plan& plan, std::function<void()> go) {
  {
    const std::lock_guard guard(lock_);
    if (is_leaving(plan)) {
      put_off_.push_back({&plan, std::move(go)});
      return;
    }
    // A child that has not been heard of has what the host copied, and needs the rest from here.
    if (!swapped_.empty() && pmap_->forking()) {
      machine_.later(kForkPause, [keep = shared_from_this(), &plan, go = std::move(go)]() mutable {
        keep->before_plan(plan, std::move(go));
      });
      return;
    }
    follow(plan);
  }
  go();
}

void VmSpace::plan_done() {
  const std::lock_guard guard(lock_);
  unsettled_.clear();
}

void VmSpace::let_leave() {
  const std::lock_guard guard(lock_);
  keeps_ = false;
}

bool VmSpace::awaits_plan() {
  const std::lock_guard guard(lock_);
  return !unsettled_.empty();
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

void VmSpace::recount() {
  const std::lock_guard guard(lock_);
  if (closed_) return;
  drop_doubles();
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
  add_resident(pages - resident_);
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
  VirtualAddress end = range.end();
  const auto cut_at = [&](VirtualRange taken) {
    if (taken.overlaps(range)) end = std::min(end, std::max(taken.start(), range.start()));
  };
  cut_at(leaving_);
  for (const Coming& coming : coming_) cut_at(coming.pages);
  if (const auto run = swapped_.first_in(range)) cut_at(run->pages);
  return {range.start(), end};
}

void VmSpace::fault_limited(MapEntry& entry, VirtualAddress page, bool write,
                            std::uint64_t number, std::uint64_t window) {
  if (on_its_way(page)) return;  // woken when it has left, or come
  const VirtualRange wanted =
      VirtualRange(page, page + hal::bytes_from_pages(window)).intersect(entry.range);
  if (const auto run = swapped_.run_at(page, wanted.end())) return bring_back(*run, write);
  enter_zeroes(entry, vacant(wanted), write, number);
}

void VmSpace::enter_zeroes(MapEntry& entry, VirtualRange wanted, bool write,
                           std::uint64_t number) {
  const VirtualAddress page = wanted.start();
  const std::uint64_t granted = machine_.memory().admit(wanted.pages());
  if (granted == 0) return machine_.memory().put_off({weak_from_this(), page, write});
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

void VmSpace::bring_back(const SwappedPages::Run& known, bool write) {
  const VirtualAddress page = known.pages.start();
  SwappedPages::Run run = known;
  const auto cut_to = [&](std::uint64_t pages) {
    run.pages = VirtualRange(page, page + hal::bytes_from_pages(pages));
    run.slots = PageRange(run.slots.first(), pages);
  };
  cut_to(std::min(kMostBack, run.pages.pages()));
  for (const Coming& coming : coming_) {
    if (coming.pages.overlaps(run.pages)) cut_to((coming.pages.start() - page) >> hal::kPageShift);
  }
  if (leaving_.overlaps(run.pages)) cut_to((leaving_.start() - page) >> hal::kPageShift);
  const std::uint64_t granted = machine_.memory().admit(run.pages.pages());
  if (granted == 0) return machine_.memory().put_off({weak_from_this(), page, write});
  cut_to(granted);
  resident_ += static_cast<std::int64_t>(granted);

  SwapSpace& swap = machine_.swap();
  const auto result =
      swap.bring_in(run.slots, [&swap, weak = weak_from_this(), run](Error error) {
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
  } else {
    lose(run);
  }
  swap.unpin(run.slots);
}

// Needs its slots to be readable.
void VmSpace::enter_swapped(const SwappedPages::Run& run) {
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
  if (entered.pages != 0) {
    const VirtualRange there(run.pages.start(),
                             run.pages.start() + hal::bytes_from_pages(entered.pages));
    add_resident(static_cast<std::int64_t>(entered.pages));
    // In this order: a fork that has copied the page tables by now is still being heard of.
    if (pmap_->forking()) {
      doubles_ += numbers(there);
    } else {
      forget_swapped(there);
    }
  }
  if (entered.outcome == Pmap::Outcome::retry) pmap_->wake(page_at(run.pages.start()));
}

void VmSpace::lose(const SwappedPages::Run& run) {
  spdlog::error("{}: {} pages at {:#x} were in swap and are lost: a touch is a bus error",
                pmap_->describe(), run.pages.pages(), run.pages.start().value());
  machine_.counters().failed_faults += run.pages.pages();
  pmap_->fail(run.pages);
  pmap_->wake(run.pages);
  forget_swapped(run.pages);
}

void VmSpace::came_back(const SwappedPages::Run& run, Error error) {
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
  pmap_->wake(run.pages);
}

void VmSpace::forget_swapped(VirtualRange range) {
  if (swapped_.empty()) return;
  swapped_.erase(range, [&](PageRange slots) { machine_.swap().release(slots); });
  doubles_ -= numbers(range);
}

// Every child has been heard of, and has what it needs.
void VmSpace::drop_doubles() {
  if (doubles_.empty() || pmap_->forking()) return;
  PageSet doubles;
  doubles.swap(doubles_);
  for (const auto& run : doubles) {
    const PageRange pages = page_range(run);
    forget_swapped(VirtualRange(VirtualAddress(pages.byte_offset()),
                                VirtualAddress(pages.end().byte_offset())));
  }
}

// ---- leaving ----

void VmSpace::prefer(VirtualRange range) {
  if (range.empty() || !pages_leave()) return;
  if (!preferred_.empty() && preferred_.back().end() == range.start()) {
    preferred_.back() = VirtualRange(preferred_.back().start(), range.end());
    return;
  }
  if (preferred_.size() == kMostPreferred) preferred_.erase(preferred_.begin());
  preferred_.push_back(range);
}

VirtualRange VmSpace::leaving_in(const MapEntry& entry, VirtualRange part) {
  // What may be stored to and not be read the host does not take out.
  const bool unfit = entry.protection.writable() && !entry.protection.readable();
  if (entry.source != Source::anonymous || entry.wired || entry.in_transit || unfit) return {};
  while (!part.empty()) {
    const VirtualRange there = pmap_->first_mapped(part, Pmap::kMostLeaving);
    if (there.empty()) return {};
    VirtualAddress end =
        std::min(part.end(), there.start() + hal::bytes_from_pages(Pmap::kMostLeaving));
    VirtualAddress skip_to = there.start();
    const auto keep_clear = [&](VirtualRange other) {
      if (other.contains(skip_to)) skip_to = other.end();
      if (other.start() > there.start()) end = std::min(end, std::max(other.start(), skip_to));
    };
    for (VirtualRange range : unsettled_) keep_clear(range);
    for (const Coming& coming : coming_) keep_clear(coming.pages);
    if (skip_to == there.start() && skip_to < end) return {there.start(), end};
    part = VirtualRange(std::max(skip_to, there.start() + hal::kPageSize), part.end());
  }
  return {};
}

VirtualRange VmSpace::choose_leaving() {
  while (!preferred_.empty()) {
    VirtualRange& first = preferred_.front();
    for (auto it = map_.first_in(first); it != map_.end() && it->range.start() < first.end(); ++it) {
      const VirtualRange chosen = leaving_in(*it, it->range.intersect(first));
      if (chosen.empty()) continue;
      first = VirtualRange(chosen.end(), first.end());
      return chosen;
    }
    preferred_.erase(preferred_.begin());
  }
  const VirtualRange bounds = layout_.bounds;
  for (int round = 0; round < 2; ++round) {
    const VirtualRange rest(std::max(hand_, bounds.start()), bounds.end());
    for (auto it = map_.first_in(rest); it != map_.end(); ++it) {
      const VirtualRange chosen = leaving_in(*it, it->range.intersect(rest));
      if (chosen.empty()) continue;
      hand_ = chosen.end();
      return chosen;
    }
    // It comes round. If nothing left, what is there may be shared since a fork.
    hand_ = bounds.start();
    unsharing_ = fruitless_ && forked_ && !unsharing_;
    fruitless_ = true;
  }
  return {};
}

bool VmSpace::start_leaving() {
  if (!machine_.swap().open()) return false;
  VirtualRange range;
  auto how = hal::Taking::move;
  {
    const std::lock_guard guard(lock_);
    if (closed_ || keeps_ || taking_ || !leaving_.empty() || !pmap_->can_take()) return false;
    // What is in swap as well would leave with what was stored to it since; a child needs it without.
    drop_doubles();
    if (!doubles_.empty()) return false;
    const VirtualRange first = preferred_.empty() ? VirtualRange() : preferred_.front();
    range = choose_leaving();
    if (range.empty()) return false;
    taking_ = true;
    if (!map_.find(range.start())->protection.writable()) {
      how = hal::Taking::copy;
    } else if (unsharing_ && !first.contains(range)) {
      how = hal::Taking::unshare;
    }
    // Pages that are unshared stay where they are, and their faults have to be answered: by the very
    // thread that does it.
    if (how != hal::Taking::unshare) {
      leaving_ = range;
      there_.clear();
      pmap_->mapped_pages(range, [&](hal::PageRun run) { there_ += numbers(run.range); });
    }
  }
  // It stays until it is answered: children may wait for that.
  pmap_->take_pages(range, how,
                    [self = shared_from_this(), how, range](const hal::Left& left) {
                      if (how == hal::Taking::unshare) {
                        // These are the next to leave: copies are more than there is room for.
                        const auto guard = self->lock();
                        self->preferred_.insert(self->preferred_.begin(), range);
                      }
                      if (how == hal::Taking::unshare) return self->unshared();
                      self->have_left(range, left);
                    });
  return true;
}

void VmSpace::unshared() {
  {
    const std::lock_guard guard(lock_);
    taking_ = false;
    fruitless_ = false;
  }
  machine_.memory().kick();
}

void VmSpace::have_left(VirtualRange range, const hal::Left& left) {
  static constexpr std::array<std::byte, hal::kPageSize> kZeroes{};
  std::vector<SwappedPages::Run> gone;
  std::vector<std::shared_ptr<VmSpace>> heirs;
  // Whether they left is known to nobody when the program ended before it said so.
  PageSet unknown;
  {
    const std::lock_guard guard(lock_);
    if (left.content == nullptr) unknown.swap(there_);
    const std::byte* content = left.content;
    const auto has_left = [&](std::uint64_t i) {
      return i < Pmap::kMostLeaving && (left.pages >> i & 1) != 0;
    };
    const auto is_zero = [&](std::uint64_t i) {
      return std::memcmp(kZeroes.data(), content + hal::bytes_from_pages(i), hal::kPageSize) == 0;
    };
    for (std::uint64_t i = 0; i < range.pages();) {
      if (!has_left(i)) {
        ++i;
        continue;
      }
      const bool zero = is_zero(0);
      std::uint64_t count = 1;
      while (i + count < range.pages() && has_left(i + count) && is_zero(count) == zero) ++count;
      const VirtualAddress from = range.start() + hal::bytes_from_pages(i);
      const VirtualRange part(from, from + hal::bytes_from_pages(count));
      forget_swapped(part);
      if (!closed_ && zero) {
        gone.push_back({part, {}});  // needs no slot: whoever touches it finds zeroes
      } else if (!closed_) {
        store(part, content, gone);
      }
      content += part.bytes();
      i += count;
    }
    std::int64_t pages = 0;
    for (const SwappedPages::Run& run : gone) pages += static_cast<std::int64_t>(run.pages.pages());
    if (pages != 0) fruitless_ = false;
    if (!closed_) add_resident(-std::min<std::int64_t>(pages, resident_));
    machine_.counters().deactivated += static_cast<std::uint64_t>(pages);
    heirs = take_heirs(gone);
  }
  for (const auto& heir : heirs) heir->have_left_before_fork(gone, unknown);
  end_leaving();
}

void VmSpace::store(VirtualRange pages, const std::byte* content,
                    std::vector<SwappedPages::Run>& stored) {
  VirtualAddress at = pages.start();
  try {
    machine_.swap().store(pages.pages(), content, [&](PageRange slots) {
      swapped_.insert(at, slots);
      stored.push_back({VirtualRange(at, at + slots.bytes()), slots});
      at = at + slots.bytes();
    });
  } catch (const std::system_error& error) {
    const VirtualRange lost(at, pages.end());
    spdlog::error("{}: {} pages at {:#x} have left and cannot be kept: {}", pmap_->describe(),
                  lost.pages(), at.value(), error.what());
    pmap_->fail(lost);
  }
}

// What has left is held for each of them.
std::vector<std::shared_ptr<VmSpace>> VmSpace::take_heirs(
    const std::vector<SwappedPages::Run>& gone) {
  std::vector<std::shared_ptr<VmSpace>> heirs;
  for (const std::weak_ptr<VmSpace>& weak : std::exchange(heirs_, {})) {
    auto heir = weak.lock();
    if (!heir) continue;
    for (const SwappedPages::Run& run : gone) machine_.swap().hold(run.slots);
    heirs.push_back(std::move(heir));
  }
  return heirs;
}

// What left its parent before the host copied the page tables, or perhaps after it: then it has the
// page, too, and what is in swap is never asked for. Of `unknown`, what it has not is lost.
void VmSpace::have_left_before_fork(const std::vector<SwappedPages::Run>& gone,
                                    const PageSet& unknown) {
  std::vector<std::shared_ptr<VmSpace>> heirs;
  {
    const std::lock_guard guard(lock_);
    heirs = take_heirs(gone);
    for (const SwappedPages::Run& run : gone) {
      if (!closed_) forget_swapped(run.pages);
      // Of a part of it the child may have nothing.
      for (std::uint64_t i = 0; i < run.slots.count(); ++i) {
        const PageRange slot(run.slots.first() + i, 1);
        const VirtualAddress at = run.pages.start() + hal::bytes_from_pages(i);
        const MapEntry* entry = closed_ ? nullptr : map_.find(at);
        if (entry == nullptr || entry->source != Source::anonymous ||
            entry->inherit == hal::Inherit::zero) {
          machine_.swap().release(slot);
        } else {
          swapped_.insert(at, slot);
        }
      }
    }
    PageSet lost = unknown;
    if (!lost.empty() && !closed_) {
      pmap_->mapped_pages(leaving_, [&](hal::PageRun run) { lost -= numbers(run.range); });
    }
    for (const auto& part : lost) {
      const PageRange pages = page_range(part);
      if (!closed_) lose({VirtualRange(VirtualAddress(pages.byte_offset()),
                                       VirtualAddress(pages.end().byte_offset())), {}});
    }
  }
  for (const auto& heir : heirs) heir->have_left_before_fork(gone, unknown);
  end_leaving();
}

void VmSpace::end_leaving() {
  std::vector<PutOffPlan> plans;
  std::vector<std::function<void()>> others;
  {
    const std::lock_guard guard(lock_);
    const VirtualRange range = std::exchange(leaving_, {});
    taking_ = false;
    pmap_->wake(range);
    plans.swap(put_off_);
    others.swap(until_left_);
    for (const PutOffPlan& put_off : plans) follow(*put_off.plan);
  }
  for (PutOffPlan& put_off : plans) put_off.go();
  for (const auto& other : others) other();
  machine_.memory().kick();
}

// ---- forks and calls ----

void VmSpace::inherit_swapped(VmSpace& child) {
  forked_ = child.forked_ = true;
  for (MapEntry& entry : child.map_) {
    if (entry.source != Source::anonymous || entry.inherit == hal::Inherit::zero) continue;
    swapped_.for_each_in(entry.range, [&](const SwappedPages::Run& run) {
      machine_.swap().hold(run.slots);
      child.swapped_.insert(run.pages.start(), run.slots);
    });
  }
  if (leaving_.empty()) return;
  child.leaving_ = leaving_;
  heirs_.push_back(child.weak_from_this());
}

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
        run->slots, [&swap, keep = shared_from_this(), range, run = *run, done](Error error) {
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
