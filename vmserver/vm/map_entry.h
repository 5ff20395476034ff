// MapEntry: one range of an address space that is alike throughout: same source, protection,
// maximum, inheritance and advice.
//
// An entry belongs to one VmMap, and, where it shows pages of an object, also stands in that
// object's list of mappings, through which the object finds the programs to wake or to ask what
// they wrote.
#pragma once

#include <memory>
#include <string>

#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>

#include "hal/address.h"
#include "hal/plan.h"
#include "hal/protection.h"
#include "vmserver/vm/call_types.h"
#include "vmserver/vm/fault_window.h"
#include "vmserver/vm/swap_window.h"

namespace vm {

class VmObject;
class VmSpace;

struct ByAddress;
struct ByObject;

using MapHook = boost::intrusive::set_base_hook<boost::intrusive::tag<ByAddress>>;
using ObjectHook = boost::intrusive::list_base_hook<boost::intrusive::tag<ByObject>>;

enum class Source : std::uint8_t {
  anonymous,  ///< private memory of this program
  object,     ///< pages of a VmObject
  device,     ///< memory of a host device, mapped by the program itself
  gap,        ///< not there yet: what the stack right above it may grow into
  guard,      ///< kept free: nothing is there, and nothing is put there unasked
  lease,      ///< kept free for the program, which maps private memory there by itself
  host        ///< not managed: what the host has mapped there
};

struct MapEntry : MapHook, ObjectHook {
  // Which of these locks protects a field: S the space's, O the object's. A field with both is
  // written under both and may be read under either.
  hal::VirtualRange range;                     // S O
  hal::PageIndex page;                         // S O  the object's page at range.start()
  VmSpace* space = nullptr;                    // immutable while in a map
  std::shared_ptr<VmObject> object;            // immutable while in a map
  Source source = Source::anonymous;           // immutable while in a map
  hal::Sharing sharing = hal::Sharing::copy_on_write;  // S O
  hal::Protection protection;                  // S
  hal::Protection maximum;                     // S
  hal::Inherit inherit = hal::Inherit::copy;   // S
  Advice advice = Advice::normal;              // S
  bool no_sync = false;                        // S
  bool no_core = false;                        // S
  bool wired = false;                          // S
  bool stack = false;                          // S
  /// The pages are on their way elsewhere (minherit): faults wait until the entry has changed.
  bool in_transit = false;                     // S
  /// What a child forked next gets a copy of, where that is not this entry's own pages.
  std::shared_ptr<VmObject> snapshot;          // S
  hal::PageIndex snapshot_page;                // S  at range.start()
  FaultWindow window;                          // S
  SwapWindow swap_window;                      // S
  std::string path;                            // S  of host and device entries

  hal::PageIndex page_at(hal::VirtualAddress address) const {
    return page + ((address - range.start()) >> hal::kPageShift);
  }
  /// Where `pages` of the object are seen through this entry; empty when not at all.
  hal::VirtualRange range_of(hal::PageRange pages) const {
    const hal::PageRange seen = pages.intersect(hal::PageRange(page, range.pages()));
    if (seen.empty()) return {};
    const hal::VirtualAddress start = range.start() + hal::bytes_from_pages(seen.first() - page);
    return {start, start + seen.bytes()};
  }
  hal::PageRange pages_of(hal::VirtualRange part) const {
    const hal::VirtualRange seen = range.intersect(part);
    return {page_at(seen.start()), seen.pages()};
  }
  /// Whether programs have something there.
  bool present() const { return source != Source::gap && source != Source::lease; }
  /// Whether calls can change what is there; of the host's memory they change it at the host.
  bool managed() const {
    return source != Source::host && source != Source::gap && source != Source::guard &&
           source != Source::lease;
  }
  /// Whether stores are seen by others.
  bool shared() const { return sharing != hal::Sharing::copy_on_write; }
  /// Whether a child gets a copy of what is shared: the host cannot do that.
  bool copied_by_server() const {
    return source == Source::object && inherit == hal::Inherit::copy && shared() &&
           sharing != hal::Sharing::shared_read_only;
  }
  bool tracked() const { return sharing == hal::Sharing::shared_tracked; }

  /// An entry for another range that is as this one, in no map yet. It is not wired: whoever has the
  /// pages of both wired says so and counts them.
  std::unique_ptr<MapEntry> alike(hal::VirtualRange where, hal::PageIndex first_page) const {
    auto copy = std::make_unique<MapEntry>();
    copy->range = where;
    copy->page = first_page;
    copy->space = space;
    copy->object = object;
    copy->source = source;
    copy->sharing = sharing;
    copy->protection = protection;
    copy->maximum = maximum;
    copy->inherit = inherit;
    copy->advice = advice;
    copy->no_sync = no_sync;
    copy->no_core = no_core;
    copy->stack = stack;
    copy->path = path;
    return copy;
  }

  /// Whether the two could be one entry, were they neighbours.
  bool like(const MapEntry& other) const {
    return source == other.source && object == other.object && sharing == other.sharing &&
           protection == other.protection && maximum == other.maximum &&
           inherit == other.inherit && advice == other.advice && no_sync == other.no_sync &&
           no_core == other.no_core && wired == other.wired && stack == other.stack &&
           !in_transit && !other.in_transit && !snapshot && !other.snapshot;
  }
};

struct MapEntryStart {
  using type = hal::VirtualAddress;
  type operator()(const MapEntry& entry) const { return entry.range.start(); }
};

}  // namespace vm
