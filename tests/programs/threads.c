// Threads that change one address space at once.
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 8, MANY = 64 };

static unsigned long rounds;

static void* work(void* argument) {
  const size_t self = (size_t)(uintptr_t)argument;
  for (unsigned long round = 0; round < rounds; ++round) {
    const size_t pages = 1 + (round * 13 + self * 5) % 40;
    byte* at = round % 4 == 3 ? map_shared(pages * PAGE) : map_private(pages * PAGE);
    check(is_filled(at, pages * PAGE, 0));
    fill_pattern(at, pages * PAGE, self * 1000 + round);
    check(mprotect(at, pages * PAGE, PROT_READ) == 0);
    check(is_pattern(at, pages * PAGE, self * 1000 + round));
    check(mprotect(at, pages * PAGE, PROT_READ | PROT_WRITE) == 0);
    if (pages > 2) check(munmap(at + PAGE, PAGE) == 0);
    at[0] = (byte)self;
    check(at[0] == (byte)self);
    check(munmap(at, PAGE) == 0);
    if (pages > 2) {
      check(is_pattern(at + 2 * PAGE, (pages - 2) * PAGE, self * 1000 + round + 2 * PAGE));
      check(munmap(at + 2 * PAGE, (pages - 2) * PAGE) == 0);
    } else if (pages == 2) {
      check(munmap(at + PAGE, PAGE) == 0);
    }
  }
  return NULL;
}

// arguments[0]: rounds of each thread
static void concurrent(char** arguments) {
  rounds = strtoul(arguments[0], NULL, 10);
  pthread_t threads[THREADS];
  for (uintptr_t i = 0; i < THREADS; ++i) {
    check(pthread_create(&threads[i], NULL, work, (void*)i) == 0);
  }
  for (size_t i = 0; i < THREADS; ++i) check(pthread_join(threads[i], NULL) == 0);
}

// Sixty-four threads, some on the same file. arguments[0]: rounds of each thread; [1]: a file of 64
// pages with the pattern
static int file = -1;

static void* work_with_file(void* argument) {
  const size_t self = (size_t)(uintptr_t)argument;
  for (unsigned long round = 0; round < rounds; ++round) {
    const bool private = (round + self) % 2 == 0;
    const size_t first = (round * 7 + self) % 32;
    byte* at = mmap(NULL, 32 * PAGE, PROT_READ | (private ? PROT_WRITE : 0),
                    private ? MAP_PRIVATE : MAP_SHARED, file, (off_t)(first * PAGE));
    check(at != MAP_FAILED);
    check(is_pattern(at, 32 * PAGE, first * PAGE));
    if (private) {
      memset(at + PAGE, (int)self, PAGE);
      check(is_filled(at + PAGE, PAGE, (byte)self));
    }
    check(munmap(at, 32 * PAGE) == 0);
  }
  return NULL;
}

static void sixty_four(char** arguments) {
  rounds = strtoul(arguments[0], NULL, 10);
  file = open(arguments[1], O_RDWR);
  check(file >= 0);
  pthread_t threads[MANY];
  for (uintptr_t i = 0; i < MANY; ++i) {
    check(pthread_create(&threads[i], NULL, i % 4 == 3 ? work_with_file : work, (void*)i) == 0);
  }
  for (size_t i = 0; i < MANY; ++i) check(pthread_join(threads[i], NULL) == 0);
}

static byte* shared_region;
static size_t region_bytes;

static void* touch_region(void* argument) {
  const size_t self = (size_t)(uintptr_t)argument;
  for (size_t i = 0; i < region_bytes; i += PAGE) shared_region[i + self] = (byte)(self + 1);
  return NULL;
}

// All threads fault on the same pages at once; nobody's store is lost. arguments[0]: MiB
static void same_pages(char** arguments) {
  region_bytes = strtoul(arguments[0], NULL, 10) << 20;
  for (int shared = 0; shared < 2; ++shared) {
    shared_region = shared ? map_shared(region_bytes) : map_private(region_bytes);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; ++i) {
      check(pthread_create(&threads[i], NULL, touch_region, (void*)i) == 0);
    }
    for (size_t i = 0; i < THREADS; ++i) check(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < region_bytes; i += PAGE) {
      for (size_t j = 0; j < THREADS; ++j) check(shared_region[i + j] == j + 1);
    }
    check(munmap(shared_region, region_bytes) == 0);
  }
}

static _Atomic(byte*) target;
static atomic_ulong faulted;
static atomic_bool stop;

