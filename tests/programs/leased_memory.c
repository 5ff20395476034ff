// Private memory that comes and goes, as malloc has it: programs map and unmap it by themselves where
// they may. What is new is zero, and what was stored stays, also in children.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "check.h"

#define BLOCKS 40

struct block {
  byte* at;
  size_t bytes;
  size_t pattern;
};

static uint64_t next_number(uint64_t* state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

static void map_block(struct block* block, uint64_t* state) {
  // Mostly small, some too large to be anything but a call.
  const uint64_t kind = next_number(state) % 16;
  block->bytes = PAGE * (1 + next_number(state) % (kind == 0 ? 2000 : kind < 4 ? 200 : 24));
  block->at = map_private(block->bytes);
  for (size_t at = 0; at < block->bytes; at += PAGE) check(is_filled(block->at + at, 64, 0));
  block->pattern = next_number(state);
  for (size_t at = 0; at < block->bytes; at += PAGE) {
    fill_pattern(block->at + at, 64, block->pattern + at);
  }
}

static void check_block(const struct block* block) {
  for (size_t at = 0; at < block->bytes; at += PAGE) {
    check(is_pattern(block->at + at, 64, block->pattern + at));
  }
}

static void unmap_block(struct block* block) {
  check_block(block);
  check(munmap(block->at, block->bytes) == 0);
  block->at = NULL;
}

// One step: something is mapped, or checked and unmapped, whole or in parts.
static void step(struct block* blocks, uint64_t* state) {
  struct block* block = &blocks[next_number(state) % BLOCKS];
  if (block->at == NULL) return map_block(block, state);
  switch (next_number(state) % 8) {
    case 0:
      check_block(block);
      if (block->bytes > PAGE) {
        block->bytes -= PAGE;
        check(munmap(block->at + block->bytes, PAGE) == 0);
      }
      break;
    case 1:
      check(mprotect(block->at, block->bytes, PROT_READ) == 0);
      check_block(block);
      check(mprotect(block->at, block->bytes, PROT_READ | PROT_WRITE) == 0);
      break;
    case 2:
      check(madvise(block->at, PAGE, MADV_DONTNEED) == 0);
      check(is_filled(block->at, 64, 0));
      fill_pattern(block->at, 64, block->pattern);
      break;
    default:
      unmap_block(block);
  }
}

struct worker {
  uint64_t state;
  size_t steps;
};

static void* work(void* argument) {
  struct worker* worker = argument;
  struct block blocks[BLOCKS] = {{0}};
  for (size_t i = 0; i < worker->steps; ++i) step(blocks, &worker->state);
  for (size_t i = 0; i < BLOCKS; ++i) {
    if (blocks[i].at != NULL) unmap_block(&blocks[i]);
  }
  return NULL;
}

// arguments[0]: steps of each of four threads; arguments[1]: the seed
static void threads(char** arguments) {
  struct worker workers[4];
  pthread_t ids[4];
  for (size_t i = 0; i < 4; ++i) {
    workers[i] = (struct worker){strtoull(arguments[1], NULL, 10) * 4 + i,
                                 strtoul(arguments[0], NULL, 10)};
    check(pthread_create(&ids[i], NULL, work, &workers[i]) == 0);
  }
  for (size_t i = 0; i < 4; ++i) check(pthread_join(ids[i], NULL) == 0);
}

static pid_t clone_raw(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL); }

// A child has all that was mapped, whoever forked it and whatever the other threads do meanwhile, and
// goes on by itself. arguments[0]: rounds; arguments[1]: the seed
static void forks(char** arguments) {
  const size_t rounds = strtoul(arguments[0], NULL, 10);
  struct worker other = {strtoull(arguments[1], NULL, 10), 200 * rounds};
  pthread_t id;
  check(pthread_create(&id, NULL, work, &other) == 0);
  uint64_t state = other.state + 1;
  struct block blocks[BLOCKS] = {{0}};
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < 20; ++i) step(blocks, &state);
    // Nothing of it has been touched when the child does.
    struct block last = {map_private(64 * PAGE), 64 * PAGE, 0};
    const bool raw = round % 2 == 0;
    const pid_t child = raw ? clone_raw() : fork();
    check(child >= 0);
    if (child == 0) {
      check(is_filled(last.at, 64 * PAGE, 0));
      memset(last.at, 1, 64 * PAGE);
      for (size_t i = 0; i < BLOCKS; ++i) {
        if (blocks[i].at != NULL) check_block(&blocks[i]);
      }
      for (size_t i = 0; i < 40; ++i) step(blocks, &state);
      check(is_filled(last.at, 64 * PAGE, 1));
      _exit(0);
    }
    check(munmap(last.at, last.bytes) == 0);
    check_child(child);
  }
  check(pthread_join(id, NULL) == 0);
}

