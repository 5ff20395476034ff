#include "vmserver/vm/vm_map.h"

#include "vmserver/vm/vm_object.h"

namespace vm {

using hal::VirtualAddress;
using hal::VirtualRange;

VmMap::~VmMap() { erase(VirtualRange(VirtualAddress(0), VirtualAddress(~std::uint64_t{0}))); }

VmMap::iterator VmMap::first_in(VirtualRange range) {
  iterator it = entries_.upper_bound(range.start());
  if (it != entries_.begin()) {
    iterator before = std::prev(it);
    if (before->range.end() > range.start()) return before;
  }
  return it;
}

MapEntry* VmMap::find(VirtualAddress address) {
  iterator it = entries_.upper_bound(address);
  if (it == entries_.begin()) return nullptr;
  --it;
  return it->range.contains(address) ? &*it : nullptr;
}

void VmMap::for_each_in(VirtualRange range, const std::function<void(MapEntry&)>& visit) {
  if (range.empty()) return;
  for (iterator it = first_in(range); it != entries_.end() && it->range.start() < range.end();
       ++it) {
    visit(*it);
  }
}

bool VmMap::covers(VirtualRange range) {
  VirtualAddress reached = range.start();
  for (iterator it = first_in(range); reached < range.end(); ++it) {
    if (it == entries_.end() || it->range.start() > reached || !it->present()) return false;
    reached = it->range.end();
  }
  return true;
}

bool VmMap::is_free(VirtualRange range) {
  if (range.empty()) return true;
  iterator it = first_in(range);
  return it == entries_.end() || it->range.start() >= range.end();
}

void VmMap::clip_at(VirtualAddress address) {
  MapEntry* entry = find(address);
  if (entry == nullptr || entry->range.start() == address) return;
  auto upper = entry->alike(VirtualRange(address, entry->range.end()), entry->page_at(address));
  upper->wired = entry->wired;
  upper->snapshot = entry->snapshot;
  upper->snapshot_page = entry->snapshot_page + ((address - entry->range.start()) >> hal::kPageShift);
  const VirtualRange lower(entry->range.start(), address);
  if (entry->object) {
    entry->object->split_mapping(*entry, lower, *upper);
  } else {
    entry->range = lower;
  }
  if (entry->source == Source::host) ++host_entries_;
  entries_.insert(*upper.release());
}

void VmMap::clip(VirtualRange range) {
  if (range.empty()) return;
  clip_at(range.start());
  clip_at(range.end());
}

MapEntry& VmMap::insert(std::unique_ptr<MapEntry> entry) {
  MapEntry& inserted = *entry.release();
  entries_.insert(inserted);
  if (inserted.source == Source::host) ++host_entries_;
  if (inserted.managed()) managed_bytes_ += inserted.range.bytes();
  if (inserted.object) inserted.object->add_mapping(inserted);
  if (inserted.range.start() <= first_free_ && first_free_ < inserted.range.end()) {
    first_free_ = inserted.range.end();
  }
  return inserted;
}

void VmMap::remove(iterator position) {
  MapEntry* entry = &*position;
  entries_.erase(position);
  if (entry->source == Source::host) --host_entries_;
  if (entry->managed()) managed_bytes_ -= entry->range.bytes();
  if (placement_.overlaps(entry->range)) {
    first_free_ = std::min(first_free_, std::max(placement_.start(), entry->range.start()));
  }
  if (entry->object) entry->object->remove_mapping(*entry);
  delete entry;
}

void VmMap::erase(VirtualRange range) {
  if (range.empty()) return;
  clip(range);
  iterator it = first_in(range);
  while (it != entries_.end() && it->range.start() < range.end()) {
    iterator victim = it++;
    remove(victim);
  }
}

void VmMap::simplify(VirtualRange range) {
  iterator it = first_in(range);
  if (it != entries_.begin()) --it;
  while (it != entries_.end() && it->range.start() <= range.end()) {
    iterator next = std::next(it);
    if (next == entries_.end()) break;
    const bool continues =
        it->source == Source::anonymous ||
        (it->source == Source::object && it->page_at(next->range.start()) == next->page);
    if (continues && it->range.end() == next->range.start() && it->like(*next)) {
      MapEntry* gone = &*next;
      entries_.erase(next);
      if (it->object) {
        it->object->join_mappings(*it, *gone);
      } else {
        it->range = VirtualRange(it->range.start(), gone->range.end());
      }
      delete gone;
    } else {
      it = next;
    }
  }
}

void VmMap::set_host(VirtualRange range, const std::vector<hal::HostMapping>& mappings) {
  if (range.empty()) return;
  for (iterator it = first_in(range); it != entries_.end() && it->range.start() < range.end();) {
    iterator candidate = it++;
    if (candidate->source == Source::host) remove(candidate);
  }
  for (const hal::HostMapping& mapping : mappings) {
    // The parts of the mapping that no managed entry covers.
    VirtualAddress from = mapping.range.start();
    while (from < mapping.range.end()) {
      const VirtualRange rest(from, mapping.range.end());
      iterator it = first_in(rest);
      if (it != entries_.end() && it->range.contains(from)) {
        from = it->range.end();
        continue;
      }
      const VirtualAddress to = it == entries_.end()
                                    ? rest.end()
                                    : std::min(rest.end(), it->range.start());
      auto entry = std::make_unique<MapEntry>();
      entry->source = Source::host;
      entry->range = VirtualRange(from, to);
      entry->page = hal::PageIndex((mapping.offset + (from - mapping.range.start())) >>
                                   hal::kPageShift);
      entry->protection = mapping.protection;
      entry->maximum = hal::Protection::all();
      entry->sharing = mapping.shared ? hal::Sharing::shared : hal::Sharing::copy_on_write;
      entry->path = mapping.path;
      insert(std::move(entry));
      from = to;
    }
  }
}

MapEntry* VmMap::grow_down(MapEntry& gap, VirtualAddress start) {
  MapEntry* stack = find(gap.range.end());
  if (stack == nullptr || !stack->stack || stack->range.start() != gap.range.end()) return nullptr;
  const VirtualRange grown(start, stack->range.end());
  managed_bytes_ += stack->range.start() - start;
  if (gap.range.start() == start) {
    entries_.erase(entries_.iterator_to(gap));
    delete &gap;
  } else {
    gap.range = VirtualRange(gap.range.start(), start);
  }
  // The order of the entries stays as it is.
  stack->range = grown;
  return stack;
}

std::optional<VirtualRange> VmMap::find_space_in(VirtualRange within, std::uint64_t bytes,
                                                 unsigned alignment) {
  const std::uint64_t mask =
      alignment <= hal::kPageShift ? 0 : (std::uint64_t{1} << alignment) - 1;
  VirtualAddress candidate = within.start();
  for (iterator it = first_in(within);; ++it) {
    const VirtualAddress limit =
        it == entries_.end() ? within.end() : std::min(within.end(), it->range.start());
    const VirtualAddress aligned((candidate.value() + mask) & ~mask);
    if (candidate <= aligned && aligned < limit && limit - aligned >= bytes) {
      return VirtualRange(aligned, aligned + bytes);
    }
    if (it == entries_.end() || it->range.start() >= within.end()) return std::nullopt;
    candidate = std::max(candidate, it->range.end());
  }
}

std::optional<VirtualRange> VmMap::find_space(std::uint64_t bytes, VirtualAddress hint,
                                              unsigned alignment) {
  if (bytes == 0 || bytes > placement_.bytes()) return std::nullopt;
  const auto from = [&](VirtualAddress start) {
    return find_space_in(VirtualRange(start, placement_.end()), bytes, alignment);
  };
  if (hint > first_free_ && placement_.contains(hint)) {
    if (auto found = from(hint)) return found;
  }
  return from(first_free_);
}

}  // namespace vm
