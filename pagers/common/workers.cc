#include "pagers/common/workers.h"

#include <utility>

namespace pager {

Workers::Workers(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { serve(); });
}

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
    arrived_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (ending_) return;
    auto work = kj::mv(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    work();
    lock.lock();
  }
}

}  // namespace pager
