// PageoutDaemon: makes room, in the manner of FreeBSD's.
//
//   active     pages in programs. A hand goes round each address space and takes out what it comes to
//   inactive   pages in the swap space that are nowhere else. A touch brings one back without I/O,
//              which is its second chance
//   laundry    inactive pages on their way to the pager, the oldest first, in clusters
//   clean      with the pager as well: dropped as soon as room is needed
//
// Clean pages of files go before anything is laundered: they cost nothing.
//
// The daemon works when less than Memory::free_min() is free, for as much as Memory::free_target().
// It waits for nobody: what it begins ends on other threads, which kick it again. When nothing has
// become free for some seconds although somebody waits, the largest program is ended that has not
// asked to be spared.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "vmserver/vm/machine.h"

namespace vm {

class PageoutDaemon {
 public:
  using Clock = std::chrono::steady_clock;
  /// `now`: what time it is; tests have their own.
  explicit PageoutDaemon(Machine& machine, std::function<Clock::time_point()> now = Clock::now);
  ~PageoutDaemon();
  PageoutDaemon(const PageoutDaemon&) = delete;
  PageoutDaemon& operator=(const PageoutDaemon&) = delete;

  /// Has a thread make passes when it is kicked, and now and then.
  void start();
  void stop();

  /// One pass. Returns whether it has begun or done anything. Without start(): for tests.
  bool pass();

 private:
  void run();
  void kick();
  bool shrink_to_limits();
  struct Recount {
    Clock::time_point at{};
    Clock::duration took{};
  };
  void recount(bool all, Recount& count);
  bool try_again();
  std::uint64_t take_from_programs(std::uint64_t most);
  std::uint64_t take_from_objects(std::uint64_t most);
  void look_whether_stuck(Clock::time_point now);
  void kill_largest();

  Machine& machine_;
  const std::function<Clock::time_point()> now_;
  std::size_t next_space_ = 0;
  std::size_t next_object_ = 0;
  Recount recount_;        // the last of all programs
  Recount short_recount_;  // the last of some
  Clock::time_point moved_{};
  std::uint64_t progress_ = 0;

  std::mutex lock_;
  std::condition_variable wake_;
  bool kicked_ = false;  // lock_
  bool ending_ = false;  // lock_
  std::thread thread_;
};

}  // namespace vm
