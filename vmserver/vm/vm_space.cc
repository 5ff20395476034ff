#include "vmserver/vm/vm_space.h"

#include <algorithm>
#include <cerrno>
#include <functional>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/hooks.h"
#include "vmserver/vm/page_ranges.h"
#include "vmserver/vm/vm_object.h"

namespace vm {

using hal::Inherit;
using hal::Pmap;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

// How long a program may go on touching a page of no entry before it gets a bus error. Such a touch
// is a race with the program's own munmap: the map has let go of the range, the program has not
// carried that out yet.
constexpr std::chrono::seconds kNowhereGrace{1};
// A window of so many pages is one of a walk through memory.
constexpr std::uint64_t kWalk = 2 * FaultWindow::kStart;

VirtualRange hull(VirtualRange a, VirtualRange b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  return {std::min(a.start(), b.start()), std::max(a.end(), b.end())};
}

}  // namespace

VmSpace::VmSpace(Machine& machine, std::unique_ptr<Pmap> pmap, const SpaceLayout& layout)
    : machine_(machine),
      pmap_(std::move(pmap)),
      layout_(layout),
      map_(layout.bounds, layout.placement) {}

VmSpace::~VmSpace() { close(); }

std::shared_ptr<VmSpace> VmSpace::make(Machine& machine, std::unique_ptr<Pmap> pmap,
                                       const SpaceLayout& layout) {
  std::shared_ptr<VmSpace> space(new VmSpace(machine, std::move(pmap), layout));
  if (space->pages_leave()) space->share_ = space->pmap_->resident_limit().value_or(kNoShare);
  machine.add_space(space);
  return space;
}

void VmSpace::handle(Call& call) {
  call.space = this;
  // The program is done with whatever it was told before.
  plan_done();
  {
    const std::lock_guard guard(lock_);
    forget_removed();
    drop_outdated();
    withdraw_lock_credit();
    if (lease_.end() != VirtualAddress(0) && calls::concerns(call.request, lease_)) end_lease();
  }
  calls::dispatch(*this, call);
}

bool VmSpace::note(const protocol::TrapRequest& request, std::int32_t pid) {
  const std::lock_guard guard(lock_);
  if (closed_) return true;
  // Not each time: the host is asked, who would keep the program waiting in its next call.
  constexpr std::size_t kMostRemoved = 256;
  if (removed_.size() >= kMostRemoved) forget_removed();
  noted_ = true;
  return calls::note(*this, request, pid);
}

void VmSpace::forget_removed() {
  if ((removed_.empty() && !noted_) || pmap_->forking()) return;
  removed_.clear();
  noted_ = false;
}

void VmSpace::undo(Call& call, const Answer& answer, Error error) {
  Answer result;
  result.error = error;
  {
    const std::lock_guard guard(lock_);
    if (call.request.call == protocol::kCallMmap) trace_unmapped(*this, call.pid(), answer.undo);
    if (!answer.wired.empty()) {
      result.error = Error::no_memory;
      if (call.rules->mlock.all_or_nothing) {
        set_wired(answer.wired, false);
        map_.simplify(answer.wired);
        call.plan.add(hal::Step::Kind::unlock, answer.wired).may_fail = true;
      }
    } else if (answer.claims && error == Error::exists) {
      // What is there is not ours to unmap.
      take_out(answer.undo, [](VirtualRange) {});
      look_again();
      result.error = answer.occupied;
      result.again = answer.occupied == Error::none;
    } else if (!answer.undo.empty()) {
      remove(answer.undo, call.plan);
    }
  }
  call.finish(result);
}

void VmSpace::fault(VirtualAddress page, bool write) {
  ++faults_;
  ++machine_.counters().faults;
  fault_again(page, write);
}

