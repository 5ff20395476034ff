// VmSpace: one served program's address space — its map, its page tables, its calls and faults.
//
// Life: made when a program's session begins or when a served program forks; closed when the
// program has ended, executed something else, or lost its session. After close() it has no entries
// and answers nothing; whoever still holds it may drop it at leisure.
//
// Locks: lock_ protects the map and everything marked S in MapEntry. It comes first of the core's
// locks: space, then ObjectCache, then object. Two spaces are locked together only by fork(),
// parent first. It is never held while the program or a pager is waited for.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "hal/pmap.h"
#include "vmserver/vm/call.h"
#include "vmserver/vm/machine.h"
#include "vmserver/vm/page_set.h"
#include "vmserver/vm/report.h"
#include "vmserver/vm/swapped_pages.h"
#include "vmserver/vm/vm_map.h"

namespace vm {

struct SpaceLayout {
  hal::VirtualRange bounds;     ///< what a program may map
  hal::VirtualRange placement;  ///< where the server looks for room
  hal::VirtualRange nameplate;  ///< the server's own page in there
  hal::VirtualAddress text;     ///< start of the program's text and data, for mmap's hints
  hal::VirtualAddress data;
};

/// A stack grows by at least so much, and begins with so much (FreeBSD's sgrowsiz).
inline constexpr std::uint64_t kStackGrowth = std::uint64_t{128} << 10;

class VmSpace : public std::enable_shared_from_this<VmSpace> {
 public:
  /// The machine knows it from then on.
  static std::shared_ptr<VmSpace> make(Machine& machine, std::unique_ptr<hal::Pmap> pmap,
                                       const SpaceLayout& layout);
  ~VmSpace();
  VmSpace(const VmSpace&) = delete;
  VmSpace& operator=(const VmSpace&) = delete;

  Machine& machine() { return machine_; }
  hal::Pmap& pmap() { return *pmap_; }
  const SpaceLayout& layout() const { return layout_; }

  /// Carries a request to the function that answers it (vm/calls/table.h).
  void handle(Call& call);
  /// The program has carried out a call by itself: the map follows. False when it may not.
  bool note(const protocol::TrapRequest& request, std::int32_t pid);
  // The lease (leasing.cc): room that is kept free for the program, which maps private memory at its
  // start by itself and says so afterwards (note()). What is left of it is known for sure when the
  // program makes a call, which comes behind all it has said; a call that concerns it ends it first.

  /// What is left of it; its start is where the next mapping goes. Ends at 0 when there is none.
  hal::VirtualRange lease();
  /// How many pages the program may lock by itself now.
  std::uint64_t lock_credit();
  /// A forked child has spoken up. If its parent may have done something unheard, what
  /// private memory the child has is taken from the host: until then it is as if all of the lease were
  /// there.
  void settle_lease(bool unheard);
  /// The plan that went along with `answer` failed with `error`: takes back what the call did. Ends
  /// the call, or has the program make it again where the room it claimed was not free.
  void undo(Call& call, const Answer& answer, Error error);

  /// A program touched an absent page of a managed range. `page` is page-aligned.
  void fault(hal::VirtualAddress page, bool write);

  /// The address space of a child that was forked just now. `pmap` is the child's.
  std::shared_ptr<VmSpace> fork(std::unique_ptr<hal::Pmap> pmap);
  /// What the child itself has to set right before it can be served: ranges whose inheritance needs
  /// other pages than the parent's, and what the parent had already taken away. Goes with the first
  /// answer to it.
  void settle(hal::Plan& plan);
  /// A thread says that it is about to fork. False when too many have said so.
  bool announce_fork(std::uint64_t thread);
  /// That fork is over. With the last one go the snapshots.
  void end_fork(std::uint64_t thread);
  bool expects_fork();
  /// Fills in snapshots for a fork that is about to come: copies of what is shared and children get
  /// a copy of. Calls `done` once, with the first error.
  void prepare_fork(std::function<void(Error)> done);

  /// The program is gone.
  void close();

