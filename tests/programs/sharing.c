// Several programs on one file, which is arguments[0].
#include "check.h"

#include <fcntl.h>
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

CASES(CASE(in_step), CASE(counter), CASE(shows), CASE(own_pages))
