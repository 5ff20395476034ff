#include "vmserver/vm/syncer.h"

#include <chrono>

#include <pthread.h>

#include "vmserver/vm/machine.h"

namespace vm {

namespace {

// Half of what is promised: a page-out that one pass starts is done before the second is over.
constexpr std::chrono::milliseconds kPeriod{500};

}  // namespace

void Syncer::start() {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "syncer");
}

void Syncer::stop() {
  {
    const std::lock_guard guard(lock_);
    stopped_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Syncer::run() {
  std::unique_lock guard(lock_);
  while (!stop_.wait_for(guard, kPeriod, [this] { return stopped_; })) {
    guard.unlock();
    for (const auto& object : machine_.objects().all()) object->sync_with_file();
    guard.lock();
  }
}

}  // namespace vm
