// Pmap: the page tables of one address space, as the VM core sees them.
//
//   Pmap      what can be done to a program's pages right away
//   Plan      what has to be done by the program itself, in order (hal/plan.h)
//   Backing   where an object's resident pages are (hal/backing.h)
//
// There are two: hal/linux drives a real program's page tables through userfaultfd and pagemap;
// hal/sim is a page table in plain memory that tests read and write through. The core cannot tell
// which one it has.
//
// A fault, step by step: a program touches an absent page of a managed range; the pmap's owner
// reads that and calls VmSpace::fault(); the core answers with enter_zero() for private memory, or,
// once the object's Backing holds the page, with wake(), upon which the page is found there.
//
// Thread safety: every function may be called from any thread at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "hal/address.h"
#include "hal/plan.h"
#include "hal/protection.h"

namespace hal {

/// What the host maps somewhere by itself: libraries, the stack, what was there before us.
struct HostMapping {
  VirtualRange range;
  Protection protection;
  bool shared = false;
  std::uint64_t offset = 0;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::string path;
};

/// What became of pages that were asked to leave (Pmap::take_pages).
struct Left {
  std::uint64_t pages = 0;             ///< bit i: page i of the range has left
  /// Of those, one behind the other; until the call returns. Nothing: nobody has said what has left,
  /// and nobody will.
  const std::byte* content = nullptr;
};
using LeftDone = std::function<void(const Left&)>;

/// How pages are taken out.
enum class Taking {
  /// Pages that may be stored to, each in one step.
  move,
  /// Pages that nobody may store to, by a copy. Whoever asks sees to it that that stays so meanwhile.
  copy,
  /// Nothing leaves: pages that a fork shares become the program's own, so that they can be moved.
  unshare
};

/// A run of pages that are alike.
struct PageRun {
  VirtualRange range;
  bool written = false;  ///< stored to since it was entered, as far as the hardware tells
  bool stored_to = false;  ///< the same of pages that are mapped as Sharing::shared_tracked
};

class Pmap {
 public:
  enum class Outcome {
    entered,  ///< done, and whoever waited for it goes on
    retry,    ///< the address space is changing; the program will fault again
    gone,     ///< the address space exists no more
  };
  struct Entered {
    Outcome outcome = Outcome::entered;
    std::uint64_t pages = 0;  ///< entered by this call; pages that were there already do not count
  };

  virtual ~Pmap() = default;
  Pmap() = default;
  Pmap(const Pmap&) = delete;
  Pmap& operator=(const Pmap&) = delete;

  /// Enters zero pages from the start of `range` (page-aligned, private anonymous memory) up to its
  /// end or to the first page that is already there, and wakes who waits for them. With `shared`
  /// the pages may be one common zero page, which suits a fault that only reads.
  virtual Entered enter_zero(VirtualRange range, bool shared) = 0;

  /// Enters pages with `content` (range.bytes() of it) from the start of `range` (page-aligned,
  /// private anonymous memory) up to its end or to the first page that is already there. Wakes nobody:
  /// who waits for them would be at the next fault before the caller is through with this one.
  virtual Entered enter_pages(VirtualRange range, const std::byte* content) = 0;

  /// Most pages of one take_pages().
  static constexpr std::uint64_t kMostLeaving = 64;
  /// Whether take_pages() has somebody to do it.
  virtual bool can_take() = 0;
  /// Takes pages of private anonymous memory out of the address space, with every store up to then,
  /// and calls `done` once, perhaps from inside and on any thread. What cannot be had stays: a page
  /// that I/O holds, one to be moved that a fork shares, one that is wired.
  virtual void take_pages(VirtualRange range, Taking how, LeftDone done) = 0;

  /// Ends the program: memory is short, and nothing else is left to do.
  virtual void kill() = 0;
  /// For messages: "program 1234".
  virtual std::string describe() const = 0;

  /// Lets faults in the range be tried again.
  virtual void wake(VirtualRange range) = 0;

  /// Makes absent pages of the range a bus error for the program.
  virtual Outcome fail(VirtualRange range) = 0;

  /// Takes the pages of the range first when memory runs short; their data stays. A hint: what
  /// cannot be done is left.
  virtual void deactivate(VirtualRange range) = 0;

  /// Whether the address space still exists.
  virtual bool alive() = 0;

  /// Whether the host may have forked this address space without the owner having heard of it yet.
  /// What was changed before a false answer is as it is now in every child heard of later.
  virtual bool forking() { return false; }

  /// Tells `sink` every run in `range` (mapped as Sharing::shared_tracked) that was written since
  /// the last call, and tracks from now on anew. Returns false when that cannot be told (the
  /// program is gone): then every resident page counts as written.
  virtual bool collect_written(VirtualRange range,
                               const std::function<void(VirtualRange)>& sink) = 0;

  /// Tracks all of `range` (mapped as Sharing::shared_tracked) anew. For pages that have just been
  /// dropped: a host may lose the mark of an absent page, and one that arrives without it would
  /// count as written.
  virtual void track_anew(VirtualRange range) = 0;

  /// Tells `sink` every run of pages that the program has mapped now, by address. Returns false
  /// when that cannot be told.
  virtual bool mapped_pages(VirtualRange range, const std::function<void(PageRun)>& sink) = 0;

  /// The first run of pages in `within` that the program has mapped now, `most` of them at most;
  /// empty when there is none, or that cannot be told.
  virtual VirtualRange first_mapped(VirtualRange within, std::uint64_t most) = 0;
  /// Pages of private memory, the host's own as well; one that forks share counts by its part. Nothing
  /// when that cannot be told.
  virtual std::optional<std::uint64_t> proportional_pages() = 0;
  /// RLIMIT_RSS, in whole pages. Nothing when there is none, or that cannot be told.
  virtual std::optional<std::uint64_t> resident_limit() = 0;

  /// What is mapped in `within`, managed or not, by address. Throws std::system_error.
  virtual std::vector<HostMapping> host_mappings(VirtualRange within) = 0;
};

}  // namespace hal
