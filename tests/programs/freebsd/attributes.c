// mprotect, madvise and minherit with FreeBSD's numbers.
#include <sys/mman.h>
#include <sys/param.h>

#include "../check.h"

static byte* map(size_t bytes) {
  byte* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANON | MAP_PRIVATE, -1, 0);
  check(at != MAP_FAILED);
  return at;
}

static void protection(char** arguments) {
  (void)arguments;
  byte* at = map(2 * PAGE_SIZE);
  fill_pattern(at, 2 * PAGE_SIZE, 0);
  check(mprotect(at + 100, 1, PROT_READ) == 0);  // the whole page
  check(signal_of_store(at, 1) == SIGSEGV);
  check(is_pattern(at, 2 * PAGE_SIZE, 0));
  check(mprotect(at, PAGE_SIZE, PROT_READ | PROT_WRITE) == 0);
  check(signal_of_store(at, pattern_byte(0)) == 0);
}

// A wish, not an order: what is not wanted now is there when it is.
static void dontneed_keeps(char** arguments) {
  (void)arguments;
  byte* at = map(16 * PAGE_SIZE);
  fill_pattern(at, 16 * PAGE_SIZE, 0);
  check(madvise(at, 16 * PAGE_SIZE, MADV_DONTNEED) == 0);
  check(posix_madvise(at, 16 * PAGE_SIZE, POSIX_MADV_DONTNEED) == 0);
  check(is_pattern(at, 16 * PAGE_SIZE, 0));
}

static void free_forgets(char** arguments) {
  (void)arguments;
  byte* at = map(16 * PAGE_SIZE);
  fill_pattern(at, 16 * PAGE_SIZE, 0);
  check(madvise(at, 16 * PAGE_SIZE, MADV_FREE) == 0);
  for (size_t i = 0; i < 16; ++i) {
    byte* page = at + i * PAGE_SIZE;
    check(is_pattern(page, PAGE_SIZE, i * PAGE_SIZE) || is_filled(page, PAGE_SIZE, 0));
    memset(page, (int)i + 1, PAGE_SIZE);
    check(is_filled(page, PAGE_SIZE, (byte)(i + 1)));
  }
}

static void hints(char** arguments) {
  (void)arguments;
  static const int advice[] = {MADV_NORMAL, MADV_RANDOM,   MADV_SEQUENTIAL, MADV_WILLNEED,
                               MADV_NOSYNC, MADV_AUTOSYNC, MADV_NOCORE,     MADV_CORE};
  byte* at = map(16 * PAGE_SIZE);
  fill_pattern(at, 16 * PAGE_SIZE, 0);
  for (size_t i = 0; i < nitems(advice); ++i) {
    check(madvise(at, 16 * PAGE_SIZE, advice[i]) == 0);
    check(is_pattern(at, 16 * PAGE_SIZE, 0));
  }
  check_error(EINVAL, madvise(at, PAGE_SIZE, MADV_PROTECT + 1) == -1);
  errno = 0;
  check(posix_madvise(at, PAGE_SIZE, 99) == EINVAL && errno == 0);
}

// On memory that is the host's, too: libc's heap.
static void host_memory(char** arguments) {
  (void)arguments;
  byte* heap = malloc(64 * PAGE_SIZE);
  check(heap != NULL);
  byte* at = (byte*)round_page(heap);
  fill_pattern(at, 32 * PAGE_SIZE, 0);
  check(madvise(at, 32 * PAGE_SIZE, MADV_DONTNEED) == 0);
  check(is_pattern(at, 32 * PAGE_SIZE, 0));
  check(madvise(at, 32 * PAGE_SIZE, MADV_NOCORE) == 0);
  check(madvise(at, 32 * PAGE_SIZE, MADV_CORE) == 0);
  check(msync(at, PAGE_SIZE, MS_SYNC) == 0);
  check(mprotect(at, PAGE_SIZE, PROT_READ) == 0);
  check(signal_of_store(at, 1) == SIGSEGV);
  check(mprotect(at, PAGE_SIZE, PROT_READ | PROT_WRITE) == 0);
  check(is_pattern(at, 32 * PAGE_SIZE, 0));
  free(heap);
}

static void check_first_absent(byte* at) {
  const pid_t child = fork();
  if (child == 0) {
    check(signal_of_load(at) == SIGSEGV);
    check(is_pattern(at + PAGE_SIZE, PAGE_SIZE, PAGE_SIZE));
    _exit(0);
  }
  check_child(child);
}

static void inherit_none(char** arguments) {
  (void)arguments;
  byte* at = map(2 * PAGE_SIZE);
  fill_pattern(at, 2 * PAGE_SIZE, 0);
  check(minherit(at, PAGE_SIZE, INHERIT_NONE) == 0);
  check_first_absent(at);
  check(is_pattern(at, 2 * PAGE_SIZE, 0));
  check_error(EINVAL, minherit(at, PAGE_SIZE, 99) == -1);
}

static void inherit_copy(char** arguments) {
  inherit_none(arguments);
  byte* at = map(2 * PAGE_SIZE);
  fill_pattern(at, 2 * PAGE_SIZE, 0);
  check(minherit(at, PAGE_SIZE, INHERIT_NONE) == 0);
  check(minherit(at, PAGE_SIZE, INHERIT_COPY) == 0);
  const pid_t child = fork();
  if (child == 0) {
    check(is_pattern(at, 2 * PAGE_SIZE, 0));
    memset(at, 0xee, 2 * PAGE_SIZE);
    _exit(0);
  }
  check_child(child);
  check(is_pattern(at, 2 * PAGE_SIZE, 0));
}

// Only the host's answer to a question about its kind of memory: not to be had without a server.
static void unserved_refusals(char** arguments) {
  (void)arguments;
  byte* at = map(2 * PAGE_SIZE);
  check_error(EOPNOTSUPP, minherit(at, PAGE_SIZE, INHERIT_SHARE) == -1);
  check_error(EOPNOTSUPP, msync(at, 0, MS_SYNC) == -1);
  check_error(EOPNOTSUPP, mprotect(at, PAGE_SIZE, PROT_READ | PROT_MAX(PROT_READ)) == -1);
  check_error(EOPNOTSUPP,
              mmap(NULL, PAGE_SIZE, PROT_READ, MAP_ANON | MAP_ALIGNED(21), -1, 0) == MAP_FAILED);
  check_error(EINVAL, mlockall(4) == -1);
}

CASES(CASE(protection), CASE(dontneed_keeps), CASE(free_forgets), CASE(hints), CASE(host_memory),
      CASE(inherit_none), CASE(inherit_copy), CASE(unserved_refusals))
