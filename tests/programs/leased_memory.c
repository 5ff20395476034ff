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

enum { kBuffer = 16 };  // pages

static void check_nothing_at(byte* at, size_t pages) {
  for (size_t page = 0; page < pages; ++page) {
    check(signal_of_load(at + page * PAGE) == SIGSEGV && fault_code == SEGV_MAPERR);
    check(signal_of_store(at + page * PAGE, 1) == SIGSEGV && fault_code == SEGV_MAPERR);
  }
}

// Linux 6.13.
static bool host_has_guards(void) {
  byte* at = (byte*)syscall(SYS_mmap, NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED);
  const bool has = syscall(SYS_madvise, at, PAGE, 102 /* MADV_GUARD_INSTALL */) == 0;
  check(syscall(SYS_munmap, at, PAGE) == 0);
  return has;
}

// To the host it is there still.
static bool is_kept(byte* at) {
  unsigned char there[kBuffer];
  return syscall(SYS_mincore, at, kBuffer * PAGE, there) == 0;
}

static void check_child_without(byte* at, pid_t child) {
  check(child >= 0);
  if (child != 0) return check_child(child);
  check_nothing_at(at, kBuffer);
  byte* own = map_private(kBuffer * PAGE);
  check(is_filled(own, kBuffer * PAGE, 0));
  memset(own, 9, kBuffer * PAGE);
  check(munmap(own, kBuffer * PAGE) == 0);
  _exit(0);
}

// A buffer that is mapped, touched and unmapped over and over: once it is unmapped there is nothing, for
// the program, the kernel, and its children, and when it is mapped again it is new.
static void buffers(char** arguments) {
  (void)arguments;
  int ends[2];
  check(pipe(ends) == 0);
  size_t kept = 0;
  for (size_t round = 0; round < 400; ++round) {
    byte* at = map_private(kBuffer * PAGE);
    if (round % 50 == 49) check(is_filled(at, kBuffer * PAGE, 0));
    const size_t page = round % 30 == 29 ? round % kBuffer : 3;
    check(is_filled(at + page * PAGE, PAGE, 0));
    memset(at + page * PAGE, 5, PAGE);
    // By a system call of its own, so that nobody hears of it.
    if (round % 20 == 10) check(syscall(SYS_mprotect, at + 2 * PAGE, 2 * PAGE, PROT_NONE) == 0);
    check(munmap(at, kBuffer * PAGE) == 0);
    kept += is_kept(at);
    check_nothing_at(at, kBuffer);
    check_error(EFAULT, write(ends[1], at + page * PAGE, 1) == -1);
    if (round % 40 == 20) check_child_without(at, fork());
    if (round % 40 == 30) check_child_without(at, clone_raw());
    if (round % 40 == 35) {
      unsigned char there[kBuffer];
      check_error(ENOMEM, mincore(at, kBuffer * PAGE, there) == -1);
    }
    if (round % 40 == 38) {
      byte* fixed = mmap(at, 4 * PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      check(fixed == at && is_filled(fixed, 4 * PAGE, 0));
      memset(fixed, 6, 4 * PAGE);
      check_nothing_at(at + 4 * PAGE, kBuffer - 4);
      check(munmap(fixed, 4 * PAGE) == 0);
    }
  }
  check(kept >= 200 || !host_has_guards());
}

struct intruder {
  _Atomic(byte*) at;
  atomic_bool over;
};

static void* intrude(void* argument) {
  struct intruder* intruder = argument;
  uint64_t state = 1;
  while (!atomic_load(&intruder->over)) {
    const int number = signal_of_load(atomic_load(&intruder->at) + next_number(&state) % kBuffer * PAGE);
    check(number == 0 || number == SIGSEGV);
  }
  return NULL;
}

// While another thread touches it all the time, mapped or not. Faults that are under way when it is
// unmapped put nothing there afterwards.
static void intruded(char** arguments) {
  const size_t rounds = strtoul(arguments[0], NULL, 10);
  struct intruder intruder = {map_private(kBuffer * PAGE), false};
  pthread_t id;
  check(pthread_create(&id, NULL, intrude, &intruder) == 0);
  for (size_t round = 0; round < rounds; ++round) {
    byte* at = map_private(kBuffer * PAGE);
    // Not all the time, or nothing would be kept.
    if (round % 16 < 8) atomic_store(&intruder.at, at);
    if (round % 16 == 8) atomic_store(&intruder.at, at + kBuffer * PAGE);
    at[3 * PAGE] = 7;
    check(munmap(at, kBuffer * PAGE) == 0);
    check_nothing_at(at, kBuffer);
  }
  atomic_store(&intruder.over, true);
  check(pthread_join(id, NULL) == 0);
}

// One page of each, never the first.
static void one_page(char** arguments) {
  (void)arguments;
  for (size_t round = 0; round < 1000; ++round) {
    byte* at = map_private(kBuffer * PAGE);
    check(at[3 * PAGE] == 0);
    at[3 * PAGE] = 1;
    check(munmap(at, kBuffer * PAGE) == 0);
  }
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

CASES(CASE(threads), CASE(forks), CASE(interrupted), CASE(again_and_again), CASE(filled), CASE(buffers),
      CASE(intruded), CASE(one_page), CASE(locked), CASE(shown))