void VmSpace::fault_again(VirtualAddress page, bool write) {
  const std::lock_guard guard(lock_);
  const auto moves = [page](VirtualRange range) { return range.contains(page); };
  if (std::any_of(moving_.begin(), moving_.end(), moves)) return;  // end_move() wakes it
  MapEntry* entry = map_.find(page);
  if (entry != nullptr && entry->source == Source::gap) entry = grow_stack(*entry, page);
  if (entry != nullptr && entry->source == Source::lease) {
    // The program has not been heard yet: it has mapped this, or unmapped it. It looks again until then.
    pmap_->wake(page_at(page));
    return;
  }
  if (entry == nullptr || !entry->managed() || entry->source == Source::device) {
    fault_nowhere(page);
    return;
  }
  if (page == lost_page_) lost_page_ = VirtualAddress();
  if (entry->in_transit) return;
  if (is_displaced(page_at(page))) return;  // plan_done() wakes it
  const std::uint64_t number = page.value() >> hal::kPageShift;
  FaultWindow::Way way;
  if (entry->source == Source::anonymous) {
    way.left_out = page + hal::kPageSize == entry->range.end() ? FaultWindow::kLeftOutAtEnd
                                                               : FaultWindow::kLeftOut;
  } else {
    way.lead = static_cast<std::uint32_t>(entry->page_at(page).value() % FaultWindow::kStart);
    way.growth = 4;
  }
  FaultWindow::Span span = entry->window.grow(number, entry->advice, way);
  if (span.count < FaultWindow::kStart && goes_on(*entry, page)) span = entry->window.go_on(number);
  // First, so that these make the room that the fault may have to wait for.
  leave_behind(*entry, page, span.count);
  if (entry->source == Source::anonymous) {
    fault_private(*entry, page, write, number, span);
  } else {
    FaultWindow::Span wanted = span;
    if (pages_leave() && !entry->object->is_resident(entry->page_at(page))) {
      // A call for which nothing may leave would wait for itself: it goes over the limit.
      const std::uint64_t room = std::max<std::uint64_t>(machine_.memory().room(), keeps_ ? 1 : 0);
      if (room == 0) return machine_.memory().put_off({weak_from_this(), page, write});
      if (room < span.count) wanted = {0, static_cast<std::uint32_t>(
                                              std::min<std::uint64_t>(room, span.count - span.before))};
    }
    switch (entry->object->fault_in(entry->page_at(page), wanted)) {
      case VmObject::FaultIn::waiting:
        read_ahead(*entry, page, span);
        break;
      case VmObject::FaultIn::resident:
      case VmObject::FaultIn::beyond:  // the host has a bus error for it when it looks again
        pmap_->wake(page_at(page));
        break;
    }
  }
}

void VmSpace::read_ahead(MapEntry& entry, VirtualAddress page, FaultWindow::Span window) {
  // What nobody stored yet costs less to make than to keep for somebody.
  if (entry.object->kind() == VmObject::Kind::anonymous) return;
  const std::uint64_t ahead = entry.window.read_ahead();
  if (ahead == 0) return;
  // Not where it would push out what is in use.
  Memory& memory = machine_.memory();
  if (memory.limited() && memory.room() < 4 * ahead) return;
  const std::uint64_t left = (entry.range.end() - page) >> hal::kPageShift;
  const std::uint64_t skipped = window.count - window.before;
  if (left <= skipped) return;
  entry.object->prefetch(
      hal::PageRange(entry.page_at(page) + skipped, std::min(ahead, left - skipped)));
}

bool VmSpace::goes_on(const MapEntry& entry, VirtualAddress page) const {
  constexpr std::uint64_t kPredecessors = 4;
  if (entry.source != Source::anonymous || entry.advice != Advice::normal ||
      ((page - entry.range.start()) >> hal::kPageShift) < kPredecessors) {
    return false;
  }
  const VirtualRange before(page - hal::bytes_from_pages(kPredecessors), page);
  return pmap_->first_mapped(before, kPredecessors) == before;
}

