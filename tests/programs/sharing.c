// Several programs on one file, which is arguments[0].
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>

// Every program counts in its own page up to the end, and waits at each step for all others.
// arguments[1]: which program this is, from 0; [2]: how many there are.
static void in_step(char** arguments) {
  const size_t self = strtoul(arguments[1], NULL, 10);
  const size_t count = strtoul(arguments[2], NULL, 10);
  const int file = open(arguments[0], O_RDWR);
  check(file >= 0);
  byte* at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  enum { STEPS = 200 };
  for (unsigned step = 1; step <= STEPS; ++step) {
    *(atomic_uint*)(at + self * PAGE) = step;
    for (size_t i = 0; i < count; ++i) {
      while (*(atomic_uint*)(at + i * PAGE) < step) sched_yield();
    }
  }
}

enum { SEEN = 16 };

struct reader {
  const byte* at;  // SEEN pages
  atomic_bool ends;
};

static void* read_on(void* argument) {
  const struct reader* reader = argument;
  // For a moment a new mapping cannot be read.
  fault_is_expected = 1;
  (void)sigsetjmp(fault_return, 1);
  for (size_t i = 0; !atomic_load(&reader->ends); i = (i + 1) % SEEN) {
    (void)*(const volatile byte*)(reader->at + i * PAGE);
  }
  return NULL;
}

// One thread reads what another one maps, over and over: some pages of the file, then private
// memory in their place. None of that changes the file. arguments[1]: rounds
static void replaced(char** arguments) {
  const int file = open(arguments[0], O_RDWR);
  struct stat status;
  check(file >= 0 && fstat(file, &status) == 0);
  const size_t bytes = (size_t)status.st_size;
  catch_faults();
  byte* seen = map_private(SEEN * PAGE);
  struct reader reader = {.at = seen};
  enum { THREADS = 4 };
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; ++i) {
    check(pthread_create(&threads[i], NULL, read_on, &reader) == 0);
  }
  const size_t rounds = strtoul(arguments[1], NULL, 10);
  for (size_t round = 0; round < rounds; ++round) {
    const size_t at = round * SEEN * PAGE % bytes;
    check(mmap(seen, SEEN * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file,
               (off_t)at) == seen);
    check(madvise(seen, SEEN * PAGE, MADV_RANDOM) == 0);
    check(mmap(seen, SEEN * PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == seen);
  }
  atomic_store(&reader.ends, true);
  for (int i = 0; i < THREADS; ++i) check(pthread_join(threads[i], NULL) == 0);
  const byte* all = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
  check(all != MAP_FAILED);
  check(is_pattern(all, bytes, 0));
}

// All increment one counter.
static void counter(char** arguments) {
  const int file = open(arguments[0], O_RDWR);
  check(file >= 0);
  byte* at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  for (int i = 0; i < 10000; ++i) ++*(atomic_uint*)at;
}

// arguments[1]: an offset, [2]: the byte that must be there
static void shows(char** arguments) {
  const int file = open(arguments[0], O_RDONLY);
  check(file >= 0);
  const byte* at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  check(at[strtoul(arguments[1], NULL, 10)] == strtoul(arguments[2], NULL, 10));
}

// Stores into each page whose number is arguments[1] modulo [2]; ends as [3] says.
static void own_pages(char** arguments) {
  const size_t self = strtoul(arguments[1], NULL, 10);
  const size_t count = strtoul(arguments[2], NULL, 10);
  const int file = open(arguments[0], O_RDWR);
  struct stat status;
  check(file >= 0 && fstat(file, &status) == 0);
  const size_t bytes = (size_t)status.st_size;
  byte* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  for (size_t page = self; page * PAGE < bytes; page += count) {
    memset(at + page * PAGE, (int)self + 1, PAGE);
  }
  if (strcmp(arguments[3], "kill") == 0) raise(SIGKILL);
}

CASES(CASE(in_step), CASE(counter), CASE(replaced), CASE(shows), CASE(own_pages))
