// SimPmap: one address space in plain memory, for tests.
//
// It keeps what a host keeps: regions (what is mapped where, how, and whether missing pages are
// told to the server) and a page table over frames. It carries out Plans on the spot, with a
// host's errnos where a host would refuse. SimCpu (hal/sim/sim_cpu.h) reads and writes through it.
//
// A touch, step by step. access() finds the region, checks its protection and walks the page
// table. A page of an object that is resident is mapped by the "kernel", that is here; so is
// memory of the host's own. What is missing otherwise registers the toucher as a waiter and comes
// back as SimAccess::missing; the toucher then calls the fault handler and goes on only when
// somebody wakes the page: a server that forgets to wake stays caught in the act.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "hal/pmap.h"
#include "hal/sim/sim_backing.h"
#include "hal/sim/sim_memory.h"
#include "hal/sim/sim_page_table.h"

namespace hal {

/// A range that is mapped alike, as one line of /proc/PID/maps is.
struct SimRegion {
  enum class Kind {
    anonymous,  ///< private memory that the server manages
    object,     ///< shows a SimBacking
    host        ///< the host's own, or a host device: nobody is asked for its pages
  };

  VirtualRange range;
  Kind kind = Kind::anonymous;
  Protection protection;
  Sharing sharing = Sharing::copy_on_write;
  std::shared_ptr<SimBacking> backing;
  PageIndex page;  ///< of the backing, at range.start()
  Inherit inherit = Inherit::copy;
  bool locked = false;
  bool dumped = true;
  std::string path;

  /// Private memory with nothing in it yet.
  static SimRegion anonymous(VirtualRange range, Protection protection) {
    SimRegion region;
    region.range = range;
    region.protection = protection;
    return region;
  }

  bool is_private() const { return sharing == Sharing::copy_on_write; }
  PageIndex page_at(VirtualAddress address) const {
    return page + ((address - range.start()) >> kPageShift);
  }
};

enum class SimAccess { done, missing, segmentation_fault, bus_error };

/// Somebody who touched a missing page.
struct SimWaiter {
  VirtualAddress page;
  bool woken = false;  // the memory's lock
};

class SimPmap final : public Pmap {
 public:
  explicit SimPmap(std::shared_ptr<SimMemory> memory) : memory_(std::move(memory)) {}
  ~SimPmap() override;

  // Making the program.
  /// Something of the host's own. A path as in /proc/PID/maps.
  void add_host_mapping(VirtualRange range, Protection protection, const std::string& path,
                        bool shared = false);
  /// How Step::lock brings pages in: touches the range, for writing or not; 0 or an errno.
  using Prefault = std::function<int(VirtualRange, bool write)>;
  void set_prefault(Prefault prefault) { prefault_ = std::move(prefault); }
  /// The next step of this kind fails with this errno.
  void fail_next(Step::Kind kind, int error) { failing_[kind] = error; }

  /// Carries the steps out in order. The errno of the first that fails, or 0; none behind it is
  /// tried.
  int apply(const Plan& plan);
  /// Ranges of all host_call steps so far.
  const std::vector<VirtualRange>& host_calls() const { return host_calls_; }
  /// Every deactivate step so far, and every deactivate().
  const std::vector<VirtualRange>& deactivated() const { return deactivated_; }

  /// What a fork does. By each region's inheritance; private frames are copied on write.
  std::unique_ptr<SimPmap> fork();
  /// What a program's thread does that takes pages out: the oldest order there is. False when there is
  /// none. In two halves, so that tests can have things happen in between: first the pages go, then
  /// is said which.
  bool carry_out_taking() {
    const bool took = take_ordered();
    return answer_taken() || took;
  }
  bool take_ordered();
  bool answer_taken();
  /// Its RLIMIT_RSS, in pages; before the server asks.
  void set_resident_limit(std::uint64_t pages) { resident_limit_ = pages; }
  /// It ends with the program: what it was asked to do, it may have done or not.
  void abandon_orders();
  /// Memory is short: what lazy_free gave up goes.
  void drop_lazy_pages();