  // Paging private memory out and in (vm_space_leaving.cc, vm_space_paging.cc). A page that is
  // leaving belongs to nobody for a moment: a fault of it waits, and so does a plan that would take
  // it away.

  /// Whether pages leave at all: there is a limit to the memory.
  bool pages_leave() const { return machine_.memory().limited(); }
  /// Calls `go` once nothing of what `plan` takes away is leaving; and from then on nothing of it
  /// leaves until plan_done(), and what was in swap of it has gone, or moved, along with it.
  void before_plan(const hal::Plan& plan, std::function<void()> go);
  /// The program has carried the plan out. Harmless when there was none.
  void plan_done();
  /// Whether that makes a difference.
  bool awaits_plan();
  /// Cuts what brings pages in off a plan that takes something away before. Nothing if it does not.
  static hal::Plan part_that_touches(hal::Plan& plan);
  /// Brings back all that is in swap of the range, for a call that needs the pages themselves. Nothing
  /// leaves until let_leave(), which is the end of the call. There need not be room.
  void bring_all_back(hal::VirtualRange range, std::function<void(Error)> done);
  void let_leave();
  /// What libc knows of a thread lies at the end of its stack, and with it what the kernel clears when
  /// the thread has ended, for whoever joins it. At that time the kernel waits for no page (PF_EXITING
  /// in fs/userfaultfd.c): so these never leave. Needs lock_.
  void keep_thread_at_end_of(hal::VirtualRange stack);

  /// Begins to take a few pages out, those that it came across longest ago. False when there is
  /// nothing to take, or it is at it already.
  bool start_leaving();
  /// Whether it is at it, and has not been for so long that others had better be asked.
  bool is_giving();
  /// These pages of the entry go before all others do. Needs lock().
  void let_go_first(const MapEntry& entry, hal::VirtualRange range);
  /// Counts the private pages that there are.
  void recount();
  /// Whether the host makes pages for it that nobody is asked for: copies of what a fork shares, and of
  /// files' pages in private mappings.
  bool grows_unasked();
  /// Tries a fault again that was put off.
  void fault_again(hal::VirtualAddress page, bool write);
  bool spared();
  /// The most private pages it shall have in memory; 0 for as many as there are. What cannot leave
  /// stays, and what it needs besides it gets.
  void set_limit(std::uint64_t pages);
  std::uint64_t limit() const { return limit_; }
  /// Whether a fault of it that was put off would find a page below its limit.
  bool has_room() const { return below_limit() != 0; }
  /// Whether it is at its limit, nearly.
  bool shall_shrink() const;
  /// Whether it has more than its RLIMIT_RSS: then it gives before others do.
  bool has_more_than_its_share() const { return counted_pages() > share_; }
  /// In pages: what it has in memory, and in swap.
  std::uint64_t counted_pages() const { return clamped_resident(); }
  std::uint64_t swapped_pages();

  // Figures; any thread.
  std::uint64_t fault_count() const { return faults_; }
  void report(SpaceReport& report);
  std::vector<EntryReport> entries();
  /// Resident pages of private memory.
  std::uint64_t private_pages();

