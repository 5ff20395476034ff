// Machine: what all address spaces of one server share — objects, pagers, counters, limits.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hal/backing.h"
#include "protocol/trap_frame.h"
#include "vmserver/vm/exec_trace.h"
#include "vmserver/vm/file_board.h"
#include "vmserver/vm/memory.h"
#include "vmserver/vm/object_cache.h"
#include "vmserver/vm/pager.h"
#include "vmserver/vm/personality.h"
#include "vmserver/vm/policy.h"
#include "vmserver/vm/swap_space.h"

namespace vm {

class VmSpace;

/// Counts since the server started; the units are those of Statistics (vm/report.h).
struct Counters {
  std::atomic<std::uint64_t> faults{0};
  std::atomic<std::uint64_t> zero_fills{0};
  std::atomic<std::uint64_t> pageins{0};
  std::atomic<std::uint64_t> pageouts{0};       ///< pages that a pager was given, and has
  std::atomic<std::uint64_t> deactivated{0};    ///< private pages that left a program
  std::atomic<std::uint64_t> reactivations{0};  ///< and came back before they were with the pager only
  std::atomic<std::uint64_t> copied{0};         ///< that the host copied for a store after a fork
  std::atomic<std::uint64_t> forks{0};
  std::atomic<std::uint64_t> failed_faults{0};
  std::atomic<std::uint64_t> sessions_rejected{0};
  std::array<std::atomic<std::uint64_t>, protocol::kCallCount> calls{};
};

struct MachineOptions {
  const Personality* personality = nullptr;
  std::uint64_t memory_limit_pages = 0;  ///< 0: none
  std::uint64_t max_wired_pages = 0;     ///< machine-wide maximum of mlock
  /// The seed's vm.max_proc_mmap: most entries of one address space; 0: no maximum.
  std::uint64_t max_entries = 0;
  std::shared_ptr<const Policy> policy;  ///< none: everything is allowed
  /// Files that the host maps by itself: patterns of fnmatch(3) for their paths, in which `*` stands
  /// for slashes as well.
  std::vector<std::string> host_files;
  /// And the usual ones: through which programs, served or not, talk by storing to memory. Those that
  /// are served and those that are not would not hear each other.
  bool usual_host_files = true;
};

/// SQLite's index of a write-ahead log, LMDB's lock files, named semaphores.
inline constexpr const char* kUsualHostFiles[] = {"*-shm", "*/lock.mdb", "*-lock",
                                                  "/dev/shm/sem.*"};
/// And what these are about, known by its content. Who reads it finds in the former how much of it is
/// new: a look at the file when a lock is taken would be too early.
struct Signature {
  std::size_t at;
  std::string_view bytes;
};
inline constexpr Signature kUsualHostContents[][2] = {
    // SQLite with a write-ahead log (The SQLite Database File Format, 1.3.3: version 2 to read).
    {{0, {"SQLite format 3", 16}}, {19, "\x02"}},
    // LMDB: the magic of the first meta page, behind the page's header (lmdb.h, mdb.c).
    {{10, {"\x08\x00", 2}}, {16, "\xde\xc0\xef\xbe"}},
};

class Machine {
 public:
  Machine(const MachineOptions& options, hal::BackingFactory& backings, PagerDirectory& pagers)
      : options_(options),
        backings_(backings),
        pagers_(pagers),
        objects_(*this),
        memory_(options.memory_limit_pages),
        swap_(*this) {}

  /// Whether mappings of the regular file are left to the host.
  bool is_host_file(const hal::FileAttributes& file) const;

  const MachineOptions& options() const { return options_; }
  const Personality& personality() const { return *options_.personality; }
  hal::BackingFactory& backings() { return backings_; }
  PagerDirectory& pagers() { return pagers_; }
  ObjectCache& objects() { return objects_; }
  Counters& counters() { return counters_; }
  ExecTrace& exec_trace() { return exec_trace_; }
  FileBoard& file_board() { return file_board_; }
  Memory& memory() { return memory_; }
  SwapSpace& swap() { return swap_; }
  const SwapSpace& swap() const { return swap_; }

  /// Every address space, once it is shared.
  void add_space(std::weak_ptr<VmSpace> space);
  std::vector<std::shared_ptr<VmSpace>> spaces();

  std::uint64_t object_count() const { return object_count_; }
  std::uint64_t wired_pages() const { return wired_pages_; }
  void add_wired_pages(std::int64_t pages) { wired_pages_ += static_cast<std::uint64_t>(pages); }
  /// Pages that programs may wire without asking; where the maximum is concerned they are wired.
  std::uint64_t promised_pages() const { return promised_pages_; }
  /// False, and nothing is promised, where the maximum is near.
  bool promise_pages(std::uint64_t pages);
  void withdraw_pages(std::uint64_t pages) { promised_pages_ -= pages; }

  /// Called when the last of the write-backs under way has ended. Any thread.
  void when_quiet(std::function<void()> callback) { when_quiet_ = std::move(callback); }
  bool quiet() const { return write_backs_ == 0; }

  /// Whoever calls something later. Without one nothing is.
  using Timer = std::function<void(std::chrono::milliseconds, std::function<void()>)>;
  void use_timer(Timer timer) { timer_ = std::move(timer); }
  /// Any thread.
  void later(std::chrono::milliseconds delay, std::function<void()> call) {
    if (timer_) timer_(delay, std::move(call));
  }

  /// Who does what may have to wait for the host. Without one it is done at once.
  using Waiter = std::function<void(std::function<void()>)>;
  void use_waiter(Waiter waiter) { waiter_ = std::move(waiter); }
  /// Any thread.
  void aside(std::function<void()> work) {
    if (waiter_) return waiter_(std::move(work));
    work();
  }

  /// A pager has answered for pages that it was given, and has taken them or not.
  void page_out_over(std::uint64_t pages, bool taken) {
    memory_.add_paging_out(-static_cast<std::int64_t>(pages));
    if (taken) counters_.pageouts += pages;
  }

 private:
  friend class VmObject;
  void object_made(VmObject&) { ++object_count_; }
  void object_gone(VmObject& object) {
    --object_count_;
    objects_.forget(object);
  }
  void write_back_started() { ++write_backs_; }
  void write_back_ended() {
    if (--write_backs_ == 0 && when_quiet_) when_quiet_();
  }

  const MachineOptions options_;
  FileBoard file_board_;  // before the objects: they take themselves off it
  hal::BackingFactory& backings_;
  PagerDirectory& pagers_;
  ObjectCache objects_;
  Counters counters_;
  ExecTrace exec_trace_;
  Memory memory_;
  SwapSpace swap_;
  std::mutex spaces_lock_;  // the last of all locks
  std::vector<std::weak_ptr<VmSpace>> spaces_;  // spaces_lock_
  std::atomic<std::uint64_t> object_count_{0};
  std::atomic<std::uint64_t> wired_pages_{0};
  std::atomic<std::uint64_t> promised_pages_{0};
  std::atomic<std::uint64_t> write_backs_{0};
  std::function<void()> when_quiet_;  // set before the first space exists
  Timer timer_;                       // likewise
  Waiter waiter_;                     // likewise
};

}  // namespace vm
