// ExecTrace: tells observers of executable mappings that come and go, where the seed tells its
// performance counters (PMC_FN_MMAP and PMC_FN_MUNMAP of hwpmc(4)).
//
//   mapped    an mmap of a file or device with the right to execute has succeeded
//   unmapped  a munmap is about to take away a range with something executable in it
//
// Nothing else is told, as in the seed: not what mprotect makes executable, not what a MAP_FIXED
// replaces, not what goes with its program.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "hal/address.h"

namespace vm {

struct ExecEvent {
  enum class Kind { mapped, unmapped };
  Kind kind = Kind::mapped;
  std::int32_t pid = 0;  ///< 0 when the program's is not known here
  hal::VirtualAddress address;
  std::uint64_t bytes = 0;  ///< whole pages
  std::string path;  ///< of the file; of unmapped: of the first executable entry, "" without a file
};

class ExecObserver {
 public:
  /// On the thread of the call, which may hold its space's lock: must not wait.
  virtual void exec_event(const ExecEvent& event) = 0;

 protected:
  ~ExecObserver() = default;
};

/// All functions may be called from any thread. Its lock is held while observers are called; only
/// their own come after it.
class ExecTrace {
 public:
  /// Whether anybody listens. What began to listen just now may miss an event.
  bool wanted() const { return wanted_.load(std::memory_order_relaxed); }

  void tell(const ExecEvent& event) {
    const std::lock_guard guard(lock_);
    for (ExecObserver* observer : observers_) observer->exec_event(event);
  }

  void add(ExecObserver& observer) {
    const std::lock_guard guard(lock_);
    observers_.push_back(&observer);
    wanted_ = true;
  }

  /// When it returns, the observer is not called any more. One that is not there is no error.
  void remove(ExecObserver& observer) {
    const std::lock_guard guard(lock_);
    std::erase(observers_, &observer);
    wanted_ = !observers_.empty();
  }

 private:
  std::atomic<bool> wanted_{false};
  std::mutex lock_;
  std::vector<ExecObserver*> observers_;  // lock_
};

}  // namespace vm
