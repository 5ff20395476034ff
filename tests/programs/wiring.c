// mlock, munlock, mlockall, munlockall and mincore.
#include "check.h"

#include <fcntl.h>
#include <sys/resource.h>

static size_t in_core(byte* at, size_t pages) {
  static byte core[100000];
  check(pages <= sizeof(core));
  check(mincore(at, pages * PAGE, core) == 0);
  size_t count = 0;
  for (size_t page = 0; page < pages; ++page) count += core[page] & 1;
  return count;
}

static size_t locked_kib(void) {
  char line[200];
  size_t kib = 0;
  FILE* status = fopen("/proc/self/status", "r");
  check(status != NULL);
  while (fgets(line, sizeof(line), status) != NULL) sscanf(line, "VmLck: %zu", &kib);
  fclose(status);
  return kib;
}

static void locks(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  check(in_core(at, 64) == 0);
  check(mlock(at + 100, 32 * PAGE - 200) == 0);
  check(in_core(at, 32) == 32);
  check(locked_kib() == 32 * 4);
  fill_pattern(at, 64 * PAGE, 0);
  check(munlock(at, 32 * PAGE) == 0);
  check(locked_kib() == 0);
  check(is_pattern(at, 64 * PAGE, 0));
  check(mlock2(at, PAGE, 0) == 0);
  check(locked_kib() == 4);
  check(munmap(at, 64 * PAGE) == 0);
  check(locked_kib() == 0);
}

static void locked_shared(char** arguments) {
  (void)arguments;
  byte* at = map_shared(64 * PAGE);
  check(mlock(at, 64 * PAGE) == 0);
  check(in_core(at, 64) == 64);
  check_error(EBUSY, msync(at, 64 * PAGE, MS_INVALIDATE | MS_SYNC) == -1);
  check(munlock(at, 64 * PAGE) == 0);
  check(msync(at, 64 * PAGE, MS_INVALIDATE | MS_SYNC) == 0);
}

static void locks_everything(char** arguments) {
  (void)arguments;
  byte* before = map_private(64 * PAGE);
  check(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
  check(in_core(before, 64) == 64);
  byte* after = map_private(64 * PAGE);
  check(in_core(after, 64) == 64);
  check(munlockall() == 0);
  check(locked_kib() == 0);
  byte* later = map_private(64 * PAGE);
  // No more than a first fault would bring.
  check(in_core(later, 64) <= 16);
  check_error(EINVAL, mlockall(0) == -1);
  check_error(EINVAL, mlockall(0x100) == -1);
}

static void lock_errors(char** arguments) {
  (void)arguments;
  byte* at = map_private(8 * PAGE);
  check(munmap(at + 4 * PAGE, PAGE) == 0);
  check_error(ENOMEM, mlock(at, 8 * PAGE) == -1);
  check_error(ENOMEM, munlock(at, 8 * PAGE) == -1);
  check_error(EINVAL, mlock(at, SIZE_MAX) == -1);
  const struct rlimit limit = {4 * PAGE, 4 * PAGE};
  check(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  check(mlock(at, 4 * PAGE) == 0);
  check_error(ENOMEM, mlock(at + 5 * PAGE, PAGE) == -1);
}

static void not_permitted(char** arguments) {
  (void)arguments;
  byte* at = map_private(PAGE);
  check_error(EPERM, mlock(at, PAGE) == -1);
  check_error(EPERM, munlock(at, PAGE) == -1);
  check_error(EPERM, mlockall(MCL_CURRENT) == -1);
  check_error(EPERM, munlockall() == -1);
}

static void residence(char** arguments) {
  (void)arguments;
  enum { PAGES = 10000 };  // more than one frame of answers
  byte* at = map_private(PAGES * PAGE);
  check(madvise(at, PAGES * PAGE, MADV_RANDOM) == 0);
  for (size_t page = 0; page < PAGES; page += 10) at[page * PAGE] = 1;
  check(in_core(at, PAGES) == PAGES / 10);
  static byte core[PAGES];
  check(mincore(at, PAGES * PAGE, core) == 0);
  for (size_t page = 0; page < PAGES; ++page) check((core[page] & 1) == (page % 10 == 0));
  check(madvise(at, PAGES * PAGE, MADV_DONTNEED) == 0);
  check(in_core(at, PAGES) == 0);
  check_error(EFAULT, mincore(at, PAGE, (byte*)8) == -1);
  check(munmap(at + PAGE, PAGE) == 0);
  check_error(ENOMEM, mincore(at, 2 * PAGE, core) == -1);
}

// arguments[0]: a file of 64 pages
static void residence_of_file(char** arguments) {
  const int file = open(arguments[0], O_RDONLY);
  byte* at = mmap(NULL, 64 * PAGE, PROT_READ, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  check(in_core(at, 64) == 0);
  check(madvise(at, 64 * PAGE, MADV_RANDOM) == 0);
  check(at[20 * PAGE] == pattern_byte(20 * PAGE));
  byte core[64];
  check(mincore(at, 64 * PAGE, core) == 0);
  check((core[20] & 1) == 1 && (core[40] & 1) == 0);
}

CASES(CASE(locks), CASE(locked_shared), CASE(locks_everything), CASE(lock_errors),
      CASE(not_permitted), CASE(residence), CASE(residence_of_file))
