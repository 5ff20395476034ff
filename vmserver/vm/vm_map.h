// VmMap: the entries of one address space, ordered by address.
//
// Two kinds of entries: what the server manages, of which the map is the truth; and Source::host, a
// picture of what the host has mapped by itself, taken anew whenever a call touches such a range
// (set_host).
//
// Where a program does not say where, a mapping goes into `placement`, a part of the address space
// that the host does not choose by itself. What no entry covers there is taken for free, and claimed
// before it is used.
//
// A VmMap is a data structure only: it does no page-table work. All functions need the lock of the
// space that owns it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "hal/address.h"
#include "hal/pmap.h"
#include "vmserver/vm/map_entry.h"

namespace vm {

class VmMap {
 public:
  using Set = boost::intrusive::set<MapEntry, boost::intrusive::base_hook<MapHook>,
                                    boost::intrusive::key_of_value<MapEntryStart>>;
  using iterator = Set::iterator;

  /// `bounds`: lowest and highest address a program may map. `placement`: where to look for room.
  VmMap(hal::VirtualRange bounds, hal::VirtualRange placement)
      : bounds_(bounds), placement_(placement), first_free_(placement.start()) {}
  ~VmMap();
  VmMap(const VmMap&) = delete;
  VmMap& operator=(const VmMap&) = delete;

  hal::VirtualRange bounds() const { return bounds_; }
  hal::VirtualRange placement() const { return placement_; }

  std::size_t entry_count() const { return entries_.size(); }
  /// Without the picture of the host's.
  std::size_t managed_entries() const { return entries_.size() - host_entries_; }
  /// Bytes of all managed entries.
  std::uint64_t managed_bytes() const { return managed_bytes_; }

  iterator begin() { return entries_.begin(); }
  iterator end() { return entries_.end(); }
  /// The entry that contains the address, or nullptr.
  MapEntry* find(hal::VirtualAddress address);
  /// The first entry that overlaps the range or lies behind it.
  iterator first_in(hal::VirtualRange range);
  /// Calls `visit` for every entry that overlaps the range, by address. `visit` must not change
  /// which entries there are.
  void for_each_in(hal::VirtualRange range, const std::function<void(MapEntry&)>& visit);
  /// Whether entries cover the range without a hole. What a stack has not grown into is one.
  bool covers(hal::VirtualRange range);
  /// Whether nothing is in the range.
  bool is_free(hal::VirtualRange range);

  /// Cuts entries at both ends of the range, so that each lies inside or outside.
  void clip(hal::VirtualRange range);
  /// Puts an entry into a free range. Joins an object's list of mappings.
  MapEntry& insert(std::unique_ptr<MapEntry> entry);
  /// Takes out everything in the range; entries across its ends are cut.
  void erase(hal::VirtualRange range);
  /// Joins neighbours that became alike in and around the range: private memory, and mappings of
  /// one object that show neighbouring pages.
  void simplify(hal::VirtualRange range);
  /// Makes the picture of the host's mappings in `range` anew. Managed entries stay.
  void set_host(hal::VirtualRange range, const std::vector<hal::HostMapping>& mappings);

  /// Moves the border between a gap and the stack above it down to `start`, which lies in the gap.
  /// Returns the stack, or nullptr when there is none (any more). The gap may be gone afterwards.
  MapEntry* grow_down(MapEntry& gap, hal::VirtualAddress start);

  /// Free room of `bytes` bytes on a boundary of 2^`alignment` (0: of a page), at `hint` or above it
  /// if there is such, or else anywhere in the place where the server puts mappings. Nothing when
  /// there is none.
  std::optional<hal::VirtualRange> find_space(std::uint64_t bytes, hal::VirtualAddress hint,
                                              unsigned alignment = 0);
  /// The same, the first in `within`.
  std::optional<hal::VirtualRange> find_space_in(hal::VirtualRange within, std::uint64_t bytes,
                                                 unsigned alignment);

 private:
  void clip_at(hal::VirtualAddress address);
  void remove(iterator position);

  const hal::VirtualRange bounds_;
  const hal::VirtualRange placement_;
  Set entries_;
  std::size_t host_entries_ = 0;
  std::uint64_t managed_bytes_ = 0;
  hal::VirtualAddress first_free_;  // no room below it in placement_
};

}  // namespace vm
