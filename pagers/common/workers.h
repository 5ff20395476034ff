// Workers: threads for what would hold up the event loop.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <kj/async.h>
#include <kj/function.h>
#include <kj/memory.h>

namespace pager {

/// How a request ended: Status in pager.capnp.
struct Outcome {
  int error = 0;
  std::string what;
};

class Workers {
 public:
  /// Up to `most` threads, started when there is work for them.
  explicit Workers(unsigned most) : most_(most) {}
  /// Lets each thread finish what it is at; drops the rest.
  ~Workers();

  /// Runs `work` on one of the threads, which inherit the signal mask of whoever calls this first.
  /// The promise belongs to the caller's event loop; dropping it does not stop the work.
  kj::Promise<kj::Own<Outcome>> run(kj::Function<Outcome()> work);

 private:
  void serve();

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<kj::Function<void()>> waiting_;  ///< guarded by mutex_
  bool ending_ = false;                       ///< guarded by mutex_
  std::size_t idle_ = 0;                      ///< guarded by mutex_; threads that wait for work
  const unsigned most_;
  std::vector<std::thread> threads_;  ///< of whoever calls run(), which is one thread
};

}  // namespace pager