  // For SimCpu.
  /// Moves `bytes`, which lie within one page (none: a mere touch), from or to `address`. On
  /// SimAccess::missing the waiter waits for the page, until it is woken or forget() is called.
  SimAccess access(VirtualAddress address, std::span<std::byte> bytes, bool write,
                   SimWaiter& waiter);
  bool woken(const SimWaiter& waiter);
  /// Waits for another thread to wake it; false when nobody did for `most`.
  bool wait(const SimWaiter& waiter, std::chrono::seconds most);
  void forget(SimWaiter& waiter);

  /// The regions that overlap the range, for tests to look at.
  std::vector<SimRegion> regions(VirtualRange range);
  std::size_t table_count();

  Entered enter_zero(VirtualRange range, bool shared) override;
  Entered enter_pages(VirtualRange range, const std::byte* content) override;
  bool can_take() override { return true; }
  void take_pages(VirtualRange range, Taking how, LeftDone done) override;
  void kill() override;
  std::string describe() const override { return "a simulated program"; }
  void wake(VirtualRange range) override;
  Outcome fail(VirtualRange range) override;
  void deactivate(VirtualRange range) override;
  bool alive() override;
  bool collect_written(VirtualRange range,
                       const std::function<void(VirtualRange)>& sink) override;
  void track_anew(VirtualRange range) override;
  bool mapped_pages(VirtualRange range, const std::function<void(PageRun)>& sink) override;
  VirtualRange first_mapped(VirtualRange within, std::uint64_t most) override;
  std::optional<std::uint64_t> proportional_pages() override;
  std::optional<std::uint64_t> resident_limit() override { return resident_limit_; }
  std::vector<HostMapping> host_mappings(VirtualRange within) override;

 private:
  friend class SimBacking;
  using Regions = std::map<std::uint64_t, SimRegion>;

  /// Enters pages, each as `make` fills it in.
  Entered enter(VirtualRange range, const std::function<void(VirtualAddress, SimPage&)>& make);

  // All of these need the memory's lock.
  SimRegion* find(VirtualAddress address);
  Regions::iterator first_in(VirtualRange range);
  void for_each_region(VirtualRange range, const std::function<void(SimRegion&)>& visit);
  bool covered(VirtualRange range);
  bool vacant(VirtualRange range);
  void cut_at(VirtualAddress address);
  void cut(VirtualRange range);
  void put(SimRegion region);
  void erase(VirtualRange range);
  void wake_locked(VirtualRange range);
  void track_locked(VirtualRange range);
  void mark(VirtualRange range);
  void drop_pages_of(const SimBacking& backing, PageRange pages, bool even_owned);
  bool bring_in(const SimRegion& region, VirtualAddress page, bool& beyond);

  // Steps; each gives an errno or 0.
  int apply_step(const Step& step);
  int map_backing(const Step& step);
  int protect(const Step& step);
  int move(const Step& step);
  int take_away(const Step& step);
  int drop_private(const Step& step);
  int inherit(const Step& step);
  int lock_pages(const Step& step);  // takes the lock itself
  int populate(const Step& step);    // the same
  int copy_out(const Step& step);    // the same

  const std::shared_ptr<SimMemory> memory_;
  Prefault prefault_;                     // set before the program runs
  std::map<Step::Kind, int> failing_;     // used by the thread that applies plans
  std::vector<VirtualRange> host_calls_;  // the same
  std::vector<VirtualRange> deactivated_;  // the same

  struct Order {
    VirtualRange range;
    Taking how = Taking::move;
    LeftDone done;
    std::uint64_t pages = 0;
    std::vector<std::byte> content;
  };

  std::optional<std::uint64_t> resident_limit_;
  std::deque<Order> ordered_;             // memory_->lock()
  std::deque<Order> taken_;               // memory_->lock()
  Regions regions_;                       // memory_->lock(); by start
  SimPageTable pages_;                    // memory_->lock()
  // memory_->lock(); absent pages that count as written when they come, as a host may have it that
  // loses the mark of a page that is dropped. Here it always does.
  std::set<VirtualAddress> unmarked_;
  std::list<SimWaiter*> waiters_;         // memory_->lock()
  std::condition_variable woken_;
  bool alive_ = true;                     // memory_->lock()
};

}  // namespace hal
