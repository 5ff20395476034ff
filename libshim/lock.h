// A lock that works in a program of threads, forks and signals: no allocation, no libc.
//
// It remembers which thread holds it. A vfork child or a thread that is killed with it held leaves
// it locked; whoever waits looks every second whether the holder still lives, and takes it over if
// not.
#pragma once

#include <linux/futex.h>
#include <stdint.h>
#include <time.h>

#include "libshim/syscall.h"

namespace shim {

/// Blocks every signal. Returns which were blocked before, for restore_signals().
inline uint64_t block_signals() {
  const uint64_t all = ~uint64_t{0};
  uint64_t old = 0;
  sys(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, &all, &old, sizeof(old));
  return old;
}
inline void restore_signals(uint64_t blocked) {
  sys(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, &blocked, 0, sizeof(blocked));
}

/// Blocks every signal for as long as it lives.
class SignalsBlocked {
 public:
  SignalsBlocked() : old_(block_signals()) {}
  ~SignalsBlocked() { restore_signals(old_); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  const uint64_t old_;
};

class Lock {
 public:
  void acquire() {
    const int self = static_cast<int>(sys(SYS_gettid));
    for (;;) {
      int free = 0;
      if (__atomic_compare_exchange_n(&holder_, &free, self, false, __ATOMIC_ACQUIRE,
                                      __ATOMIC_RELAXED)) {
        return;
      }
      const int holder = free;
      __atomic_fetch_add(&waiters_, 1, __ATOMIC_SEQ_CST);
      const timespec period{1, 0};
      const long slept = sys(SYS_futex, &holder_, FUTEX_WAIT, holder, &period, 0, 0);
      __atomic_fetch_sub(&waiters_, 1, __ATOMIC_SEQ_CST);
      constexpr long kTimedOut = -110;
      constexpr long kNoSuchProcess = -3;
      if (slept == kTimedOut && sys(SYS_tkill, holder, 0) == kNoSuchProcess) {
        int dead = holder;
        if (__atomic_compare_exchange_n(&holder_, &dead, self, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
          return;
        }
      }
    }
  }

  void release() {
    __atomic_store_n(&holder_, 0, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&waiters_, __ATOMIC_SEQ_CST) != 0) {
      sys(SYS_futex, &holder_, FUTEX_WAKE, 1, 0, 0, 0);
    }
  }

  /// In a forked child, where whoever held it does not exist.
  void reset() {
    holder_ = 0;
    waiters_ = 0;
  }

 private:
  int holder_ = 0;  // thread id; 0: free
  int waiters_ = 0;
};

}  // namespace shim
