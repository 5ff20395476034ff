// Private memory that leaves: which, how it gets into the swap space, and what forked children have of
// it. How it comes back, and what plans have to do with it: vm_space_paging.cc.
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

#include "vmserver/vm/page_ranges.h"
#include "vmserver/vm/vm_object.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::PageRange;
using hal::Pmap;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

// How long an order takes at most, unless the program is stopped.
constexpr std::chrono::milliseconds kPatience{50};
// Most ranges that are remembered as those to leave first.
constexpr std::size_t kMostPreferred = 256;

}  // namespace

void VmSpace::let_go_first(const MapEntry& entry, VirtualRange range) {
  if (range.empty() || !pages_leave()) return;
  if (entry.object) return entry.object->use_up(entry.pages_of(range));
  prefer(range);
}

void VmSpace::prefer(VirtualRange range) {
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
    if (!stays_.empty()) {
      for (const auto& pages : stays_ & numbers(VirtualRange(there.start(), end))) keep_clear(range_of(pages));
    }
    if (skip_to == there.start() && skip_to < end) return {there.start(), end};
    part = VirtualRange(std::max(skip_to, there.start() + hal::kPageSize), part.end());
  }
  return {};
}

void VmSpace::keep_thread_at_end_of(VirtualRange stack) {
  // Below its descriptor, where that is not the end (aarch64), is what the loader placed for the thread.
  constexpr std::uint64_t kPages = 2;
  if (!pages_leave()) return;
  const std::uint64_t bytes = std::min(stack.bytes(), hal::bytes_from_pages(kPages));
  stays_ += numbers(VirtualRange(stack.end() - bytes, stack.end()));
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
    barren_ = fruitless_ && !unsharing_;
    fruitless_ = true;
  }
  return {};
}

bool VmSpace::start_leaving() {
  if (!machine_.swap().open()) {
    barren_ = true;
    return false;
  }
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
    taking_since_ = std::chrono::steady_clock::now();
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
                      if (how == hal::Taking::unshare) return self->unshared(range);
                      self->have_left(range, left);
                    });
  return true;
}

bool VmSpace::is_giving() {
  const std::lock_guard guard(lock_);
  return taking_ && std::chrono::steady_clock::now() - taking_since_ < kPatience;
}

void VmSpace::unshared(VirtualRange range) {
  {
    const std::lock_guard guard(lock_);
    // These are the next to leave: copies are more than there is room for.
    preferred_.insert(preferred_.begin(), range);
    taking_ = false;
    fruitless_ = barren_ = false;
  }
  machine_.memory().kick();
}

void VmSpace::have_left(VirtualRange range, const hal::Left& left) {
  static constexpr std::array<std::byte, hal::kPageSize> kZeroes{};
  std::vector<SwappedPages::Run> gone;
  std::vector<std::shared_ptr<VmSpace>> heirs;
  // What cannot be kept; and whether pages left is known to nobody when the program ended before it said
  // so.
  PageSet lost;
  {
    const std::lock_guard guard(lock_);
    if (left.content == nullptr) lost.swap(there_);
    const std::byte* content = left.content;
    const auto has_left = [&](std::uint64_t i) {
      return i < Pmap::kMostLeaving && (left.pages >> i & 1) != 0;
    };
    const auto is_zero = [&](const std::byte* page) {
      return std::memcmp(kZeroes.data(), page, hal::kPageSize) == 0;
    };
    // What lies in a row in `content` is stored in a row, wherever it was.
    std::vector<VirtualAddress> row;
    const auto store_row = [&] {
      store(row, content - hal::bytes_from_pages(row.size()), gone, lost);
      row.clear();
    };
    for (std::uint64_t i = 0; i < range.pages(); ++i) {
      if (!has_left(i)) continue;
      const VirtualAddress page = range.start() + hal::bytes_from_pages(i);
      forget_swapped(page_at(page));
      if (closed_ && heirs_.empty()) {
        // Nobody will want it.
      } else if (is_zero(content)) {
        store_row();
        gone.push_back({page_at(page), {}});  // needs no slot: whoever touches it finds zeroes
      } else {
        row.push_back(page);
      }
      content += hal::kPageSize;
    }
    store_row();
    std::int64_t pages = 0;
    for (const SwappedPages::Run& run : gone) pages += static_cast<std::int64_t>(run.pages.pages());
    if (pages != 0) fruitless_ = barren_ = false;
    if (!closed_) add_resident(-std::min<std::int64_t>(pages, resident_));
    machine_.counters().deactivated += static_cast<std::uint64_t>(pages);
    heirs = take_heirs(gone);
    if (closed_) forget_swapped(range);
  }
  for (const auto& heir : heirs) heir->have_left_before_fork(gone, lost);
  end_leaving();
}

