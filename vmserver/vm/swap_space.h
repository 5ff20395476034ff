// SwapSpace: where pages are that left the programs, one for the whole machine.
//
// It is one anonymous object: a Backing, and a PagedObject at the anonymous pager. Its pages are
// called slots here, and whoever has something in a slot holds it; after a fork several do. A slot's
// content never changes while it is held.
//
//   filled      in the Backing alone. Whoever wants the page back has it without any I/O: this is
//               the inactive queue, and a page that comes back from it gets its second chance.
//   laundered   given to the pager, in clusters, oldest first
//   clean       with the pager and in the Backing
//   away        with the pager alone
//
// Freed slots that the pager knows are given back to it in batches (PagedObject::discard), and are
// not used again before.
//
// Locks: lock_ comes after a space's and an object's. No callback is called with it held.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "hal/address.h"
#include "hal/backing.h"
#include "vmserver/vm/page_set.h"
#include "vmserver/vm/pager.h"
#include "vmserver/vm/result.h"
#include "vmserver/vm/slot_allocator.h"

namespace vm {

class Machine;

class SwapSpace {
 public:
  using Done = std::function<void(Error)>;

  explicit SwapSpace(Machine& machine);
  ~SwapSpace();
  SwapSpace(const SwapSpace&) = delete;
  SwapSpace& operator=(const SwapSpace&) = delete;

  /// Makes the object, if there is none yet. False when no pager takes it.
  bool open();
  bool is_open() const;

  /// Puts `pages` pages of `content` into free slots and holds them for the caller. Tells `sink`
  /// which, in order. Throws std::system_error; what was told until then is held.
  void store(std::uint64_t pages, const std::byte* content,
             const std::function<void(hal::PageRange)>& sink);
  /// One more holder, one less. A slot without any is free.
  void hold(hal::PageRange slots);
  void release(hal::PageRange slots);

  enum class BringIn {
    there,   ///< they can be read
    coming,  ///< `done` is called once, later: with Error::none when they can be read then
    lost     ///< some were with a pager that died
  };
  /// Sees to it that the slots, which the caller holds, can be read, and keeps them so until
  /// unpin(), which is due in any case. What there is to read of `around` comes along, as far as
  /// memory is free.
  BringIn bring_in(hal::PageRange slots, hal::PageRange around, Done done);
  /// Reads what there is to read, as far as memory is free, for somebody who will want it.
  void read_ahead(hal::PageRange slots);
  /// What can be read at once of the slots, which the caller wants now.
  struct Ready {
    std::uint64_t pages = 0;  ///< from the first on
    bool ahead = false;       ///< the first one came along with others, and nobody has wanted it yet
  };
  Ready ready(hal::PageRange slots);
  void read(hal::PageRange slots, std::byte* into) const;
  void unpin(hal::PageRange slots);
  /// Whether all of them are there to be read.
  bool resident(hal::PageRange slots) const;

  // For the daemon.

  /// Drops up to `most` clean slots from the Backing. Returns how many.
  std::uint64_t reclaim(std::uint64_t most);
  /// Gives up to `most` of the oldest filled slots to the pager. Returns how many.
  std::uint64_t launder(std::uint64_t most);
  /// Tells the pager of the slots that were freed.
  void flush_discards();

  struct Figures {
    std::uint64_t held = 0;       ///< slots in use
    std::uint64_t filled = 0;     ///< not yet with the pager, and not on their way there
    std::uint64_t laundering = 0; ///< on their way to the pager
    std::uint64_t clean = 0;      ///< with the pager and in the Backing
    std::uint64_t away = 0;       ///< with the pager alone
    std::uint64_t lost = 0;       ///< were with a pager that died
  };
  Figures figures() const;
  /// Whether the pager took nothing of what it was given last: it is full, or gone.
  bool stuck() const { return stuck_; }

 private:
  class Flight;
  friend class Flight;

  struct Slot {
    std::uint32_t holders = 0;
    std::uint16_t pins = 0;
    bool resident = false;  ///< in the Backing
    bool kept = false;      ///< with the pager
    bool going = false;     ///< on its way there
    bool coming = false;    ///< on its way from there
    bool ahead = false;     ///< read, or being read, without being wanted
    bool lost = false;

    /// Whether it takes memory that is counted here. What is wanted is counted by who wants it.
    bool counts() const { return resident || (coming && ahead); }
    bool absent() const { return !resident && !coming && !lost; }
    bool free() const { return holders == 0 && pins == 0 && !going && !coming; }
  };

  // All of these need lock_.
  Slot& slot(hal::PageIndex index) { return slots_[index.value()]; }
  const Slot& slot(hal::PageIndex index) const { return slots_[index.value()]; }
  hal::PageRange take_slots(std::uint64_t most);
  void free_slots(hal::PageRange slots);
  void drop(hal::PageRange slots);
  void count(const Slot& slot, std::int64_t sign);
  template <class Change>
  void change(hal::PageRange slots, Change change);
  void flush_locked();
  void free_discarded();
  void prune(std::deque<hal::PageRange>& queue, bool kept) const;
  void fetch(hal::PageRange slots, hal::PageRange around);

  void ended(Flight& flight, Error error);
  void all_lost();

  Machine& machine_;
  std::shared_ptr<hal::Backing> backing_;  // set once by open()
  std::unique_ptr<PagedObject> pager_;     // the same

  mutable std::mutex lock_;
  std::vector<Slot> slots_;                     // lock_; those that were ever used
  SlotAllocator allocator_;                     // lock_
  PageSet discarded_;                           // lock_; free, once the pager has been told
  std::uint64_t discarded_pages_ = 0;           // lock_
  std::deque<hal::PageRange> laundry_;          // lock_; oldest first; some may be gone
  std::deque<hal::PageRange> clean_;            // lock_; the same
  Figures figures_;                             // lock_
  struct Waiting {
    hal::PageRange slots;
    Done done;
  };
  std::vector<Waiting> waiting_;                // lock_
  std::vector<std::unique_ptr<Flight>> flights_;  // lock_
  std::atomic<bool> stuck_{false};
};

}  // namespace vm
