#include "vmserver/vm/pageout.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include <pthread.h>
#include <spdlog/spdlog.h>

#include "vmserver/vm/vm_object.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

namespace {

// How often is looked what programs, and the host for them, did by themselves.
constexpr std::chrono::milliseconds kRecountPeriod{500};
// The same while memory is short, of those programs for which the host makes pages unasked. And so
// many times as long as it takes, at least.
constexpr std::chrono::milliseconds kShortRecountPeriod{10};
constexpr int kRecountPause = 10;
constexpr std::chrono::milliseconds kIdlePeriod{100};
// After so long without a page becoming free, somebody has to go.
constexpr std::chrono::seconds kStuck{5};
// And so long a disk may take before it counts as one that never answers.
constexpr std::chrono::seconds kSlow{60};
// Pages on their way to the pager at a time: enough for a disk to be busy, and not so much that what
// is asked for waits long behind it.
constexpr std::uint64_t kMostLaundering = 4096;
// Orders to programs in one pass.
constexpr unsigned kMostOrders = 16;

}  // namespace

PageoutDaemon::PageoutDaemon(Machine& machine, std::function<Clock::time_point()> now)
    : machine_(machine), now_(std::move(now)) {}

PageoutDaemon::~PageoutDaemon() { stop(); }

void PageoutDaemon::start() {
  if (!machine_.memory().limited()) return;
  machine_.memory().use_daemon([this] { kick(); });
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "vm-pageout");
    run();
  });
}

