// Syncer: keeps mapped files and their objects alike, for programs that are not served: what served
// programs stored is in the file, and what others wrote is in the mappings, within a second.
//
// FreeBSD's syncer does the first of these for every file (vnode_pager; MAP_NOSYNC leaves it out).
// The second is what a kernel has for nothing, with one cache for everybody.
//
// A thread of its own, because a file system that hangs holds up whoever asks it for a file's times.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

namespace vm {

class Machine;

class Syncer {
 public:
  /// `machine` lives until stop() has returned.
  explicit Syncer(Machine& machine) : machine_(machine) {}
  ~Syncer() { stop(); }
  Syncer(const Syncer&) = delete;
  Syncer& operator=(const Syncer&) = delete;

  void start();
  /// Waits for the pass under way to end.
  void stop();

 private:
  void run();

  Machine& machine_;
  std::mutex lock_;
  std::condition_variable stop_;
  bool stopped_ = false;  // lock_
  std::thread thread_;
};

}  // namespace vm