  // For the calls (vm/calls), which hold lock() while they use the rest.
  /// Gives the program a lease where it may have one, and has used up what it had.
  void offer_lease();
  /// The program has mapped this at the start of its lease. False when that is not where it is.
  bool take_from_lease(hal::VirtualRange range);
  /// The program has unmapped this: what was mapped last goes back to the lease.
  void return_to_lease(hal::VirtualRange range);
  /// Lets the program lock a few pages by itself until its next call, where neither its limit (in pages)
  /// nor the machine's is near.
  void offer_lock_credit(std::uint64_t limit);
  /// The program has locked so many pages by itself. False when it was not to.
  bool spend_lock_credit(std::uint64_t pages);
  std::unique_lock<std::mutex> lock() { return std::unique_lock(lock_); }
  VmMap& map() { return map_; }
  /// Whether new mappings are wired (MCL_FUTURE), and if so, at once or as they are touched.
  enum class WireFuture : std::uint8_t { no, at_once, on_fault };
  WireFuture wire_future() const { return wire_future_; }
  void set_wire_future(WireFuture future) { wire_future_ = future; }
  void set_spared(bool on) { spared_ = on; }
  /// A change of a file that the program has announced: its number, or 0 when there are too many.
  /// take_change() forgets it, and is nullptr for a number that is none.
  std::uint64_t add_change(std::shared_ptr<VmObject> object);
  std::shared_ptr<VmObject> take_change(std::uint64_t number);
  std::uint64_t wired_pages() const { return wired_pages_; }
  /// Marks the entries of a range wired or not and keeps count; cuts them at its ends.
  void set_wired(hal::VirtualRange range, bool wired);
  /// Takes the picture of the host's mappings in the range anew. Nothing to do where the server puts
  /// mappings: the host puts none there by itself.
  void refresh_host(hal::VirtualRange range);
  /// Takes it anew everywhere: room was claimed and something was there.
  void look_again();
  /// Whether a managed mapping could be there: inside the bounds and clear of the nameplate.
  bool may_map(hal::VirtualRange range) const;
  /// Removes all entries of the range from the map, and with the lowest part of a stack what it could
  /// have grown into. Tells `visit` every run of neighbours that there was. `by_program`: it is private
  /// memory, and the program has unmapped it already.
  void take_out(hal::VirtualRange range, const std::function<void(hal::VirtualRange)>& visit,
                bool by_program = false);
  /// The same, and has the program unmap them.
  void remove(hal::VirtualRange range, hal::Plan& plan);
  /// The program is about to move what it has in the one range to the other, and the map follows when
  /// it has. Faults of both wait until end_move().
  void begin_move(hal::VirtualRange from, hal::VirtualRange to);
  void end_move();

 private:
  VmSpace(Machine& machine, std::unique_ptr<hal::Pmap> pmap, const SpaceLayout& layout);

  static constexpr std::uint64_t kNoShare = ~std::uint64_t{0};

  struct PutOffPlan {
    const hal::Plan* plan;
    std::function<void()> go;
  };
  struct Removed {
    hal::VirtualRange range;
    bool by_program;  // see take_out()
  };
  /// Pages on their way back, and the memory that was granted for them.
  struct Coming {
    hal::VirtualRange pages;
    std::uint64_t granted = 0;
  };

  // All of these need lock_.
  void forget_removed();
  void keep_for_lease(hal::VirtualRange range);
  void end_lease();
  void withdraw_lock_credit();
  void inherit_lease(VmSpace& child);
  /// What private memory there is, and with what protection.
  void follow_host();
  void fault_private(MapEntry& entry, hal::VirtualAddress page, bool write, std::uint64_t number,
                     FaultWindow::Span span);
  /// The same where memory is limited.
  void fault_limited(MapEntry& entry, hal::VirtualAddress page, bool write, std::uint64_t number,
                     std::uint64_t window);
  void enter_zeroes(MapEntry& entry, hal::VirtualRange wanted, bool write, std::uint64_t number);
  std::uint64_t admit(hal::VirtualAddress page, bool write, std::uint64_t wanted);
  void bring_back(MapEntry& entry, const SwappedPages::Run& known, bool write,
                  std::uint64_t window);
  void enter_swapped(const SwappedPages::Run& run);
  void lose(const SwappedPages::Run& run);
  void lose_absent(hal::VirtualRange range);
  bool on_its_way(hal::VirtualAddress page) const;
  /// The part of the range up to the first page that is in swap or on its way.
  hal::VirtualRange vacant(hal::VirtualRange range) const;
  bool is_leaving(const hal::Plan& plan) const;
  bool begin_plan(PutOffPlan& put_off);
  void follow(const hal::Plan& plan);
  void forget_swapped(hal::VirtualRange range);
  void drop_doubles();
  void move_doubles(hal::VirtualRange range, hal::VirtualAddress target);
  void uncount(hal::VirtualRange range);
  void add_resident(std::int64_t pages);
  void prefer(hal::VirtualRange range);
  hal::VirtualRange choose_leaving();
  hal::VirtualRange leaving_in(const MapEntry& entry, hal::VirtualRange part);
  void inherit_swapped(VmSpace& child);
  void store(const std::vector<hal::VirtualAddress>& pages, const std::byte* content,
             std::vector<SwappedPages::Run>& stored, PageSet& lost);
  std::vector<std::shared_ptr<VmSpace>> take_heirs(const std::vector<SwappedPages::Run>& gone);
  std::optional<SwappedPages::Run> first_absent(hal::VirtualRange range) const;