// What takes the room away that was kept for the next mapping.
static void interrupted(char** arguments) {
  (void)arguments;
  byte* first = map_private(4 * PAGE);
  byte* second = map_private(4 * PAGE);
  byte* behind = (first > second ? first : second) + 4 * PAGE;
  // Right behind the last one, where the next would have gone.
  byte* fixed = mmap(behind, 8 * PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  check(fixed == behind);
  fill_pattern(fixed, 8 * PAGE, 5);
  byte* third = map_private(4 * PAGE);
  check(third + 4 * PAGE <= fixed || third >= fixed + 8 * PAGE);
  memset(third, 2, 4 * PAGE);
  check(is_pattern(fixed, 8 * PAGE, 5));
  // Behind the back of everybody.
  byte* taken = (byte*)syscall(SYS_mmap, third + 4 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  check(taken == third + 4 * PAGE);
  fill_pattern(taken, 4 * PAGE, 9);
  byte* fourth = map_private(4 * PAGE);
  memset(fourth, 3, 4 * PAGE);
  check(fourth != taken && is_pattern(taken, 4 * PAGE, 9));
  // Memory that is locked from now on, all of it.
  check(mlockall(MCL_FUTURE) == 0);
  byte* locked = map_private(4 * PAGE);
  unsigned char there[4] = {0};
  check(mincore(locked, 4 * PAGE, there) == 0);
  for (size_t i = 0; i < 4; ++i) check((there[i] & 1) != 0);
  check(munlockall() == 0);
  memset(map_private(4 * PAGE), 4, 4 * PAGE);
}

static void again_and_again(char** arguments) {
  (void)arguments;
  for (size_t round = 0; round < 1000; ++round) {
    byte* at = map_private(16 * PAGE);
    check(is_filled(at, 16 * PAGE, 0));
    at[15 * PAGE] = 1;
    check(munmap(at, 16 * PAGE) == 0);
  }
}

// Mappings of one size that are filled each time: the later ones come whole.
static void filled(char** arguments) {
  (void)arguments;
  enum { kCount = 64 };
  const size_t bytes = 200 * PAGE;
  byte* at[kCount];
  for (size_t i = 0; i < 2 * kCount; ++i) {
    if (i >= kCount) check(munmap(at[i % kCount], bytes) == 0);
    at[i % kCount] = map_private(bytes);
    check(is_filled(at[i % kCount], bytes, 0));
    memset(at[i % kCount], (int)i + 1, bytes);
  }
  const pid_t child = fork();
  check(child >= 0);
  for (size_t i = 0; i < kCount; ++i) {
    check(is_filled(at[i], bytes, (byte)(kCount + i + 1)));
    memset(at[i], child == 0, bytes);
    check(is_filled(at[i], bytes, child == 0));
  }
  if (child == 0) _exit(0);
  int status = -1;
  check(waitpid(child, &status, 0) == child && status == 0);
}

// Says where what it has by itself is, and goes on when it is told.
static void shown(char** arguments) {
  (void)arguments;
  map_private(PAGE);
  byte* at = map_private(6 * PAGE);
  check(mprotect(at, 2 * PAGE, PROT_READ) == 0);
  check(munmap(at + 4 * PAGE, PAGE) == 0);
  dprintf(STDOUT_FILENO, "%lx\n", (unsigned long)at);
  await_word();
}

// Locks a page with the server's help, and when it is told the next one without.
static void locked(char** arguments) {
  (void)arguments;
  map_private(PAGE);
  byte* at = map_private(4 * PAGE);
  memset(at, 1, 4 * PAGE);
  check(mlock(at, PAGE) == 0);
  dprintf(STDOUT_FILENO, "%lx\n", (unsigned long)at);
  await_word();
  check(mlock(at + PAGE, PAGE) == 0);
  dprintf(STDOUT_FILENO, "locked\n");
  await_word();
  check(munlock(at, 2 * PAGE) == 0);
}

CASES(CASE(threads), CASE(forks), CASE(interrupted), CASE(again_and_again), CASE(filled), CASE(locked), CASE(shown))