void VmSpace::fault_private(MapEntry& entry, VirtualAddress page, bool write,
                            std::uint64_t number, FaultWindow::Span span) {
  if (pages_leave()) {
    return fault_limited(entry, page, write, number, span.count - span.before);
  }
  const VirtualAddress end = page + hal::bytes_from_pages(span.count - span.before);
  if (span.before != 0) fill_before(entry, page, span.before, !write);
  const VirtualRange wanted = undisplaced(VirtualRange(page, end).intersect(entry.range));
  Pmap::Entered entered = pmap_->enter_zero(wanted, !write);
  entered.pages += fill_ahead(entry, wanted, span.count, entered.pages, !write);
  machine_.counters().zero_fills += entered.pages;
  if (entered.pages != 0) entry.window.ended_at(number + entered.pages);
  if (entered.outcome == Pmap::Outcome::retry) pmap_->wake(page_at(page));
}

// Before the page that a thread waits for, so that it finds them when it goes on; down to what is there
// already: behind that another walk has been.
void VmSpace::fill_before(const MapEntry& entry, VirtualAddress page, std::uint64_t pages,
                          bool shared) {
  const std::uint64_t room = (page - entry.range.start()) >> hal::kPageShift;
  const VirtualRange before(page - hal::bytes_from_pages(std::min(pages, room)), page);
  if (before.empty() || is_displaced(before)) return;
  VirtualAddress from = before.start();
  if (!pmap_->mapped_pages(before, [&](hal::PageRun run) { from = run.range.end(); })) return;
  if (from >= page) return;
  machine_.counters().zero_fills += pmap_->enter_zero(VirtualRange(from, page), shared).pages;
}

std::uint64_t VmSpace::fill_ahead(const MapEntry& entry, VirtualRange filled, std::uint64_t window,
                                  std::uint64_t pages, bool shared) {
  if (window <= FaultWindow::kStart || filled.end() != entry.range.end() ||
      pages != filled.pages() || pages >= window) {
    return 0;
  }
  const MapEntry* next = map_.find(filled.end());
  if (next == nullptr || next->source != Source::anonymous || next->stack || next->in_transit ||
      next->protection != hal::Protection::none()) {
    return 0;
  }
  const VirtualRange ahead(filled.end(), filled.end() + hal::bytes_from_pages(window - pages));
  if (is_displaced(ahead)) return 0;
  return pmap_->enter_zero(ahead.intersect(next->range), shared).pages;
}

void VmSpace::leave_behind(const MapEntry& entry, VirtualAddress page, std::uint64_t window) {
  const bool advised = entry.advice == Advice::sequential;
  if (!advised && (!entry.object || window < kWalk)) return;
  const VirtualRange before(entry.range.start(), page);
  const std::uint64_t bytes = std::min(hal::bytes_from_pages(window), before.bytes());
  if (bytes == 0) return;
  let_go_first(entry, VirtualRange(page - bytes, page));
  if (advised) pmap_->deactivate(VirtualRange(page - bytes, page));
}

MapEntry* VmSpace::grow_stack(MapEntry& gap, VirtualAddress page) {
  const std::uint64_t wanted = gap.range.end() - page;
  const std::uint64_t grown = std::min(
      (wanted + kStackGrowth - 1) / kStackGrowth * kStackGrowth, gap.range.bytes());
  MapEntry* stack = map_.grow_down(gap, gap.range.end() - grown);
  if (stack != nullptr && stack->wired) count_wired(static_cast<std::int64_t>(grown >> hal::kPageShift));
  return stack;
}

bool VmSpace::is_displaced(VirtualRange range) const {
  return undisplaced(range) != range;
}

VirtualRange VmSpace::undisplaced(VirtualRange range) const {
  for (const auto& ranges : {std::cref(displaced_), std::cref(moving_)}) {
    for (VirtualRange displaced : ranges.get()) range = range.before(displaced);
  }
  return range;
}

void VmSpace::begin_move(VirtualRange from, VirtualRange to) { moving_ = {from, to}; }

void VmSpace::end_move() {
  for (VirtualRange range : moving_) pmap_->wake(range);
  moving_.clear();
}

void VmSpace::fault_nowhere(VirtualAddress page) {
  const auto now = std::chrono::steady_clock::now();
  if (page != lost_page_) {
    lost_page_ = page;
    lost_since_ = now;
  }
  if (closed_ || now - lost_since_ < kNowhereGrace) {
    pmap_->wake(page_at(page));
    return;
  }
  spdlog::error("fault at {:#x}: nothing is mapped there, bus error", page.value());
  ++machine_.counters().failed_faults;
  pmap_->fail(page_at(page));
  pmap_->wake(page_at(page));
}

