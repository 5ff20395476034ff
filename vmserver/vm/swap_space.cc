#include "vmserver/vm/swap_space.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "vmserver/vm/machine.h"

namespace vm {

using hal::PageIndex;
using hal::PageRange;

namespace {

// How large the object is: nothing of it exists that is not used.
constexpr std::uint64_t kMostSlots = std::uint64_t{1} << 32;
// Pages of one page-out, at most; FreeBSD's clusters are of 32 of these pages, disks like more.
constexpr std::uint64_t kCluster = 256;
// Freed slots after which the pager is told.
constexpr std::uint64_t kDiscardBatch = 1024;

}  // namespace

class SwapSpace::Flight final : public Transfer {
 public:
  Flight(SwapSpace& owner, Kind which, PageRange slots) : owner_(owner) {
    kind = which;
    pages = slots;
  }
  void done(Error error) override { owner_.ended(*this, error); }

 private:
  SwapSpace& owner_;
};

SwapSpace::SwapSpace(Machine& machine) : machine_(machine), allocator_(kMostSlots) {}

SwapSpace::~SwapSpace() = default;

bool SwapSpace::open() {
  const std::lock_guard guard(lock_);
  if (pager_) return true;
  try {
    backing_ = machine_.backings().create("swap", kMostSlots);
  } catch (const std::system_error& error) {
    spdlog::error("memory for pages on their way out: {}", error.what());
    return false;
  }
  machine_.pagers().open(PagerKind::anonymous, hal::HostFile(),
                         hal::bytes_from_pages(kMostSlots), backing_,
                         [this](Result<OpenedObject> opened) {
                           if (opened) pager_ = std::move(std::move(opened).value().object);
                         });
  if (!pager_) return false;
  pager_->on_lost([this] { all_lost(); });
  return true;
}

bool SwapSpace::is_open() const {
  const std::lock_guard guard(lock_);
  return pager_ != nullptr;
}

// ---- bookkeeping ----

void SwapSpace::count(const Slot& slot, std::int64_t sign) {
  const auto add = [&](std::uint64_t& figure) { figure += static_cast<std::uint64_t>(sign); };
  if (slot.holders != 0) add(figures_.held);
  if (slot.lost) return add(figures_.lost);
  if (slot.going) return add(figures_.laundering);
  if (slot.resident) return add(slot.kept ? figures_.clean : figures_.filled);
  if (slot.kept) add(figures_.away);
}

template <class Change>
void SwapSpace::change(PageRange slots, Change change) {
  std::int64_t resident = 0;
  for (PageIndex at = slots.first(); at < slots.end(); at = at + 1) {
    Slot& one = slot(at);
    count(one, -1);
    resident -= one.counts() ? 1 : 0;
    change(one);
    resident += one.counts() ? 1 : 0;
    count(one, 1);
  }
  if (resident != 0) machine_.memory().add_swap(resident);
}

PageRange SwapSpace::take_slots(std::uint64_t most) {
  const PageRange taken = allocator_.take(most);
  slots_.resize(std::max<std::size_t>(slots_.size(), allocator_.end().value()));
  return taken;
}

// From the Backing. Needs nobody to want them from there.
void SwapSpace::drop(PageRange slots) {
  backing_->discard(slots);
  change(slots, [](Slot& one) { one.resident = one.ahead = false; });
}

// Of those that nobody has any more, in runs.
void SwapSpace::free_slots(PageRange slots) {
  for (PageIndex at = slots.first(); at < slots.end();) {
    if (!slot(at).free()) {
      at = at + 1;
      continue;
    }
    const PageIndex first = at;
    bool resident = false;
    for (; at < slots.end() && slot(at).free(); at = at + 1) resident |= slot(at).resident;
    const PageRange run = PageRange::between(first, at);
    if (resident) drop(run);
    for (PageIndex one = run.first(); one < run.end(); one = one + 1) {
      if (slot(one).kept) {
        discarded_ += interval(PageRange(one, 1));
        ++discarded_pages_;
      } else {
        allocator_.give(PageRange(one, 1));
      }
    }
    change(run, [](Slot& one) { one = Slot(); });
  }
  if (discarded_pages_ >= kDiscardBatch) flush_locked();
}

void SwapSpace::flush_locked() {
  if (discarded_.empty()) return;
  std::vector<PageRange> runs;
  for (const auto& run : discarded_) runs.push_back(page_range(run));
  pager_->discard(std::move(runs));
  free_discarded();
}

void SwapSpace::free_discarded() {
  for (const auto& run : discarded_) allocator_.give(page_range(run));
  discarded_.clear();
  discarded_pages_ = 0;
}

void SwapSpace::flush_discards() {
  const std::lock_guard guard(lock_);
  flush_locked();
}

// ---- for whoever has pages in it ----

void SwapSpace::store(std::uint64_t pages, const std::byte* content,
                      const std::function<void(PageRange)>& sink) {
  while (pages != 0) {
    PageRange slots;
    {
      const std::lock_guard guard(lock_);
      slots = take_slots(pages);
      if (slots.empty()) throw std::system_error(ENOSPC, std::generic_category(), "swap slots");
      change(slots, [](Slot& one) { one.holders = 1; });
    }
    try {
      backing_->put(slots.byte_offset(), std::span(content, slots.bytes()));
    } catch (const std::system_error&) {
      release(slots);
      throw;
    }
    {
      const std::lock_guard guard(lock_);
      change(slots, [](Slot& one) { one.resident = true; });
      laundry_.push_back(slots);
      prune(laundry_, false);
    }
    sink(slots);
    content += slots.bytes();
    pages -= slots.count();
  }
}

void SwapSpace::hold(PageRange slots) {
  const std::lock_guard guard(lock_);
  change(slots, [](Slot& one) { ++one.holders; });
}

void SwapSpace::release(PageRange slots) {
  const std::lock_guard guard(lock_);
  change(slots, [](Slot& one) { --one.holders; });
  free_slots(slots);
}

bool SwapSpace::resident(PageRange slots) const {
  const std::lock_guard guard(lock_);
  for (PageIndex at = slots.first(); at < slots.end(); at = at + 1) {
    if (!slot(at).resident) return false;
  }
  return true;
}

SwapSpace::Ready SwapSpace::ready(PageRange slots) {
  const std::lock_guard guard(lock_);
  Ready ready;
  ready.ahead = slot(slots.first()).resident && slot(slots.first()).ahead;
  for (PageIndex at = slots.first(); at < slots.end() && slot(at).resident; at = at + 1) {
    ++ready.pages;
  }
  return ready;
}

SwapSpace::BringIn SwapSpace::bring_in(PageRange slots, PageRange around, Done done) {
  const std::lock_guard guard(lock_);
  BringIn result = BringIn::there;
  change(slots, [](Slot& one) {
    ++one.pins;
    one.ahead = false;
  });
  for (PageIndex at = slots.first(); at < slots.end(); at = at + 1) {
    const Slot& one = slot(at);
    if (one.coming || one.absent()) result = BringIn::coming;
    if (one.lost && result == BringIn::there) result = BringIn::lost;
  }
  if (result == BringIn::coming) {
    fetch(slots, around);
    waiting_.push_back({slots, std::move(done)});
  }
  return result;
}

void SwapSpace::read_ahead(PageRange slots) {
  const std::lock_guard guard(lock_);
  fetch(PageRange(slots.first(), 0), slots);
}

// Has the pager read what is absent of `slots`, and what is next to them of `around`, as far as memory
// is free.
void SwapSpace::fetch(PageRange slots, PageRange around) {
  Memory& memory = machine_.memory();
  const std::uint64_t before = slots.first() - std::min(slots.first(), around.first());
  const PageIndex last = std::min(around.end(), PageIndex(slots_.size()));
  const std::uint64_t after = std::max(slots.end(), last) - slots.end();
  const std::uint64_t room = before + after == 0 ? 0 : memory.admit(before + after);
  const std::uint64_t more = std::min(after, room);
  const PageIndex from = slots.first() - std::min(before, room - more);
  const PageIndex end = slots.end() + more;
  const auto wanting = [&](PageIndex at) {
    const Slot& one = slot(at);
    return one.absent() && (slots.contains(at) || (one.kept && one.holders != 0));
  };
  for (PageIndex at = from; at < end;) {
    const PageIndex first = at;
    while (at < end && wanting(at)) at = at + 1;
    if (first == at) {
      at = at + 1;
      continue;
    }
    const PageRange run = PageRange::between(first, at);
    for (PageIndex one = run.first(); one < run.end(); one = one + 1) {
      change(PageRange(one, 1), [&](Slot& coming) {
        coming.coming = true;
        coming.ahead = !slots.contains(one);
      });
    }
    flights_.push_back(std::make_unique<Flight>(*this, Transfer::Kind::page_in, run));
    pager_->submit(*flights_.back());
  }
  // What comes along is counted here by now.
  memory.add_private(-static_cast<std::int64_t>(room));
}

void SwapSpace::read(PageRange slots, std::byte* into) const { backing_->read(slots, into); }

void SwapSpace::unpin(PageRange slots) {
  const std::lock_guard guard(lock_);
  change(slots, [](Slot& one) { --one.pins; });
  free_slots(slots);
}

// ---- for the daemon ----

// Pages that came back leave their places in a queue behind.
void SwapSpace::prune(std::deque<PageRange>& queue, bool kept) const {
  constexpr std::size_t kFew = 4096;
  if (queue.size() < kFew || queue.size() < slots_.size()) return;
  std::erase_if(queue, [&](PageRange run) {
    for (PageIndex at = run.first(); at < run.end(); at = at + 1) {
      if (slot(at).holders != 0 && slot(at).resident && slot(at).kept == kept) return false;
    }
    return true;
  });
}

std::uint64_t SwapSpace::reclaim(std::uint64_t most) {
  std::unique_lock guard(lock_);
  std::uint64_t dropped = 0;
  const auto idle = [&](PageIndex at) {
    const Slot& one = slot(at);
    return one.resident && one.kept && !one.going && !one.coming && one.pins == 0 &&
           one.holders != 0;
  };
  std::size_t looked_at = clean_.size();
  while (looked_at-- != 0 && dropped < most && !clean_.empty()) {
    const PageRange run = clean_.front();
    clean_.pop_front();
    for (PageIndex at = run.first(); at < run.end();) {
      if (slot(at).resident && slot(at).kept && slot(at).pins != 0) {
        clean_.emplace_back(at, 1);  // somebody is reading it
      }
      const PageIndex from = at;
      while (at < run.end() && idle(at)) at = at + 1;
      if (from < at) {
        drop(PageRange::between(from, at));
        dropped += at - from;
      } else {
        at = at + 1;
      }
    }
    // Faults want the lock, too.
    guard.unlock();
    guard.lock();
  }
  return dropped;
}

std::uint64_t SwapSpace::launder(std::uint64_t most) {
  const std::lock_guard guard(lock_);
  const auto wanting = [&](PageIndex at) {
    if (at.value() >= slots_.size()) return false;
    const Slot& one = slot(at);
    return one.resident && !one.kept && !one.going && one.holders != 0;
  };
  std::uint64_t begun = 0;
  while (begun < most && !laundry_.empty()) {
    const PageRange run = laundry_.front();
    laundry_.pop_front();
    for (PageIndex at = run.first(); at < run.end();) {
      if (!wanting(at)) {
        at = at + 1;
        continue;
      }
      // What is next to it goes along, whenever its turn would have been.
      const PageIndex from = at;
      while (at - from < kCluster && wanting(at)) at = at + 1;
      const PageRange cluster = PageRange::between(from, at);
      change(cluster, [](Slot& one) { one.going = true; });
      flights_.push_back(std::make_unique<Flight>(*this, Transfer::Kind::page_out, cluster));
      machine_.memory().add_paging_out(static_cast<std::int64_t>(cluster.count()));
      pager_->submit(*flights_.back());
      begun += cluster.count();
    }
  }
  return begun;
}

void SwapSpace::ended(Flight& flight, Error error) {
  std::unique_ptr<Flight> own;
  const bool was_page_out = flight.kind == Transfer::Kind::page_out;
  if (was_page_out) machine_.page_out_over(flight.pages.count(), error == Error::none);
  std::vector<std::pair<Done, Error>> over;
  {
    const std::lock_guard guard(lock_);
    const auto it = std::find_if(flights_.begin(), flights_.end(),
                                 [&](const auto& one) { return one.get() == &flight; });
    own = std::move(*it);
    *it = std::move(flights_.back());
    flights_.pop_back();
    const PageRange slots = own->pages;
    if (was_page_out) {
      stuck_ = error != Error::none;
      change(slots, [&](Slot& one) {
        one.going = false;
        one.kept = error == Error::none;
      });
      (error == Error::none ? clean_ : laundry_).push_back(slots);
    } else {
      // On an error some may have come all the same.
      for (PageIndex at = slots.first(); at < slots.end(); at = at + 1) {
        const bool there =
            error == Error::none || !backing_->next_resident(PageRange(at, 1)).empty();
        change(PageRange(at, 1), [&](Slot& one) {
          one.coming = false;
          one.resident = there;
          one.ahead = one.ahead && there;
        });
      }
      machine_.counters().pageins += slots.count();
      clean_.push_back(slots);
      prune(clean_, true);
      const auto still_waits = [&](Waiting& waiting) {
        Error outcome = Error::none;
        for (PageIndex at = waiting.slots.first(); at < waiting.slots.end(); at = at + 1) {
          if (slot(at).coming) return true;
          if (!slot(at).resident) outcome = Error::io;
        }
        over.emplace_back(std::move(waiting.done), outcome);
        return false;
      };
      const auto done = std::stable_partition(waiting_.begin(), waiting_.end(), still_waits);
      waiting_.erase(done, waiting_.end());
    }
    free_slots(slots);
  }
  for (auto& [done, outcome] : over) done(outcome);
  if (was_page_out || machine_.memory().anybody_waits()) machine_.memory().kick();
}

// The pager has died, and what it had with it. What is still here goes to the next one.
void SwapSpace::all_lost() {
  const std::lock_guard guard(lock_);
  for (PageIndex at(0); at.value() < slots_.size(); at = at + 1) {
    const Slot& one = slot(at);
    if (!one.kept || one.going) continue;
    if (one.resident) laundry_.emplace_back(at, 1);
    change(PageRange(at, 1), [](Slot& gone) {
      gone.kept = false;
      gone.lost = !gone.resident && gone.holders != 0;
    });
  }
  // It does not know them any more.
  free_discarded();
}

SwapSpace::Figures SwapSpace::figures() const {
  const std::lock_guard guard(lock_);
  return figures_;
}

}  // namespace vm
