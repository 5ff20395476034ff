// madvise, posix_madvise and minherit.
#include "check.h"
#include "minherit.h"

#include <fcntl.h>

static void dontneed_zeroes(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  check(madvise(at + 8 * PAGE, 16 * PAGE, MADV_DONTNEED) == 0);
  check(is_pattern(at, 8 * PAGE, 0));
  check(is_filled(at + 8 * PAGE, 16 * PAGE, 0));
  check(is_pattern(at + 24 * PAGE, 40 * PAGE, 24 * PAGE));
  fill_pattern(at + 8 * PAGE, 16 * PAGE, 8 * PAGE);
  check(is_pattern(at, 64 * PAGE, 0));
}

static void dontneed_keeps_shared(char** arguments) {
  (void)arguments;
  byte* at = map_shared(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  check(madvise(at, 64 * PAGE, MADV_DONTNEED) == 0);
  check(is_pattern(at, 64 * PAGE, 0));
}

// arguments[0]: a file of 4 pages
static void dontneed_file(char** arguments) {
  const int file = open(arguments[0], O_RDWR);
  check(file >= 0);
  byte* at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  check(at != MAP_FAILED);
  memset(at, 0xee, 4 * PAGE);
  check(madvise(at, 4 * PAGE, MADV_DONTNEED) == 0);
  check(is_pattern(at, 4 * PAGE, 0));
  byte* shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(shared != MAP_FAILED);
  memset(shared, 0xdd, 4 * PAGE);
  check(madvise(shared, 4 * PAGE, MADV_DONTNEED) == 0);
  check(is_filled(shared, 4 * PAGE, 0xdd));
  check(msync(shared, 4 * PAGE, MS_SYNC) == 0);
  byte read_back[4 * PAGE];
  check(pread(file, read_back, sizeof(read_back), 0) == (ssize_t)sizeof(read_back));
  check(is_filled(read_back, sizeof(read_back), 0xdd));
}

static void hints(char** arguments) {
  (void)arguments;
  static const int advice[] = {MADV_NORMAL,   MADV_RANDOM,    MADV_SEQUENTIAL, MADV_WILLNEED,
                               MADV_DONTDUMP, MADV_DODUMP,    MADV_HUGEPAGE,   MADV_NOHUGEPAGE,
                               MADV_COLD,     MADV_MERGEABLE, MADV_PAGEOUT};
  byte* at = map_private(64 * PAGE);
  byte* shared = map_shared(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  fill_pattern(shared, 64 * PAGE, 0);
  for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); ++i) {
    check(madvise(at, 64 * PAGE, advice[i]) == 0);
    check(madvise(shared + PAGE, 7 * PAGE, advice[i]) == 0);
    check(is_pattern(at, 64 * PAGE, 0));
    check(is_pattern(shared, 64 * PAGE, 0));
  }
  check(posix_madvise(at, 64 * PAGE, POSIX_MADV_DONTNEED) == 0);
  check(is_pattern(at, 64 * PAGE, 0));
}

// After MADV_FREE a page holds what it held, or zeroes; stored to, it is kept again.
static void free_then_store(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  check(madvise(at, 64 * PAGE, MADV_FREE) == 0);
  for (size_t page = 0; page < 64; ++page) {
    byte* there = at + page * PAGE;
    check(is_pattern(there, PAGE, page * PAGE) || is_filled(there, PAGE, 0));
    memset(there, (int)page + 1, PAGE);
  }
  for (size_t page = 0; page < 64; ++page) check(is_filled(at + page * PAGE, PAGE, page + 1));
}

static void populate(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  byte core[64];
  check(madvise(at, 64 * PAGE, 23 /* MADV_POPULATE_WRITE */) == 0);
  check(mincore(at, 64 * PAGE, core) == 0);
  for (size_t page = 0; page < 64; ++page) check((core[page] & 1) != 0);
  check(is_filled(at, 64 * PAGE, 0));
}