void VmSpace::close() {
  std::map<std::uint64_t, std::shared_ptr<VmObject>> changes;
  {
    const std::lock_guard guard(lock_);
    if (closed_) return;
    closed_ = true;
    changes.swap(changes_);
  }
  // What the program was about to change it may have changed, or not.
  for (const auto& [number, object] : changes) object->abandon_change(number);
  const std::lock_guard guard(lock_);
  for (MapEntry& entry : map_) {
    if (entry.object && entry.tracked()) {
      entry.object->presume_written(entry.pages_of(entry.range));
    }
  }
  map_.erase(VirtualRange(VirtualAddress(0), VirtualAddress(~std::uint64_t{0})));
  machine_.add_wired_pages(-static_cast<std::int64_t>(wired_pages_));
  wired_pages_ = 0;
  withdraw_lock_credit();
  forget_swapped(VirtualRange(VirtualAddress(0), VirtualAddress(~std::uint64_t{0}).page_floor()));
  add_resident(-resident_);
}

std::uint64_t VmSpace::add_change(std::shared_ptr<VmObject> object) {
  constexpr std::size_t kMostChanges = 4096;  // one for every thread of a large program
  static std::atomic<std::uint64_t> last{0};
  const std::lock_guard guard(lock_);
  if (closed_ || changes_.size() >= kMostChanges) return 0;
  const std::uint64_t number = ++last;
  changes_.emplace(number, std::move(object));
  return number;
}

std::shared_ptr<VmObject> VmSpace::take_change(std::uint64_t number) {
  const std::lock_guard guard(lock_);
  const auto node = changes_.extract(number);
  return node ? std::move(node.mapped()) : nullptr;
}

void VmSpace::set_wired(VirtualRange range, bool wired) {
  map_.clip(range);
  map_.for_each_in(range, [&](MapEntry& entry) {
    if (entry.wired == wired || !(entry.managed() || entry.source == Source::host)) return;
    entry.wired = wired;
    const std::int64_t pages = static_cast<std::int64_t>(entry.range.pages());
    count_wired(wired ? pages : -pages);
  });
}

void VmSpace::count_wired(std::int64_t pages) {
  wired_pages_ += static_cast<std::uint64_t>(pages);
  machine_.add_wired_pages(pages);
}

void VmSpace::refresh_host(VirtualRange range) {
  const VirtualRange own = layout_.placement;
  if (own.contains(range)) return;
  if (!own.overlaps(range)) return picture_host(range);
  if (range.start() < own.start()) picture_host(VirtualRange(range.start(), own.start()));
  if (own.end() < range.end()) picture_host(VirtualRange(own.end(), range.end()));
}

void VmSpace::look_again() { picture_host(layout_.bounds); }

void VmSpace::picture_host(VirtualRange range) {
  if (range.empty()) return;
  std::vector<hal::HostMapping> mappings;
  try {
    mappings = pmap_->host_mappings(range);
  } catch (const std::system_error& error) {
    // The program has ended, in the middle of its call: nothing is left to be pictured. A call that
    // goes on after a wait has nobody above it who would catch this.
    if (error.code().value() != ESRCH) throw;
    return;
  }
  // What is wired of the host's stays so for as long as it is mapped, and is counted once.
  std::vector<VirtualRange> wired;
  map_.for_each_in(range, [&](MapEntry& entry) {
    if (entry.source == Source::host && entry.wired) wired.push_back(entry.range);
  });
  for (VirtualRange part : wired) set_wired(part, false);
  map_.set_host(range, mappings);
  for (VirtualRange part : wired) set_wired(part, true);
}

bool VmSpace::may_map(VirtualRange range) const {
  return layout_.bounds.contains(range) && !range.overlaps(layout_.nameplate);
}

void VmSpace::remove(VirtualRange range, hal::Plan& plan) {
  take_out(range, [&](VirtualRange run) { plan.add(Step::Kind::give_back, run); });
}

