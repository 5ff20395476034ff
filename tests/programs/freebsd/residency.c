// mincore, msync, mlock and mlockall with FreeBSD's numbers, and the heap.
#include <sys/mman.h>
#include <sys/param.h>

#include "../check.h"

#include <fcntl.h>

static byte* map(size_t bytes) {
  byte* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANON | MAP_PRIVATE, -1, 0);
  check(at != MAP_FAILED);
  return at;
}

static void core_bits(char** arguments) {
  (void)arguments;
  char core[64];
  byte* at = map(64 * PAGE_SIZE);
  memset(at + 16 * PAGE_SIZE, 1, 16 * PAGE_SIZE);
  check(mincore(at, 64 * PAGE_SIZE, core) == 0);
  for (int i = 16; i < 32; ++i) check((core[i] & MINCORE_INCORE) != 0);
  check((core[63] & MINCORE_INCORE) == 0);
  check_error(EFAULT, mincore(at, PAGE_SIZE, (char*)-1) == -1);
}

static void check_reaches_file(const char* path, size_t length) {
  const int descriptor = open(path, O_RDWR);
  check(descriptor >= 0);
  byte* at = mmap(NULL, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  check(at != MAP_FAILED && is_pattern(at, 4 * PAGE_SIZE, 0));
  memset(at, 0xee, 4 * PAGE_SIZE);
  check(msync(at, length, MS_SYNC) == 0);
  byte read_back[4 * PAGE_SIZE];
  check(pread(descriptor, read_back, sizeof(read_back), 0) == (ssize_t)sizeof(read_back));
  check(is_filled(read_back, sizeof(read_back), 0xee));
}

// arguments[0]: a file of 4 pages
static void sync_range(char** arguments) { check_reaches_file(arguments[0], 4 * PAGE_SIZE); }

// A length of 0 is all of the mapping.
static void sync_all(char** arguments) { check_reaches_file(arguments[0], 0); }

static void sync_refusals(char** arguments) {
  (void)arguments;
  byte* at = map(PAGE_SIZE);
  check_error(EINVAL, msync(at, PAGE_SIZE, MS_ASYNC | MS_INVALIDATE) == -1);
}

static void lock(char** arguments) {
  (void)arguments;
  char core[16];
  byte* at = map(16 * PAGE_SIZE);
  check(mlock(at, 16 * PAGE_SIZE) == 0);
  check(mincore(at, 16 * PAGE_SIZE, core) == 0);
  for (int i = 0; i < 16; ++i) check((core[i] & MINCORE_INCORE) != 0);
  check(munlock(at, 16 * PAGE_SIZE) == 0);
  check(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
  check(munlockall() == 0);
  check_error(EINVAL, mlockall(4) == -1);
}

// The heap is libc's: sbrk says no, and malloc does without.
static void heap(char** arguments) {
  (void)arguments;
  check_error(EOPNOTSUPP, sbrk(PAGE_SIZE) == (void*)-1);
  void* some = malloc(1 << 20);
  check(some != NULL);
  free(some);
}

CASES(CASE(core_bits), CASE(sync_range), CASE(sync_all), CASE(sync_refusals), CASE(lock),
      CASE(heap))
