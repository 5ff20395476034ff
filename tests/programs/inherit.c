// minherit(INHERIT_SHARE) of private memory and minherit(INHERIT_COPY) of shared memory, which the
// host itself has no word for.
#include "check.h"
#include "minherit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#define PAGES ((size_t)256)

static void share_private(char** arguments) {
  (void)arguments;
  byte* at = map_private(PAGES * PAGE);
  fill_pattern(at, PAGES / 2 * PAGE, 0);
  check(minherit(at, PAGES * PAGE, INHERIT_SHARE) == 0);
  check(is_pattern(at, PAGES / 2 * PAGE, 0));
  check(is_filled(at + PAGES / 2 * PAGE, PAGE, 0));
  const pid_t child = fork();
  if (child == 0) {
    check(is_pattern(at, PAGES / 2 * PAGE, 0));
    memset(at, 0x33, PAGE);                        // was there
    memset(at + (PAGES - 1) * PAGE, 0x44, PAGE);   // nobody had touched it
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      at[PAGE] = 0x55;
      _exit(0);
    }
    check_child(grandchild);
    _exit(0);
  }
  check_child(child);
  check(is_filled(at, PAGE, 0x33));
  check(is_filled(at + (PAGES - 1) * PAGE, PAGE, 0x44));
  check(at[PAGE] == 0x55);
  check(munmap(at, PAGES * PAGE) == 0);
}

// A part of a mapping; the rest stays private.
static void share_part(char** arguments) {
  (void)arguments;
  byte* at = map_private(8 * PAGE);
  fill_pattern(at, 8 * PAGE, 0);
  check(minherit(at + 2 * PAGE + 7, 2 * PAGE, INHERIT_SHARE) == 0);  // rounded: pages 2 to 4
  const pid_t child = fork();
  if (child == 0) {
    memset(at, 0xee, 8 * PAGE);
    _exit(0);
  }
  check_child(child);
  check(is_pattern(at, 2 * PAGE, 0));
  check(is_filled(at + 2 * PAGE, 3 * PAGE, 0xee));
  check(is_pattern(at + 5 * PAGE, 3 * PAGE, 5 * PAGE));
}

struct writer {
  byte* at;
  atomic_bool stop;
  atomic_ulong rounds;
};

// Counts in every page, and never finds another number there than it left.
static void* count_up(void* context) {
  struct writer* writer = context;
  unsigned long number = 0;
  while (!atomic_load(&writer->stop)) {
    for (size_t page = 0; page < PAGES; ++page) {
      volatile unsigned long* cell = (volatile unsigned long*)(writer->at + page * PAGE);
      check(*cell == number);
      *cell = number + 1;
    }
    ++number;
    atomic_store(&writer->rounds, number);
  }
  return NULL;
}

static void share_while_stored_to(char** arguments) {
  (void)arguments;
  for (int round = 0; round < 20; ++round) {
    struct writer writer = {.at = map_private(PAGES * PAGE)};
    pthread_t thread;
    check(pthread_create(&thread, NULL, count_up, &writer) == 0);
    while (atomic_load(&writer.rounds) < 3) continue;
    check(minherit(writer.at, PAGES * PAGE, INHERIT_SHARE) == 0);
    const unsigned long before = atomic_load(&writer.rounds);
    while (atomic_load(&writer.rounds) < before + 3) continue;
    atomic_store(&writer.stop, true);
    check(pthread_join(thread, NULL) == 0);
    const unsigned long rounds = atomic_load(&writer.rounds);
    for (size_t page = 0; page < PAGES; ++page) {
      check(*(unsigned long*)(writer.at + page * PAGE) == rounds);
    }
    check(munmap(writer.at, PAGES * PAGE) == 0);
  }
}

