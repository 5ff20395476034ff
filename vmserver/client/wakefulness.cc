#include "vmserver/client/wakefulness.h"

#include <pthread.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <time.h>

#include <cerrno>
#include <cstring>

namespace server {
namespace {

/// More processors than that have other ways to be kept awake.
constexpr int kMostProcessors = 8;

void pause_a_little() {
  for (int i = 0; i < 64; ++i) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
}

}  // namespace

std::int64_t Wakefulness::now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

void Wakefulness::start() {
  if (period_.count() == 0) return;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) > kMostProcessors) {
    return;
  }
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (CPU_ISSET(processor, &allowed)) threads_.emplace_back([this, processor] { run(processor); });
  }
}

void Wakefulness::stop() {
  stopped_ = true;
  wake();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Wakefulness::wake() {
  awake_.store(1);
  awake_.notify_all();
}

void Wakefulness::run(int processor) {
  pthread_setname_np(pthread_self(), "vm-awake");
  sched_param none{};
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  if (sched_setscheduler(0, SCHED_IDLE, &none) != 0 ||
      sched_setaffinity(0, sizeof(one), &one) != 0) {
    spdlog::debug("processors are not kept awake: {}", std::strerror(errno));
    return;
  }
  for (;;) {
    awake_.wait(0);
    if (stopped_) return;
    while (now() < until_.load(std::memory_order_relaxed) && !stopped_) pause_a_little();
    awake_.store(0);
    // Something may have happened before that, and have found us awake.
    if (now() < until_.load()) awake_.store(1);
  }
}

}  // namespace server