  // These take it.
  void came_back(const SwappedPages::Run& run, Error error);
  void enter_if_still_wanted(const SwappedPages::Run& run, Error error);
  void have_left(hal::VirtualRange range, const hal::Left& left);
  void have_left_before_fork(const std::vector<SwappedPages::Run>& gone, const PageSet& lost);
  void end_leaving();
  void unshared(hal::VirtualRange range);

  std::uint64_t below_limit() const;
  std::uint64_t clamped_resident() const {
    const std::int64_t pages = resident_;
    return pages < 0 ? 0 : static_cast<std::uint64_t>(pages);
  }

  void fault_nowhere(hal::VirtualAddress page);
  /// Whether nothing may be entered there now, as the map and the program differ. Needs lock_.
  bool is_displaced(hal::VirtualRange range) const;
  /// The part of the range in front of what is displaced. Needs lock_.
  hal::VirtualRange undisplaced(hal::VirtualRange range) const;
  /// malloc's heaps grow into memory that they keep inaccessible until then, a few pages at a time:
  /// once faults follow one another, what is left of the window (`pages` of it are `filled`) goes on
  /// in there. Returns how many pages that made. Needs lock_.
  std::uint64_t fill_ahead(const MapEntry& entry, hal::VirtualRange filled, std::uint64_t window,
                           std::uint64_t pages, bool shared);
  /// Whether a walk through memory goes on at this page: those before it are there.
  bool goes_on(const MapEntry& entry, hal::VirtualAddress page) const;
  /// Has the pages behind the window come in while the program is busy with those of the window. Needs
  /// lock_.
  void read_ahead(MapEntry& entry, hal::VirtualAddress page, FaultWindow::Span window);
  /// Zeroes for up to `pages` pages before `page`, up to the first that is there. Needs lock_.
  void fill_before(const MapEntry& entry, hal::VirtualAddress page, std::uint64_t pages,
                   bool shared);
  /// Of a walk through a file, or with MADV_SEQUENTIAL, the pages just behind are the first to go.
  /// Needs lock_.
  void leave_behind(const MapEntry& entry, hal::VirtualAddress page, std::uint64_t window);
  /// A stack grows down over a page of its gap. Returns it, or nullptr when it is gone. Needs lock_.
  MapEntry* grow_stack(MapEntry& gap, hal::VirtualAddress page);
  void count_wired(std::int64_t pages);
  /// Nothing when pages have gone since they were brought in.
  std::optional<Error> take_snapshot(const std::shared_ptr<VmObject>& object, hal::PageRange pages,
                                     hal::VirtualRange range);
  /// Needs lock_.
  void drop_snapshots();
  /// Drops snapshots of forks that are over. Needs lock_.
  void drop_outdated();
  /// Needs lock_.
  void picture_host(hal::VirtualRange range);
  /// Covers the free parts of the range with inaccessible entries: a child may still have there what
  /// its parent was taking away when it forked. settle() makes them free. Needs lock_.
  void keep_clear_of(hal::VirtualRange range);
  /// Takes the free parts of the range for private memory: a child may have there what its parent has
  /// unmapped since it forked. follow_host() knows. Needs lock_.
  void presume_memory(hal::VirtualRange range);
  /// The parts of the range that are free get an entry each without access. Needs lock_.
  void fill_free(hal::VirtualRange range, const std::function<void(MapEntry&)>& visit);