static void remove_punches(char** arguments) {
  (void)arguments;
  byte* at = map_shared(16 * PAGE);
  fill_pattern(at, 16 * PAGE, 0);
  check(madvise(at + 4 * PAGE, 4 * PAGE, MADV_REMOVE) == 0);
  check(is_pattern(at, 4 * PAGE, 0));
  check(is_filled(at + 4 * PAGE, 4 * PAGE, 0));
  check(is_pattern(at + 8 * PAGE, 8 * PAGE, 8 * PAGE));
}

static void unknown(char** arguments) {
  (void)arguments;
  byte* at = map_private(PAGE);
  check_error(EINVAL, madvise(at, PAGE, 9999) == -1);
  check_error(EINVAL, madvise(at, SIZE_MAX, MADV_NORMAL) == -1);
  check_error(EINVAL, minherit(at, PAGE, 3) == -1);  // INHERIT_ZERO came after freebsd-7
  check_error(EINVAL, minherit(at, PAGE, 99) == -1);
  errno = 0;
  check(posix_madvise(at, PAGE, 9999) == EINVAL && errno == 0);
}

static pid_t in_child(void (*function)(byte*), byte* at) {
  const pid_t child = fork();
  if (child != 0) return child;
  function(at);
  _exit(0);
}

static void check_absent(byte* at) {
  check(signal_of_load(at) == SIGSEGV);
  check(is_pattern(at + 4 * PAGE, 4 * PAGE, 4 * PAGE));
  // The room is the child's to use again.
  byte* new = map_private(16 * PAGE);
  fill_pattern(new, 16 * PAGE, 7);
  check(is_pattern(new, 16 * PAGE, 7));
}

static void check_zeroed(byte* at) {
  check(is_filled(at, 4 * PAGE, 0));
  check(is_pattern(at + 4 * PAGE, 4 * PAGE, 4 * PAGE));
}

static void check_there(byte* at) { check(is_pattern(at, 8 * PAGE, 0)); }

static void inherit_none(char** arguments) {
  (void)arguments;
  byte* at = map_private(8 * PAGE);
  fill_pattern(at, 8 * PAGE, 0);
  check(minherit(at, 4 * PAGE, INHERIT_NONE) == 0);
  check_child(in_child(check_absent, at));
  check(is_pattern(at, 8 * PAGE, 0));
  check(minherit(at, 4 * PAGE, INHERIT_COPY) == 0);
  check_child(in_child(check_there, at));
  check(madvise(at, 4 * PAGE, MADV_DONTFORK) == 0);
  check_child(in_child(check_absent, at));
  check(madvise(at, 4 * PAGE, MADV_DOFORK) == 0);
  check_child(in_child(check_there, at));
}

static void inherit_zero(char** arguments) {
  (void)arguments;
  byte* at = map_private(8 * PAGE);
  fill_pattern(at, 8 * PAGE, 0);
  check(madvise(at, 4 * PAGE, MADV_WIPEONFORK) == 0);
  check_child(in_child(check_zeroed, at));
  check(is_pattern(at, 8 * PAGE, 0));
  check(madvise(at, 4 * PAGE, MADV_KEEPONFORK) == 0);
  check_child(in_child(check_there, at));
}

static void inherit_none_of_shared(char** arguments) {
  (void)arguments;
  byte* at = map_shared(8 * PAGE);
  fill_pattern(at, 8 * PAGE, 0);
  check(minherit(at, 4 * PAGE, INHERIT_NONE) == 0);
  check_child(in_child(check_absent, at));
  check(is_pattern(at, 8 * PAGE, 0));
}

CASES(CASE(dontneed_zeroes), CASE(dontneed_keeps_shared), CASE(dontneed_file), CASE(hints),
      CASE(free_then_store), CASE(populate), CASE(remove_punches), CASE(unknown),
      CASE(inherit_none), CASE(inherit_zero), CASE(inherit_none_of_shared))
