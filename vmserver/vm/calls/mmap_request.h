// MmapRequest: one mmap on its way: its arguments by meaning, what its rules find wrong with them,
// and what is decided about it until it is in the map.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "hal/address.h"
#include "vmserver/vm/call.h"
#include "vmserver/vm/vm_object.h"
#include "vmserver/vm/vm_space.h"

namespace vm::calls {

class MmapRequest {
 public:
  MmapRequest(VmSpace& where, Call& what);

  /// Ends the call when one of the rules applies.
  bool end_call(Rules rules);

  /// The address that was asked for, or, where that is nothing or in the way of the heap, the first
  /// one behind the heap.
  hal::VirtualAddress hint() const;
  /// A device as the seed has them: one of the host's, or what a pager claims as its own.
  bool device() const;
  /// Takes from the file what is left to say about the mapping, once all checks have passed.
  void settle_source();

  VmSpace& space;
  Call& call;
  const Personality::Mmap& rules;
  MapFlags flags;
  hal::Protection protection;
  hal::Protection maximum = hal::Protection::all();
  hal::VirtualAddress address;    // page-aligned where it has to be
  std::uint64_t bytes = 0;        // whole pages
  std::uint64_t page_offset = 0;  // of the byte that was asked for, in its page
  hal::PageIndex page;            // into the object
  std::shared_ptr<VmObject> object;
  bool host_device = false;
  hal::VirtualRange range;  // where it goes, once that is known
  std::uint64_t room_below = 0;  ///< bytes that a stack may grow into below `range`

 private:
  bool holds(Check check) const;
  bool holds_of_file(Check check) const;
  hal::Protection maximum_of_file() const;
  bool over_address_space_limit() const;
  bool anonymous_device() const;
  bool claimed_by_pager() const;
  bool to_a_file() const { return !flags.anonymous && !flags.guard; }

  ProtectionArgument protection_argument_;
  bool asked_anonymous_ = false;
  std::uint64_t length_ = 0;
  std::uint64_t position_ = 0;
  int descriptor_ = -1;
};

}  // namespace vm::calls
