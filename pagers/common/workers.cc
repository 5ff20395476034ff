#include "pagers/common/workers.h"

#include <system_error>
#include <utility>

namespace pager {

Workers::~Workers() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  arrived_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

kj::Promise<kj::Own<Outcome>> Workers::run(kj::Function<Outcome()> work) {
  auto pair = kj::newPromiseAndCrossThreadFulfiller<kj::Own<Outcome>>();
  bool enough = true;
  {
    const std::lock_guard lock(mutex_);
    enough = waiting_.size() < idle_ || threads_.size() == most_;
  }
  if (!enough) {
    try {
      threads_.emplace_back([this] { serve(); });
    } catch (const std::system_error&) {
      if (threads_.empty()) throw;  // else those there are will come to it
    }
  }
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back([work = kj::mv(work), fulfiller = kj::mv(pair.fulfiller)]() mutable {
      fulfiller->fulfill(kj::heap<Outcome>(work()));
    });
  }
  arrived_.notify_one();
  return kj::mv(pair.promise);
}

void Workers::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    arrived_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    --idle_;
    if (ending_) return;
    auto work = kj::mv(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    work();
    lock.lock();
  }
}

}  // namespace pager
