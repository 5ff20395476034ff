// Wakefulness: keeps processors from halting for a moment after something has happened.
//
// A program that makes a call or has a fault sleeps until the server has answered, and the server
// sleeps until the next one. With nothing else to do the processors halt in between, and to wake one
// up costs more than all the rest; in a virtual machine, where it takes the hypervisor, ten times as
// much. So for some 100 µs after each call and fault a thread of the lowest class (SCHED_IDLE) spins on
// every processor. Whatever else wants to run runs at once instead of it.
//
// Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace server {

class Wakefulness {
 public:
  /// `period`: how long after the last event; zero: not at all.
  explicit Wakefulness(std::chrono::microseconds period) : period_(period) {}
  ~Wakefulness() { stop(); }
  Wakefulness(const Wakefulness&) = delete;
  Wakefulness& operator=(const Wakefulness&) = delete;

  void start();
  void stop();

  /// A call or a fault has come.
  void event() {
    if (threads_.empty()) return;
    until_.store(now() + period_.count() * 1000, std::memory_order_relaxed);
    if (awake_.load(std::memory_order_relaxed) == 0) wake();
  }

 private:
  static std::int64_t now();
  void wake();
  void run(int processor);

  const std::chrono::microseconds period_;
  std::vector<std::thread> threads_;
  std::atomic<std::int64_t> until_{0};
  std::atomic<std::uint32_t> awake_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace server
