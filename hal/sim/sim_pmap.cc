#include "hal/sim/sim_pmap.h"

#include <algorithm>
#include <cstring>

namespace hal {
namespace {

VirtualRange page_at(VirtualAddress page) { return {page, page + kPageSize}; }

// Joins pages that come by address into runs.
template <class Sink>
class RunBuilder {
 public:
  explicit RunBuilder(const Sink& sink) : sink_(sink) {}
  ~RunBuilder() { flush(); }
  RunBuilder(const RunBuilder&) = delete;
  RunBuilder& operator=(const RunBuilder&) = delete;

  void add(VirtualAddress page, bool written) {
    if (!run_.range.empty() && run_.range.end() == page && run_.written == written) {
      run_.range = VirtualRange(run_.range.start(), page + kPageSize);
      return;
    }
    flush();
    run_ = {.range = page_at(page), .written = written, .stored_to = written};
  }

 private:
  void flush() {
    if (!run_.range.empty()) sink_(run_);
  }

  const Sink& sink_;
  PageRun run_;
};

}  // namespace

SimPmap::~SimPmap() {
  const std::lock_guard guard(memory_->lock());
  erase(VirtualRange(VirtualAddress(0), VirtualAddress(~std::uint64_t{0}).page_floor()));
}

void SimPmap::add_host_mapping(VirtualRange range, Protection protection, const std::string& path,
                               bool shared) {
  const std::lock_guard guard(memory_->lock());
  put({.range = range,
       .kind = SimRegion::Kind::host,
       .protection = protection,
       .sharing = shared ? Sharing::shared : Sharing::copy_on_write,
       .backing = nullptr,
       .page = {},
       .path = path});
}

std::unique_ptr<SimPmap> SimPmap::fork() {
  auto child = std::make_unique<SimPmap>(memory_);
  const std::lock_guard guard(memory_->lock());
  child->alive_ = alive_;
  for (const auto& entry : regions_) {
    const SimRegion& region = entry.second;
    if (region.inherit == Inherit::none) continue;
    SimRegion copy = region;
    copy.locked = false;
    child->put(copy);
    if (region.inherit == Inherit::zero) continue;
    pages_.for_each(region.range, [&](VirtualAddress address, SimPage& page) {
      // Shared pages are found again in the object at the first touch.
      if (!page.failed && !region.is_private()) return;
      page.owned = false;
      SimPage& copied = child->pages_.entry(address);
      copied = page;
      copied.written = false;
    });
  }
  return child;
}

void SimPmap::kill() {
  const std::lock_guard guard(memory_->lock());
  alive_ = false;
  const VirtualRange all(VirtualAddress(0), VirtualAddress(~std::uint64_t{0}).page_floor());
  erase(all);
  wake_locked(all);
}

void SimPmap::drop_lazy_pages() {
  const std::lock_guard guard(memory_->lock());
  for (auto& [start, region] : regions_) {
    pages_.for_each(region.range, [](VirtualAddress, SimPage& page) {
      if (page.lazy) page = SimPage();
    });
  }
}

// What the kernel does by itself about a page that is not there. False: it is the server's.
bool SimPmap::bring_in(const SimRegion& region, VirtualAddress page, bool& beyond) {
  if (region.kind == SimRegion::Kind::host) {
    pages_.entry(page) = {.frame = memory_->zero_frame()};
    return true;
  }
  if (region.kind == SimRegion::Kind::anonymous) return false;
  const PageIndex index = region.page_at(page);
  if (index.value() >= region.backing->pages_) {
    beyond = true;
    return false;
  }
  SimFramePointer frame = region.backing->frame(index);
  if (!frame) return false;
  const bool unmarked = unmarked_.erase(page) != 0;
  pages_.entry(page) = {.frame = std::move(frame),
                        .of_object = true,
                        .written = unmarked && region.sharing == Sharing::shared_tracked};
  return true;
}

SimAccess SimPmap::access(VirtualAddress address, std::span<std::byte> bytes, bool write,
                          SimWaiter& waiter) {
  const std::lock_guard guard(memory_->lock());
  const VirtualAddress at = address.page_floor();
  const SimRegion* region = find(address);
  // As on x86-64, whatever may be stored to or executed may be read too.
  if (region == nullptr || region->protection == Protection::none() ||
      (write && !region->protection.writable())) {
    return SimAccess::segmentation_fault;
  }
  SimPage* page = pages_.find(at);
  if (page == nullptr) {
    bool beyond = false;
    if (!bring_in(*region, at, beyond)) {
      if (beyond) return SimAccess::bus_error;
      waiter.page = at;
      waiter.woken = false;
      waiters_.push_back(&waiter);
      return SimAccess::missing;
    }
    page = pages_.find(at);
  }
  if (page->failed) return SimAccess::bus_error;
  if (!write) {
    if (!bytes.empty()) {
      std::memcpy(bytes.data(), page->frame->bytes.data() + address.page_offset(), bytes.size());
    }
    return SimAccess::done;
  }
  if (!region->is_private() && region->kind == SimRegion::Kind::object) {
    page->written = true;
  } else if (!page->owned) {
    *page = {.frame = std::make_shared<SimFrame>(*page->frame), .owned = true};
  }
  page->lazy = false;
  if (!bytes.empty()) {
    std::memcpy(page->frame->bytes.data() + address.page_offset(), bytes.data(), bytes.size());
  }
  return SimAccess::done;
}

bool SimPmap::woken(const SimWaiter& waiter) {
  const std::lock_guard guard(memory_->lock());
  return waiter.woken;
}

bool SimPmap::wait(const SimWaiter& waiter, std::chrono::seconds most) {
  std::unique_lock guard(memory_->lock());
  return woken_.wait_for(guard, most, [&] { return waiter.woken; });
}

void SimPmap::forget(SimWaiter& waiter) {
  const std::lock_guard guard(memory_->lock());
  waiters_.remove(&waiter);
}

Pmap::Entered SimPmap::enter_zero(VirtualRange range, bool shared) {
  const Entered entered = enter(range, [&](VirtualAddress, SimPage& page) {
    page.frame = shared ? memory_->zero_frame() : std::make_shared<SimFrame>();
    page.owned = !shared;
  });
  const std::lock_guard guard(memory_->lock());
  wake_locked(VirtualRange(range.start(), range.start() + bytes_from_pages(entered.pages)));
  return entered;
}

Pmap::Entered SimPmap::enter_pages(VirtualRange range, const std::byte* content) {
  return enter(range, [&](VirtualAddress at, SimPage& page) {
    page.frame = std::make_shared<SimFrame>();
    page.owned = true;
    std::memcpy(page.frame->bytes.data(), content + (at - range.start()), kPageSize);
  });
}

Pmap::Entered SimPmap::enter(VirtualRange range,
                             const std::function<void(VirtualAddress, SimPage&)>& make) {
  const std::lock_guard guard(memory_->lock());
  Entered entered;
  if (!alive_) {
    entered.outcome = Outcome::gone;
    return entered;
  }
  for (VirtualAddress at = range.start(); at < range.end(); at = at + kPageSize) {
    const SimRegion* region = find(at);
    if (region == nullptr || region->kind == SimRegion::Kind::host) {
      if (entered.pages == 0) entered.outcome = Outcome::retry;
      break;
    }
    bool beyond = false;
    if (pages_.find(at) != nullptr ||
        (region->kind == SimRegion::Kind::object && bring_in(*region, at, beyond)) || beyond) {
      if (entered.pages == 0) wake_locked(page_at(at));
      break;
    }
    SimPage& page = pages_.entry(at);
    make(at, page);
    // As UFFDIO_COPY has it: where an object is shared the page becomes the object's.
    if (region->kind == SimRegion::Kind::object && !region->is_private()) {
      region->backing->frames_[region->page_at(at).value()] = page.frame;
      page.owned = false;
      page.of_object = true;
    }
    ++entered.pages;
  }
  return entered;
}

void SimPmap::take_pages(VirtualRange range, Taking how, LeftDone done) {
  const std::lock_guard guard(memory_->lock());
  ordered_.push_back({range, how, std::move(done), 0, {}});
}

// As UFFDIO_MOVE: a page that others share stays, and so does what may not be stored to or is wired.
bool SimPmap::take_ordered() {
  const std::lock_guard guard(memory_->lock());
  if (ordered_.empty()) return false;
  Order order = std::move(ordered_.front());
  ordered_.pop_front();
  for (VirtualAddress at = order.range.start(); at < order.range.end(); at = at + kPageSize) {
    const SimRegion* region = find(at);
    SimPage* page = pages_.find(at);
    if (region == nullptr || region->kind != SimRegion::Kind::anonymous || region->locked ||
        page == nullptr || page->failed) {
      continue;
    }
    const bool writable = region->protection.writable();
    if (writable ? !region->protection.readable() : order.how != Taking::copy) continue;
    const bool shared = page->frame.use_count() > 1 || page->frame == memory_->zero_frame();
    if (order.how == Taking::unshare) {
      if (shared) *page = {.frame = std::make_shared<SimFrame>(*page->frame), .owned = true};
      continue;
    }
    if (shared && writable) continue;
    const auto bytes = page->frame->bytes;
    order.content.insert(order.content.end(), bytes.begin(), bytes.end());
    order.pages |= std::uint64_t{1} << ((at - order.range.start()) >> kPageShift);
    pages_.erase(page_at(at));
  }
  taken_.push_back(std::move(order));
  return true;
}

bool SimPmap::answer_taken() {
  Order order;
  {
    const std::lock_guard guard(memory_->lock());
    if (taken_.empty()) return false;
    order = std::move(taken_.front());
    taken_.pop_front();
  }
  // Something to point at, in any case.
  order.content.push_back({});
  order.done({order.pages, order.content.data()});
  return true;
}

void SimPmap::abandon_orders() {
  std::vector<LeftDone> unanswered;
  {
    const std::lock_guard guard(memory_->lock());
    for (auto* orders : {&ordered_, &taken_}) {
      for (Order& order : *orders) unanswered.push_back(std::move(order.done));
      orders->clear();
    }
  }
  for (const LeftDone& done : unanswered) done({});
}

VirtualRange SimPmap::first_mapped(VirtualRange within, std::uint64_t most) {
  VirtualRange found;
  (void)mapped_pages(within, [&](PageRun run) {
    if (!found.empty()) return;
    const std::uint64_t bytes = std::min(run.range.bytes(), bytes_from_pages(most));
    found = VirtualRange(run.range.start(), run.range.start() + bytes);
  });
  return found;
}

std::optional<std::uint64_t> SimPmap::proportional_pages() {
  const std::lock_guard guard(memory_->lock());
  if (!alive_) return std::nullopt;
  double pages = 0;
  for (auto& [start, region] : regions_) {
    if (!region.is_private()) continue;
    pages_.for_each(region.range, [&](VirtualAddress, SimPage& page) {
      if (page.failed || page.of_object || page.frame == memory_->zero_frame()) return;
      pages += 1.0 / static_cast<double>(page.frame.use_count());
    });
  }
  return static_cast<std::uint64_t>(pages + 0.5);
}

void SimPmap::wake(VirtualRange range) {
  const std::lock_guard guard(memory_->lock());
  wake_locked(range);
}

void SimPmap::wake_locked(VirtualRange range) {
  const auto woken = std::remove_if(waiters_.begin(), waiters_.end(), [&](SimWaiter* waiter) {
    if (!range.contains(waiter->page)) return false;
    waiter->woken = true;
    return true;
  });
  if (woken == waiters_.end()) return;
  waiters_.erase(woken, waiters_.end());
  woken_.notify_all();
}

Pmap::Outcome SimPmap::fail(VirtualRange range) {
  const std::lock_guard guard(memory_->lock());
  if (!alive_) return Outcome::gone;
  for (VirtualAddress at = range.start(); at < range.end(); at = at + kPageSize) {
    const SimRegion* region = find(at);
    if (region == nullptr || region->kind == SimRegion::Kind::host) return Outcome::retry;
    if (pages_.find(at) == nullptr) pages_.entry(at).failed = true;
    wake_locked(page_at(at));
  }
  return Outcome::entered;
}

void SimPmap::deactivate(VirtualRange range) {
  const std::lock_guard guard(memory_->lock());
  deactivated_.push_back(range);
}

bool SimPmap::alive() {
  const std::lock_guard guard(memory_->lock());
  return alive_;
}

bool SimPmap::collect_written(VirtualRange range,
                              const std::function<void(VirtualRange)>& sink) {
  const std::lock_guard guard(memory_->lock());
  if (!alive_) return false;
  bool told = true;
  for_each_region(range, [&](SimRegion& region) {
    if (region.sharing != Sharing::shared_tracked) told = false;
  });
  if (!told) return false;
  const auto to_range = [&](const PageRun& run) { sink(run.range); };
  RunBuilder runs(to_range);
  pages_.for_each(range, [&](VirtualAddress address, SimPage& page) {
    if (!page.written) return;
    page.written = false;
    runs.add(address, true);
  });
  return true;
}

void SimPmap::track_anew(VirtualRange range) {
  const std::lock_guard guard(memory_->lock());
  track_locked(range);
}

void SimPmap::track_locked(VirtualRange range) {
  pages_.for_each(range, [](VirtualAddress, SimPage& page) { page.written = false; });
  mark(range);
}

void SimPmap::mark(VirtualRange range) {
  unmarked_.erase(unmarked_.lower_bound(range.start()), unmarked_.lower_bound(range.end()));
}

bool SimPmap::mapped_pages(VirtualRange range, const std::function<void(PageRun)>& sink) {
  const std::lock_guard guard(memory_->lock());
  if (!alive_) return false;
  RunBuilder runs(sink);
  pages_.for_each(range, [&](VirtualAddress address, SimPage& page) {
    if (!page.failed) runs.add(address, page.owned || page.written);
  });
  return true;
}

std::vector<HostMapping> SimPmap::host_mappings(VirtualRange within) {
  std::vector<HostMapping> result;
  const std::lock_guard guard(memory_->lock());
  for_each_region(within, [&](SimRegion& region) {
    HostMapping mapping;
    mapping.range = region.range;
    mapping.protection = region.protection;
    mapping.shared = !region.is_private();
    mapping.offset = region.page.byte_offset();
    mapping.path = region.path;
    result.push_back(std::move(mapping));
  });
  return result;
}

std::vector<SimRegion> SimPmap::regions(VirtualRange range) {
  std::vector<SimRegion> result;
  const std::lock_guard guard(memory_->lock());
  for_each_region(range, [&](SimRegion& region) { result.push_back(region); });
  return result;
}

std::size_t SimPmap::table_count() {
  const std::lock_guard guard(memory_->lock());
  return pages_.table_count();
}

void SimPmap::drop_pages_of(const SimBacking& backing, PageRange pages, bool even_owned) {
  for (auto& [start, region] : regions_) {
    if (region.backing.get() != &backing) continue;
    const PageRange seen = pages.intersect(PageRange(region.page, region.range.pages()));
    if (seen.empty()) continue;
    const VirtualAddress from = region.range.start() + bytes_from_pages(seen.first() - region.page);
    pages_.for_each(VirtualRange(from, from + seen.bytes()), [&](VirtualAddress at, SimPage& page) {
      if (!even_owned && !page.of_object) return;
      page = SimPage();
      if (region.sharing == Sharing::shared_tracked) unmarked_.insert(at);
    });
  }
}

}  // namespace hal