void VmSpace::store(const std::vector<VirtualAddress>& pages, const std::byte* content,
                    std::vector<SwappedPages::Run>& stored, PageSet& lost) {
  std::size_t next = 0;
  const auto keep = [&](PageRange slots) {
    while (!slots.empty()) {
      const VirtualAddress page = pages[next];
      std::uint64_t count = 1;
      while (count < slots.count() && pages[next + count] == page + hal::bytes_from_pages(count)) {
        ++count;
      }
      const PageRange run(slots.first(), count);
      swapped_.insert(page, run);
      stored.push_back({VirtualRange(page, page + run.bytes()), run});
      next += count;
      slots = PageRange::between(run.end(), slots.end());
    }
  };
  try {
    if (!pages.empty()) machine_.swap().store(pages.size(), content, keep);
  } catch (const std::system_error& error) {
    spdlog::error("{}: {} pages from {:#x} on have left and cannot be kept: {}", pmap_->describe(),
                  pages.size() - next, pages[next].value(), error.what());
    for (; next < pages.size(); ++next) {
      pmap_->fail(page_at(pages[next]));
      lost += numbers(page_at(pages[next]));
    }
  }
}

// What has left is held for each of them. They are all that there will be: a child that is forked later
// and waited all the same would be told of the next pages that leave, which are none of its.
std::vector<std::shared_ptr<VmSpace>> VmSpace::take_heirs(
    const std::vector<SwappedPages::Run>& gone) {
  have_told_ = true;
  std::vector<std::shared_ptr<VmSpace>> heirs = std::exchange(heirs_, {});
  for (std::size_t i = 0; i < heirs.size(); ++i) {
    for (const SwappedPages::Run& run : gone) machine_.swap().hold(run.slots);
  }
  return heirs;
}

// What left its parent before the host copied the page tables, or perhaps after it: then it has the
// page, too, and what is in swap is never asked for. Of `lost`, what it has not it does not get.
void VmSpace::have_left_before_fork(const std::vector<SwappedPages::Run>& gone,
                                    const PageSet& lost) {
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
        if (closed_ || !boost::icl::contains(heritage_, at.value() >> hal::kPageShift)) {
          machine_.swap().release(slot);
        } else {
          swapped_.insert(at, slot);
        }
      }
    }
    if (!lost.empty() && !closed_) {
      PageSet missing = lost & heritage_;
      const bool told =
          pmap_->mapped_pages(leaving_, [&](hal::PageRun run) { missing -= numbers(run.range); });
      for (const auto& part : missing) told ? lose({range_of(part), {}}) : lose_absent(range_of(part));
    }
  }
  for (const auto& heir : heirs) heir->have_left_before_fork(gone, lost);
  end_leaving();
}

void VmSpace::end_leaving() {
  std::vector<PutOffPlan> plans;
  std::vector<std::function<void()>> others;
  {
    const std::lock_guard guard(lock_);
    const VirtualRange range = std::exchange(leaving_, {});
    have_told_ = false;
    taking_ = false;
    heritage_.clear();
    pmap_->wake(range);
    std::vector<PutOffPlan> waiting = std::exchange(put_off_, {});
    for (PutOffPlan& put_off : waiting) {
      if (begin_plan(put_off)) plans.push_back(std::move(put_off));
    }
    others.swap(until_left_);
  }
  for (PutOffPlan& put_off : plans) put_off.go();
  for (const auto& other : others) other();
  machine_.memory().kick();
}

void VmSpace::inherit_swapped(VmSpace& child) {
  forked_ = child.forked_ = true;
  child.stays_ = stays_;
  for (MapEntry& entry : child.map_) {
    if (entry.source != Source::anonymous || entry.inherit == hal::Inherit::zero) continue;
    swapped_.for_each_in(entry.range, [&](const SwappedPages::Run& run) {
      machine_.swap().hold(run.slots);
      child.swapped_.insert(run.pages.start(), run.slots);
    });
  }
  if (leaving_.empty() || have_told_) return;
  child.leaving_ = leaving_;
  // As it is now: by the time it gets them it may have put something else there, where it had nothing.
  for (auto it = child.map_.first_in(leaving_);
       it != child.map_.end() && it->range.start() < leaving_.end(); ++it) {
    if (it->source != Source::anonymous || it->inherit == hal::Inherit::zero) continue;
    child.heritage_ += numbers(it->range.intersect(leaving_));
  }
  if (!taking_) child.heritage_ &= heritage_;
  heirs_.push_back(child.shared_from_this());
}

}  // namespace vm