static void* touch_target(void* argument) {
  (void)argument;
  size_t page = 0;
  while (!stop) {
    byte* at = target;
    if (at == NULL) continue;
    // At most the page is absent for good, or holds what this thread stored.
    if (signal_of_store(at + page % 64 * PAGE, 1) == SIGSEGV) ++faulted;
    page += 3;
  }
  return NULL;
}

// arguments[0]: rounds. The toucher gets SIGSEGV or touches a living mapping; it never hangs.
static void touch_while_unmapping(char** arguments) {
  const unsigned long count = strtoul(arguments[0], NULL, 10);
  pthread_t toucher;
  catch_faults();
  check(pthread_create(&toucher, NULL, touch_target, NULL) == 0);
  for (unsigned long round = 0; round < count || faulted == 0; ++round) {
    byte* at = map_private(64 * PAGE);
    target = at;
    for (size_t page = 0; page < 64; page += 2) at[page * PAGE + 1] = 2;
    check(munmap(at, 64 * PAGE) == 0);
  }
  stop = true;
  check(pthread_join(toucher, NULL) == 0);
}

// The kernel faults on the program's behalf while another thread takes the range away: that is
// EFAULT, or it was in time. arguments[0]: rounds; [1]: a file of 64 pages with the pattern

static atomic_int turn;  // the round that both sides are in
static _Atomic(byte*) contended;
static atomic_ulong refused;
static atomic_ulong done_in_time;

static void* unmap_contended(void* argument) {
  (void)argument;
  for (int round = 1; round <= (int)rounds; ++round) {
    while (turn < round) continue;
    for (volatile int delay = round % 16 * 500; delay > 0; delay = delay - 1) continue;
    check(munmap(contended, 64 * PAGE) == 0);
    contended = NULL;
  }
  return NULL;
}

static void count_outcome(ssize_t result) {
  if (result < 0) {
    check(errno == EFAULT);
    ++refused;
  } else {
    ++done_in_time;
  }
}

static void kernel_access_while_unmapping(char** arguments) {
  rounds = strtoul(arguments[0], NULL, 10);
  file = open(arguments[1], O_RDWR);
  check(file >= 0);
  const int zeroes = open("/dev/zero", O_RDONLY);
  const int sink = memfd_create("sink", 0);
  check(zeroes >= 0 && sink >= 0);
  pthread_t thread;
  check(pthread_create(&thread, NULL, unmap_contended, NULL) == 0);
  for (int round = 1; round <= (int)rounds; ++round) {
    byte* at = round % 2 == 0 ? map_private(64 * PAGE)
                              : mmap(NULL, 64 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    check(at != MAP_FAILED);
    contended = at;
    turn = round;
    count_outcome(round % 2 == 0 ? read(zeroes, at, 64 * PAGE) : pwrite(sink, at, 64 * PAGE, 0));
    while (contended != NULL) continue;
  }
  check(pthread_join(thread, NULL) == 0);
  check(refused + done_in_time == rounds);
}

static void* map_for_ever(void* argument) {
  (void)argument;
  for (;;) {
    byte* at = map_private(8 * PAGE);
    at[0] = 1;
    check(munmap(at, 8 * PAGE) == 0);
  }
  return NULL;
}

// Ends while its threads are in the middle of calls and faults. arguments[0]: exit or _exit
static void end_while_mapping(char** arguments) {
  pthread_t thread;
  for (size_t i = 0; i < 4; ++i) check(pthread_create(&thread, NULL, map_for_ever, NULL) == 0);
  for (size_t i = 0; i < 20; ++i) {
    byte* at = map_private(100 * PAGE);
    memset(at, 1, 100 * PAGE);
    check(munmap(at, 100 * PAGE) == 0);
  }
  if (strcmp(arguments[0], "exit") == 0) exit(0);
  _exit(0);
}

// Becomes another program while its threads are in the middle of calls. arguments: the program
static void exec_while_mapping(char** arguments) {
  pthread_t thread;
  for (size_t i = 0; i < 4; ++i) check(pthread_create(&thread, NULL, map_for_ever, NULL) == 0);
  map_private(100 * PAGE)[0] = 1;
  execv(arguments[0], arguments);
  check(false);
}

CASES(CASE(concurrent), CASE(sixty_four), CASE(kernel_access_while_unmapping), CASE(same_pages),
      CASE(touch_while_unmapping), CASE(end_while_mapping), CASE(exec_while_mapping))