void PageoutDaemon::stop() {
  {
    const std::lock_guard guard(lock_);
    ending_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void PageoutDaemon::kick() {
  const std::lock_guard guard(lock_);
  if (std::exchange(kicked_, true)) return;
  wake_.notify_all();
}

void PageoutDaemon::run() {
  std::unique_lock guard(lock_);
  while (!ending_) {
    wake_.wait_for(guard, kIdlePeriod, [this] { return kicked_ || ending_; });
    kicked_ = false;
    if (ending_) return;
    guard.unlock();
    pass();
    guard.lock();
  }
}

bool PageoutDaemon::pass() {
  const Clock::time_point now = now_();
  Memory& memory = machine_.memory();
  SwapSpace& swap = machine_.swap();
  const bool is_short = memory.free() < memory.free_min();
  const auto is_due = [now](const Recount& last, std::chrono::milliseconds period) {
    return now - last.at >= std::max<Clock::duration>(period, kRecountPause * last.took);
  };
  if (is_due(recount_, kRecountPeriod)) {
    recount(true, recount_);
  } else if (is_short && is_due(short_recount_, kShortRecountPeriod)) {
    recount(false, short_recount_);
  }
  bool moving = shrink_to_limits();
  moving = try_again() || moving;
  const std::uint64_t free = memory.free();
  if (free >= memory.free_min()) {
    swap.flush_discards();
    moved_ = now;
    return moving;
  }
  std::uint64_t shortage = memory.free_target() - free;
  const std::uint64_t dropped = swap.reclaim(shortage) + take_from_objects(shortage);
  moving = moving || dropped != 0;
  shortage -= std::min(shortage, dropped);

  SwapSpace::Figures figures = swap.figures();
  if (shortage > figures.laundering && figures.laundering < kMostLaundering) {
    const std::uint64_t begun =
        swap.launder(std::min(shortage - figures.laundering, kMostLaundering - figures.laundering));
    moving = moving || begun != 0;
  }
  // As much again stays inactive: time for a second chance. But while files give what is needed,
  // programs keep their own.
  const std::uint64_t inactive = figures.filled + figures.laundering;
  if (shortage != 0 && inactive < shortage + memory.free_target()) {
    moving = take_from_programs(shortage + memory.free_target() - inactive) != 0 || moving;
  }
  if (try_again()) moving = true;
  look_whether_stuck(now);
  return moving;
}

// What was put off is tried again once there is something to give. Returns whether anything was.
bool PageoutDaemon::try_again() {
  Memory& memory = machine_.memory();
  if (!memory.anybody_waits() || memory.free() == 0) return false;
  bool any = false;
  for (const Memory::PutOff& fault : memory.take_put_off()) {
    const auto space = fault.space.lock();
    if (!space) continue;
    if (!space->has_room()) {
      memory.put_off_again(fault);
      continue;
    }
    space->fault_again(fault.page, fault.write);
    any = true;
  }
  return any;
}

// Programs that have a limit of their own.
bool PageoutDaemon::shrink_to_limits() {
  bool any = false;
  for (const auto& space : machine_.spaces()) {
    if (space->shall_shrink() && space->start_leaving()) any = true;
  }
  return any;
}

void PageoutDaemon::recount(bool all, Recount& count) {
  const Clock::time_point begun = now_();
  for (const auto& object : machine_.objects().all()) object->recount();
  for (const auto& space : machine_.spaces()) {
    if (all || space->grows_unasked()) space->recount();
  }
  count = {begun, now_() - begun};
}

std::uint64_t PageoutDaemon::take_from_programs(std::uint64_t most) {
  std::vector<std::shared_ptr<VmSpace>> spaces = machine_.spaces();
  std::uint64_t asked = 0;
  for (const auto& space : spaces) {
    if (asked < most && space->has_more_than_its_share() &&
        (space->start_leaving() || space->is_giving())) {
      asked += hal::Pmap::kMostLeaving;
    }
  }
  // Others keep what they have for as long as these give.
  if (asked != 0) return asked;
  std::size_t refused = 0;
  for (unsigned orders = 0; orders < kMostOrders && asked < most && refused < spaces.size();) {
    if (spaces[next_space_++ % spaces.size()]->start_leaving()) {
      asked += hal::Pmap::kMostLeaving;
      ++orders;
      refused = 0;
    } else {
      ++refused;
    }
  }
  return asked;
}

std::uint64_t PageoutDaemon::take_from_objects(std::uint64_t most) {
  const auto objects = machine_.objects().all();
  std::uint64_t dropped = 0;
  for (const auto& object : objects) {
    if (dropped < most) dropped += object->drop_used_up(most - dropped);
  }
  // Once more around, if all that there is was left alone for once.
  for (std::size_t i = 0; i < 2 * objects.size() && dropped < most; ++i) {
    if (i >= objects.size() && dropped != 0) break;
    dropped += objects[next_object_++ % objects.size()]->page_out(most - dropped);
  }
  return dropped;
}

void PageoutDaemon::look_whether_stuck(Clock::time_point now) {
  // What leaves programs is progress for as long as the pager takes it.
  const Counters& counters = machine_.counters();
  std::uint64_t progress = machine_.memory().granted();
  if (!machine_.swap().stuck()) progress += counters.pageouts + counters.deactivated;
  if (!machine_.memory().anybody_waits() || progress != progress_) {
    progress_ = progress;
    moved_ = now;
    return;
  }
  if (now - moved_ < (machine_.memory().is_paging_out() ? kSlow : kStuck)) return;
  moved_ = now;
  kill_largest();
}

void PageoutDaemon::kill_largest() {
  std::shared_ptr<VmSpace> largest;
  std::uint64_t most = 0;
  for (const auto& space : machine_.spaces()) {
    const std::uint64_t pages = space->counted_pages() + space->swapped_pages();
    if (pages <= most || space->spared()) continue;
    most = pages;
    largest = space;
  }
  if (!largest) {
    spdlog::error("memory is short, nothing can be paged out, and every program is protected");
    return;
  }
  const SwapSpace::Figures figures = machine_.swap().figures();
  spdlog::error(
      "{} was killed: out of swap; it had {} pages in memory and {} in swap. Of {} pages {} are in "
      "use; {} wait to be written to swap, {} are there{}",
      largest->pmap().describe(), largest->counted_pages(), largest->swapped_pages(),
      machine_.memory().limit(), machine_.memory().used(), figures.filled, figures.away,
      machine_.swap().stuck() ? "; the pager takes no more" : "");
  largest->pmap().kill();
}

}  // namespace vm