// The kernel stores there, too.
static void share_and_read_into(char** arguments) {
  (void)arguments;
  byte* at = map_private(4 * PAGE);
  check(minherit(at, 4 * PAGE, INHERIT_SHARE) == 0);
  int ends[2];
  check(pipe(ends) == 0);
  check(write(ends[1], "abcd", 4) == 4);
  check(read(ends[0], at + 2 * PAGE - 2, 4) == 4);
  const pid_t child = fork();
  if (child == 0) {
    check(memcmp(at + 2 * PAGE - 2, "abcd", 4) == 0);
    at[2 * PAGE] = 'X';
    _exit(0);
  }
  check_child(child);
  check(memcmp(at + 2 * PAGE - 2, "abXd", 4) == 0);
}

static void copy_both_ways(byte* at, size_t pages) {
  check(minherit(at, pages * PAGE, INHERIT_COPY) == 0);
  int ends[2];
  check(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char go = 0;
    check(read(ends[0], &go, 1) == 1);
    check(is_pattern(at, pages * PAGE, 0));
    memset(at, 0x11, pages * PAGE);
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      check(is_filled(at, pages * PAGE, 0x11));
      memset(at, 0x22, pages * PAGE);
      _exit(0);
    }
    check_child(grandchild);
    check(is_filled(at, pages * PAGE, 0x11));
    _exit(0);
  }
  check(child > 0);
  memset(at, 0x99, pages * PAGE);
  check(write(ends[1], "x", 1) == 1);
  check_child(child);
  check(is_filled(at, pages * PAGE, 0x99));
  // It is shared as before with whoever maps it, and can be with children again.
  check(minherit(at, pages * PAGE, INHERIT_SHARE) == 0);
  const pid_t sharing = fork();
  if (sharing == 0) {
    memset(at, 0x77, PAGE);
    _exit(0);
  }
  check_child(sharing);
  check(is_filled(at, PAGE, 0x77));
}

static void copy_shared(char** arguments) {
  (void)arguments;
  byte* at = map_shared(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  copy_both_ways(at, 64);
}

// More ranges than one answer carries.
static void copy_many(char** arguments) {
  (void)arguments;
  enum { kMappings = 60 };
  byte* at[kMappings];
  for (int i = 0; i < kMappings; ++i) {
    at[i] = map_shared(3 * PAGE);
    fill_pattern(at[i], 3 * PAGE, (size_t)i);
    check(minherit(at[i] + PAGE, PAGE, INHERIT_COPY) == 0);
  }
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < kMappings; ++i) {
      check(is_pattern(at[i], 3 * PAGE, (size_t)i));
      memset(at[i], 0x11, 3 * PAGE);
    }
    _exit(0);
  }
  check_child(child);
  for (int i = 0; i < kMappings; ++i) {
    check(is_filled(at[i], PAGE, 0x11));
    check(is_pattern(at[i] + PAGE, PAGE, (size_t)i + PAGE));
    check(is_filled(at[i] + 2 * PAGE, PAGE, 0x11));
  }
}

static void copy_file(char** arguments) {
  const int file = open(arguments[0], O_RDWR);
  check(file >= 0);
  byte* at = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  copy_both_ways(at, 64);  // none of its pages has been touched
}

static void zero(char** arguments) {
  (void)arguments;
  byte* own = map_private(4 * PAGE);
  byte* shared = map_shared(4 * PAGE);
  fill_pattern(own, 4 * PAGE, 0);
  fill_pattern(shared, 4 * PAGE, 0);
  check(minherit(own, 4 * PAGE, INHERIT_ZERO) == 0);
  check(minherit(shared, 4 * PAGE, INHERIT_ZERO) == 0);
  const pid_t child = fork();
  if (child == 0) {
    check(is_filled(own, 4 * PAGE, 0));
    check(is_filled(shared, 4 * PAGE, 0));
    memset(shared, 1, 4 * PAGE);
    _exit(0);
  }
  check_child(child);
  check(is_pattern(own, 4 * PAGE, 0));
  check(is_pattern(shared, 4 * PAGE, 0));
}

CASES(CASE(share_private), CASE(share_part), CASE(share_while_stored_to),
      CASE(share_and_read_into), CASE(copy_shared), CASE(copy_many), CASE(copy_file), CASE(zero))