  Machine& machine_;
  const std::unique_ptr<hal::Pmap> pmap_;
  const SpaceLayout layout_;

  std::mutex lock_;
  VmMap map_;                                   // lock_
  bool closed_ = false;                         // lock_
  WireFuture wire_future_ = WireFuture::no;     // lock_
  std::set<std::uint64_t> forking_threads_;     // lock_  have announced a fork
  bool outdated_ = false;                       // lock_  there may be snapshots of forks that are over
  bool spared_ = false;                         // lock_  MADV_PROTECT
  std::uint64_t wired_pages_ = 0;               // lock_
  std::uint64_t lock_credit_ = 0;               // lock_  pages; the machine counts them as promised
  std::vector<hal::VirtualRange> rebuilt_;      // lock_  entries that the host left out of the fork
  std::vector<hal::VirtualRange> stale_;        // lock_  what the parent had that the map has not
  hal::VirtualRange lease_;             // lock_  what is left of it
  hal::VirtualRange inherited_lease_;   // lock_  of the parent's, until the child has spoken up
  std::vector<Removed> removed_;        // lock_  what a fork not heard of yet may still have
  bool noted_ = false;                  // lock_  the program did calls by itself after that fork, maybe
  bool newer_ = false;                  // lock_  of a child: its map has such calls in it
  /// Where the program shows an object's pages until it has carried out its plan, and the map has
  /// something else by now. Zeroes that were entered there would be the object's.
  std::vector<hal::VirtualRange> displaced_;    // lock_
  /// What the program moves, and where to: the map says so when it has. Until then a fault there is one
  /// of what was there before.
  std::vector<hal::VirtualRange> moving_;       // lock_
  hal::VirtualAddress lost_page_;               // lock_  see fault_nowhere()
  std::chrono::steady_clock::time_point lost_since_;  // lock_
  std::atomic<std::uint64_t> faults_{0};
  std::map<std::uint64_t, std::shared_ptr<VmObject>> changes_;  // lock_

  // Paging.
  SwappedPages swapped_;                      // lock_
  /// In swap and, having come back while the host may have forked, in memory: the child may need them.
  PageSet doubles_;                           // lock_  page numbers
  std::vector<Coming> coming_;                // lock_
  hal::VirtualRange leaving_;                 // lock_
  PageSet there_;                             // lock_  which of them were there; page numbers
  /// What has left of leaving_ is in swapped_: who is forked from here on needs nobody to tell it.
  bool have_told_ = false;                    // lock_
  /// Of an heir: what of leaving_ it had when it was forked. Page numbers.
  PageSet heritage_;                          // lock_
  bool taking_ = false;                       // lock_  the program is at an order of start_leaving()
  std::chrono::steady_clock::time_point taking_since_;  // lock_
  /// Forked while pages were leaving. They stay for as long, also when their programs have ended: there
  /// may be heirs of theirs.
  std::vector<std::shared_ptr<VmSpace>> heirs_;  // lock_
  PageSet stays_;                             // lock_  page numbers: see keep_thread_at_end_of()
  std::vector<PutOffPlan> put_off_;           // lock_  plans that wait for pages that are leaving
  std::vector<hal::VirtualRange> unsettled_;  // lock_  a plan is about to take away what is there
  bool keeps_ = false;                        // lock_  a call needs all pages to stay
  std::vector<std::function<void()>> until_left_;  // lock_  who waits for leaving_ to end
  hal::VirtualAddress hand_;                  // lock_  where start_leaving() goes on
  std::vector<hal::VirtualRange> preferred_;  // lock_
  bool fruitless_ = true;                     // lock_  nothing has left since the hand came round
  bool unsharing_ = false;                    // lock_  this time round pages of forks are unshared
  std::atomic<bool> barren_{false};           // nothing of it can leave
  std::atomic<std::uint64_t> limit_{0};
  std::atomic<std::uint64_t> share_{kNoShare};
  bool forked_ = false;                       // lock_  it may share pages with others
  std::atomic<std::int64_t> resident_{0};     // written under lock_
};

}  // namespace vm
