// Has memory of every kind and ends in a certain way. arguments[0]: a file of 64 pages or more.
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

static byte* private_memory;
static byte* file_memory;

static void have_memory(const char* path) {
  const int file = open(path, O_RDWR);
  check(file >= 0);
  private_memory = map_private(64 * PAGE);
  memset(private_memory, 1, 32 * PAGE);
  memset(map_shared(64 * PAGE), 1, 32 * PAGE);
  file_memory = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(file_memory != MAP_FAILED);
  file_memory[0] = 0xee;
}

static void returns(char** arguments) { have_memory(arguments[0]); }

static void exits_quickly(char** arguments) {
  have_memory(arguments[0]);
  _exit(0);
}

static void aborts(char** arguments) {
  have_memory(arguments[0]);
  abort();
}

static void kills_itself(char** arguments) {
  have_memory(arguments[0]);
  raise(SIGKILL);
}

static void crashes(char** arguments) {
  have_memory(arguments[0]);
  check(mprotect(private_memory, PAGE, PROT_NONE) == 0);
  *(volatile byte*)private_memory = 1;
}

static void* exit_all(void* argument) {
  (void)argument;
  syscall(SYS_exit_group, 0);
  return NULL;
}

// While the first thread computes.
static void exits_from_thread(char** arguments) {
  have_memory(arguments[0]);
  pthread_t thread;
  check(pthread_create(&thread, NULL, exit_all, NULL) == 0);
  for (volatile unsigned long i = 0;; i = i + 1) continue;
}

static void* crash(void* argument) {
  (void)argument;
  check(mprotect(private_memory, PAGE, PROT_NONE) == 0);
  *(volatile byte*)private_memory = 1;
  return NULL;
}

static void crashes_in_thread(char** arguments) {
  have_memory(arguments[0]);
  pthread_t thread;
  check(pthread_create(&thread, NULL, crash, NULL) == 0);
  pause();
}

static void terminates_itself(char** arguments) {
  have_memory(arguments[0]);
  raise(SIGTERM);
}

static void forks_and_ends(char** arguments) {
  have_memory(arguments[0]);
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      private_memory[0] = 2;
      if (i % 2 == 0) map_private(PAGE)[0] = 1;
      _exit(0);
    }
    check_child(child);
  }
}

static void waits(char** arguments) {
  have_memory(arguments[0]);
  say("waiting\n");
  pause();
}

// Touches pages of the file that are not there until it is killed, or all have come.
static void waits_in_fault(char** arguments) {
  have_memory(arguments[0]);
  check(madvise(file_memory, 64 * PAGE, MADV_RANDOM) == 0);
  say("ready\n");
  await_word();
  say("touching\n");
  check(file_memory[50 * PAGE] == pattern_byte(50 * PAGE));
  say("touched\n");
}

// Waits in a fault, in one thread; another thread does, after a word, what ends them both.
static const char* way_to_end;

static void* end_when_told(void* argument) {
  (void)argument;
  await_word();
  if (strcmp(way_to_end, "exit_group") == 0) exit_all(NULL);
  if (strcmp(way_to_end, "crash") == 0) *(volatile byte*)NULL = 1;
  if (strcmp(way_to_end, "abort") == 0) abort();
  if (strcmp(way_to_end, "exec") == 0) execl("/bin/true", "true", (char*)NULL);
  return NULL;
}

// arguments[1]: exit_group, crash, abort or exec
static void ends_beside_fault(char** arguments) {
  have_memory(arguments[0]);
  way_to_end = arguments[1];
  check(madvise(file_memory, 64 * PAGE, MADV_RANDOM) == 0);
  pthread_t thread;
  say("ready\n");
  await_word();
  check(pthread_create(&thread, NULL, end_when_told, NULL) == 0);
  say("touching\n");
  check(file_memory[50 * PAGE] == pattern_byte(50 * PAGE));
  say("touched\n");
}

static void computes(char** arguments) {
  have_memory(arguments[0]);
  say("running\n");
  for (volatile unsigned long i = 0;; i = i + 1) {
  }
}

static void faults_for_ever(char** arguments) {
  have_memory(arguments[0]);
  say("running\n");
  for (;;) {
    byte* at = map_private(512 * PAGE);
    for (size_t page = 0; page < 512; ++page) at[page * PAGE] = 1;
    check(munmap(at, 512 * PAGE) == 0);
  }
}

// Also a forked child that has not made a call since.
static void reads_for_ever(char** arguments) {
  have_memory(arguments[0]);
  int ends[2];
  check(pipe(ends) == 0);
  say("running\n");
  char got = 0;
  check(read(ends[0], &got, 1) == 1);
}

static void child_reads_for_ever(char** arguments) {
  have_memory(arguments[0]);
  int ends[2];
  check(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) say("running\n");
  char got = 0;
  check(read(ends[0], &got, 1) == 1);
}

// Never stops looking whether its data is still what it stored. A zero where data was is the
// mistake that must not happen: it is said and ends the program with status 3.
static void verifies(char** arguments) {
  have_memory(arguments[0]);
  enum { PAGES = 8192 };
  byte* at = map_private(PAGES * PAGE);
  for (size_t i = 0; i < PAGES; ++i) at[i * PAGE] = (byte)(1 + i % 255);
  const int file = open(arguments[0], O_RDONLY);
  const byte* read_only = mmap(NULL, 64 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
  check(read_only != MAP_FAILED);
  check(madvise((void*)read_only, 64 * PAGE, MADV_RANDOM) == 0);
  say("running\n");
  for (size_t round = 0;; ++round) {
    // New reaches of the file all the time, so that some are absent when the server goes.
    const size_t page = 1 + round % 63;
    if (read_only[page * PAGE] != pattern_byte(page * PAGE)) break;
    if (file_memory[page * PAGE] != pattern_byte(page * PAGE)) break;
    const size_t i = round * 31 % PAGES;
    if (at[i * PAGE] != (byte)(1 + i % 255)) break;
    if (round % 64 == 0) madvise((void*)read_only, 64 * PAGE, MADV_DONTNEED);
  }
  dprintf(2, "data turned into something else\n");
  _exit(3);
}

// Stores, says so, and when told stores more and ends, leaving it all to the end.
static void stores_in_parts(char** arguments) {
  have_memory(arguments[0]);
  say("ready\n");
  await_word();
  file_memory[1] = 0xdd;
  check(file_memory[0] == 0xee);
  say("stored\n");
  await_word();
  check(msync(file_memory, 64 * PAGE, MS_SYNC) == 0);
}

CASES(CASE(returns), CASE(exits_quickly), CASE(aborts), CASE(kills_itself), CASE(crashes),
      CASE(exits_from_thread), CASE(crashes_in_thread), CASE(terminates_itself),
      CASE(ends_beside_fault), CASE(forks_and_ends), CASE(waits), CASE(waits_in_fault),
      CASE(computes), CASE(faults_for_ever), CASE(reads_for_ever), CASE(child_reads_for_ever),
      CASE(verifies), CASE(stores_in_parts))
