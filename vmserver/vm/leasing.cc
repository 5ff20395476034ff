// What a program maps and unmaps by itself: see "Calls without a round trip" in docs/architecture.md.
#include <algorithm>
#include <system_error>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "vmserver/vm/machine.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

constexpr std::uint64_t kLeaseBytes = std::uint64_t{32} << 20;
constexpr std::uint64_t kLockCredit = 64;  // pages

}  // namespace

VirtualRange VmSpace::lease() {
  const std::lock_guard guard(lock_);
  return lease_;
}

// Where memory is limited each page has to be asked for, and what is to be wired is wired by a call.
// Each page of a lease may become an entry.
void VmSpace::offer_lease() {
  const MachineOptions& options = machine_.options();
  const bool few_entries =
      options.max_entries != 0 &&
      map_.managed_entries() + hal::pages_for_bytes(kLeaseBytes) > options.max_entries;
  if (pages_leave() || options.policy != nullptr || wire_future_ != WireFuture::no || few_entries ||
      lease_.bytes() >= protocol::kMostLeasedBytes) {
    return;
  }
  end_lease();
  const auto found = map_.find_space(kLeaseBytes, VirtualAddress(0), 0);
  if (!found) return;
  keep_for_lease(*found);
  lease_ = *found;
}

void VmSpace::keep_for_lease(VirtualRange range) {
  auto entry = std::make_unique<MapEntry>();
  entry->range = range;
  entry->space = this;
  entry->source = Source::lease;
  map_.insert(std::move(entry));
}

void VmSpace::end_lease() {
  map_.erase(lease_);
  lease_ = VirtualRange();
}

bool VmSpace::take_from_lease(VirtualRange range) {
  if (range.empty() || range.start() != lease_.start() || range.end() > lease_.end()) return false;
  map_.erase(range);
  lease_ = VirtualRange(range.end(), lease_.end());
  return true;
}

void VmSpace::return_to_lease(VirtualRange range) {
  if (lease_.end() == VirtualAddress(0) || range.end() != lease_.start()) return;
  map_.erase(lease_);
  lease_ = VirtualRange(range.start(), lease_.end());
  keep_for_lease(lease_);
}

std::uint64_t VmSpace::lock_credit() {
  const std::lock_guard guard(lock_);
  return lock_credit_;
}

// Where pages leave, what is to stay is for the pageout daemon to know at once.
void VmSpace::offer_lock_credit(std::uint64_t limit) {
  if (closed_ || pages_leave() || machine_.options().policy != nullptr) return;
  withdraw_lock_credit();
  if (limit < wired_pages_ || limit - wired_pages_ < kLockCredit) return;
  if (machine_.promise_pages(kLockCredit)) lock_credit_ = kLockCredit;
}

void VmSpace::withdraw_lock_credit() {
  machine_.withdraw_pages(std::exchange(lock_credit_, 0));
}

bool VmSpace::spend_lock_credit(std::uint64_t pages) {
  if (pages > lock_credit_) return false;
  lock_credit_ -= pages;
  machine_.withdraw_pages(pages);
  return true;
}

// Faults of what the parent has mapped there already can come before the child is heard of.
void VmSpace::inherit_lease(VmSpace& child) {
  child.inherited_lease_ = lease_.empty() ? inherited_lease_ : lease_;
  if (lease_.empty()) return;
  child.presume_memory(lease_);
}

void VmSpace::settle_lease(bool unheard) {
  const std::lock_guard guard(lock_);
  const VirtualRange range = std::exchange(inherited_lease_, VirtualRange());
  if (std::exchange(newer_, false) || unheard) {
    follow_host();
  } else if (!range.empty()) {
    map_.erase(range);
  }
}

// What is to be rebuilt is not there yet; of stacks a program does nothing by itself.
void VmSpace::follow_host() {
  std::vector<hal::HostMapping> mappings;
  try {
    mappings = pmap_->host_mappings(layout_.bounds);
  } catch (const std::system_error& error) {
    spdlog::warn("what a child has of its parent's memory: {}", error.what());
    return;  // nothing else is put there
  }
  const auto may_differ = [&](const MapEntry& entry) {
    return entry.source == Source::anonymous && !entry.stack &&
           std::none_of(rebuilt_.begin(), rebuilt_.end(),
                        [&](VirtualRange rebuilt) { return rebuilt.overlaps(entry.range); });
  };
  VirtualAddress reached = layout_.bounds.start();
  const auto nothing_up_to = [&](VirtualAddress end) {
    if (end <= reached) return;
    const VirtualRange hole(reached, end);
    std::vector<VirtualRange> gone;
    map_.for_each_in(hole, [&](MapEntry& entry) {
      if (may_differ(entry)) gone.push_back(entry.range.intersect(hole));
    });
    for (VirtualRange range : gone) {
      forget_swapped(range);
      map_.erase(range);
    }
  };
  for (const hal::HostMapping& mapping : mappings) {
    nothing_up_to(mapping.range.start());
    reached = std::max(reached, mapping.range.end());
    std::vector<VirtualRange> changed;
    map_.for_each_in(mapping.range, [&](MapEntry& entry) {
      if (entry.protection == mapping.protection || !may_differ(entry)) return;
      changed.push_back(entry.range.intersect(mapping.range));
    });
    for (VirtualRange range : changed) {
      map_.clip(range);
      map_.find(range.start())->protection = mapping.protection;
      map_.simplify(range);
    }
  }
  nothing_up_to(layout_.bounds.end());
}

}  // namespace vm