void VmSpace::take_out(VirtualRange range, const std::function<void(VirtualRange)>& visit,
                       bool by_program) {
  if (range.empty()) return;
  // With the lowest part of a stack goes what it could have grown into.
  if (const MapEntry* lowest = map_.find(range.start());
      lowest != nullptr && lowest->stack && lowest->range.start() == range.start()) {
    const MapEntry* gap = map_.find(range.start() - hal::kPageSize);
    if (gap != nullptr && gap->source == Source::gap) {
      range = VirtualRange(gap->range.start(), range.end());
    }
  }
  map_.clip(range);
  set_wired(range, false);
  VirtualRange run;
  map_.for_each_in(range, [&](MapEntry& entry) {
    if (!run.empty() && run.end() != entry.range.start()) {
      visit(run);
      run = VirtualRange();
    }
    run = hull(run, entry.range);
    if (entry.object && entry.shared()) displaced_.push_back(entry.range);
  });
  if (!run.empty()) visit(run);
  if (removed_.empty() || removed_.back().range != range || removed_.back().by_program != by_program) {
    removed_.push_back({range, by_program});
  }
  map_.erase(range);
}

void VmSpace::report(SpaceReport& report) {
  const std::lock_guard guard(lock_);
  report.faults = faults_;
  report.personality = machine_.personality().name;
  report.bytes = map_.managed_bytes();
  report.entries = 0;
  report.resident_pages = 0;
  report.memory_pages = counted_pages();
  report.swapped_pages = swapped_.count();
  report.limit_pages = limit_;
  for (MapEntry& entry : map_) {
    if (!entry.managed()) continue;
    ++report.entries;
    pmap_->mapped_pages(entry.range,
                        [&](hal::PageRun run) { report.resident_pages += run.range.pages(); });
  }
}

std::uint64_t VmSpace::private_pages() {
  std::uint64_t pages = 0;
  const std::lock_guard guard(lock_);
  for (MapEntry& entry : map_) {
    if (entry.source != Source::anonymous) continue;
    pmap_->mapped_pages(entry.range, [&](hal::PageRun run) { pages += run.range.pages(); });
  }
  return pages;
}

std::vector<EntryReport> VmSpace::entries() {
  std::vector<EntryReport> result;
  const std::lock_guard guard(lock_);
  try {
    refresh_host(layout_.bounds);
  } catch (const std::system_error& error) {
    spdlog::debug("host mappings for a report: {}", error.what());
  }
  for (MapEntry& entry : map_) {
    EntryReport report;
    report.range = entry.range;
    report.protection = entry.protection;
    report.maximum = entry.maximum;
    report.offset = entry.page.byte_offset();
    report.path = entry.path;
    switch (entry.source) {
      case Source::anonymous:
        report.type = "anonymous";
        break;
      case Source::host:
        report.type = "host";
        break;
      case Source::device:
        report.type = "device";
        break;
      case Source::gap:
        report.type = "gap";
        break;
      case Source::lease:
        report.type = "lease";
        break;
      case Source::guard:
        report.type = "guard";
        break;
      case Source::object:
        report.type = entry.object->kind() == VmObject::Kind::anonymous ? "shared"
                      : entry.object->kind() == VmObject::Kind::file    ? "file"
                                                                        : "device";
        report.path = entry.object->attributes().path;
        break;
    }
    const bool shared = entry.sharing != hal::Sharing::copy_on_write;
    report.flags.emplace_back(shared ? "shared" : "cow");
    if (entry.no_sync) report.flags.emplace_back("nosync");
    if (entry.no_core) report.flags.emplace_back("nocore");
    if (entry.wired) report.flags.emplace_back("wired");
    if (entry.stack) report.flags.emplace_back("stack");
    if (entry.inherit == Inherit::none) report.flags.emplace_back("inherit-none");
    if (entry.inherit == Inherit::zero) report.flags.emplace_back("inherit-zero");
    pmap_->mapped_pages(entry.range,
                        [&](hal::PageRun run) { report.resident_pages += run.range.pages(); });
    result.push_back(std::move(report));
  }
  return result;
}

}  // namespace vm
