// Stacks in managed memory: of threads, of signal handlers, and deep ones.
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/time.h>

#define MIB ((size_t)1 << 20)

static atomic_ulong handled;

static void count(int number) {
  byte used[3 * PAGE];
  memset(used, number, sizeof(used));
  check(is_filled(used, sizeof(used), (byte)number));
  ++handled;
}

static size_t descend(size_t depth) {
  volatile byte frame[1000];
  frame[0] = (byte)depth;
  frame[999] = (byte)depth;
  const size_t below = depth == 0 ? 0 : descend(depth - 1);
  check(frame[0] == (byte)depth && frame[999] == (byte)depth);
  return below + 1;
}

static void* run_deep(void* argument) {
  check(descend((size_t)(uintptr_t)argument) == (size_t)(uintptr_t)argument + 1);
  return NULL;
}

static pthread_t start_on(byte* stack, size_t bytes, void* (*function)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_t thread;
  check(pthread_attr_init(&attributes) == 0);
  check(pthread_attr_setstack(&attributes, stack, bytes) == 0);
  check(pthread_create(&thread, &attributes, function, argument) == 0);
  return thread;
}

static void of_threads(char** arguments) {
  (void)arguments;
  enum { THREADS = 8 };
  pthread_t threads[THREADS];
  byte* stacks[THREADS];
  for (size_t i = 0; i < THREADS; ++i) {
    stacks[i] = map_private(8 * MIB);
    threads[i] = start_on(stacks[i], 8 * MIB, run_deep, (void*)(uintptr_t)(5000 + i));
  }
  for (size_t i = 0; i < THREADS; ++i) {
    check(pthread_join(threads[i], NULL) == 0);
    check(munmap(stacks[i], 8 * MIB) == 0);
  }
}

static void* wait_for_signals(void* argument) {
  while (handled < (size_t)(uintptr_t)argument) {
  }
  return NULL;
}

// The kernel itself puts signal frames onto pages that were never touched. arguments[0]: how many
static void of_signals(char** arguments) {
  const size_t times = strtoul(arguments[0], NULL, 10);
  struct sigaction action = {.sa_handler = count};
  check(sigaction(SIGALRM, &action, NULL) == 0);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  byte* stack = map_private(MIB);
  const pthread_t thread = start_on(stack, MIB, wait_for_signals, (void*)(uintptr_t)times);
  check(pthread_sigmask(SIG_BLOCK, &alarm_only, NULL) == 0);
  const struct itimerval period = {{0, 500}, {0, 500}};
  check(setitimer(ITIMER_REAL, &period, NULL) == 0);
  check(pthread_join(thread, NULL) == 0);
}

// An alternate signal stack that is fresh for each signal.
static void alternate(char** arguments) {
  (void)arguments;
  struct sigaction action = {.sa_handler = count, .sa_flags = SA_ONSTACK};
  check(sigaction(SIGUSR1, &action, NULL) == 0);
  for (size_t i = 1; i <= 50; ++i) {
    byte* at = map_private(64 * PAGE);
    const stack_t stack = {.ss_sp = at, .ss_size = 64 * PAGE};
    check(sigaltstack(&stack, NULL) == 0);
    check(raise(SIGUSR1) == 0);
    check(handled == i);
  }
}

CASES(CASE(of_threads), CASE(of_signals), CASE(alternate))
