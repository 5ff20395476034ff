// mmap and munmap of anonymous memory.
#include "check.h"

#include <fcntl.h>

#define MIB ((size_t)1 << 20)

static void check_fresh(byte* at, size_t bytes) {
  check(is_filled(at, bytes, 0));
  fill_pattern(at, bytes, 0);
  check(is_pattern(at, bytes, 0));
  check(munmap(at, bytes) == 0);
}

static void private_memory(char** arguments) {
  (void)arguments;
  check_fresh(map_private(8 * MIB), 8 * MIB);
}

static void shared_memory(char** arguments) {
  (void)arguments;
  check_fresh(map_shared(8 * MIB), 8 * MIB);
}

static void zero_device(char** arguments) {
  (void)arguments;
  const int zero = open("/dev/zero", O_RDWR);
  check(zero >= 0);
  for (int shared = 0; shared < 2; ++shared) {
    byte* at = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE, zero,
                    (off_t)PAGE);
    check(at != MAP_FAILED);
    check_fresh(at, 2 * MIB);
  }
}

static void hole(char** arguments) {
  (void)arguments;
  byte* at = map_private(16 * PAGE);
  fill_pattern(at, 16 * PAGE, 0);
  check(munmap(at + 5 * PAGE, 3 * PAGE) == 0);
  check(is_pattern(at, 5 * PAGE, 0));
  check(is_pattern(at + 8 * PAGE, 8 * PAGE, 8 * PAGE));
  for (size_t page = 5; page < 8; ++page) {
    check(signal_of_load(at + page * PAGE) == SIGSEGV);
    check(signal_of_store(at + page * PAGE, 1) == SIGSEGV);
  }
  check_error(EINVAL, munmap(at, 16 * PAGE) == -1);
  check(is_pattern(at, 5 * PAGE, 0));
  check(munmap(at, 5 * PAGE) == 0);
  check(munmap(at + 8 * PAGE, 8 * PAGE) == 0);
  check_error(EINVAL, munmap(at, PAGE) == -1);
}

static void fixed(char** arguments) {
  (void)arguments;
  byte* at = map_private(16 * PAGE);
  fill_pattern(at, 16 * PAGE, 0);
  byte* new = mmap(at + 4 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  check(new == at + 4 * PAGE);
  check(is_filled(new, 4 * PAGE, 0));
  check(is_pattern(at, 4 * PAGE, 0));
  check(is_pattern(at + 8 * PAGE, 8 * PAGE, 8 * PAGE));
  check_error(EEXIST, mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                           -1, 0) == MAP_FAILED);
  check(munmap(at, 16 * PAGE) == 0);
  check(mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at);
  check(*at == 0);
}

// Far from where the server puts mappings and from whatever the host puts anywhere by itself.
static void fixed_elsewhere(char** arguments) {
  (void)arguments;
  byte* const wanted = (byte*)0x200000000000;
  for (int round = 0; round < 3; ++round) {
    byte* at = mmap(wanted, 64 * PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(at == wanted);
    check_fresh(at, 64 * PAGE);
    check(signal_of_load(at) == SIGSEGV);
  }
}

static void hint(char** arguments) {
  (void)arguments;
  byte* const wanted = (byte*)0x210000000000;
  byte* at = mmap(wanted, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(at == wanted);
  byte* other = mmap(wanted, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(other != MAP_FAILED && other != at);
  *at = 1;
  *other = 2;
  check(*at == 1 && *other == 2);
}

static void grows_down(char** arguments) {
  (void)arguments;
  byte* at = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
  check(at != MAP_FAILED);
  for (size_t page = 64; page-- > 0;) at[page * PAGE] = (byte)(page + 1);
  for (size_t page = 0; page < 64; ++page) check(at[page * PAGE] == page + 1);
  check_error(EINVAL, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1,
                           0) == MAP_FAILED);
}

static void empty(char** arguments) {
  (void)arguments;
  // The answer is where the hint moved to: behind the heap.
  byte* at = mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED && at != NULL);
  check(signal_of_load(at) == SIGSEGV);
}

static void refusals(char** arguments) {
  (void)arguments;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  byte* at = map_private(4 * PAGE);
  const int zero = open("/dev/zero", O_RDWR);
  check_error(EINVAL, mmap(NULL, PAGE, PROT_READ, flags, zero, 0) == MAP_FAILED);
  check_error(EINVAL, mmap(NULL, SIZE_MAX, PROT_READ, flags, -1, 0) == MAP_FAILED);
  check_error(EINVAL, mmap(at + 1, PAGE, PROT_READ, flags | MAP_FIXED, -1, 0) == MAP_FAILED);
  check_error(ENOMEM, mmap(NULL, SIZE_MAX / 4, PROT_READ, flags, -1, 0) == MAP_FAILED);
  check_error(EBADF, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0) == MAP_FAILED);
  check_error(EINVAL, munmap(at, 0) == -1);
  check_error(EINVAL, munmap(at, SIZE_MAX) == -1);
  check_error(EINVAL, munmap((void*)~(uintptr_t)4095, PAGE) == -1);
  fill_pattern(at, 4 * PAGE, 0);
  check(is_pattern(at, 4 * PAGE, 0));
}

static void errno_stays(char** arguments) {
  (void)arguments;
  enum { MARK = 12345 };
  errno = MARK;
  byte* at = map_private(8 * PAGE);
  byte* shared = map_shared(8 * PAGE);
  shared[0] = 1;
  at[0] = 1;
  check(mprotect(at, PAGE, PROT_READ) == 0 && errno == MARK);
  check(madvise(at, 8 * PAGE, MADV_RANDOM) == 0 && errno == MARK);
  check(madvise(at, 8 * PAGE, MADV_DONTNEED) == 0 && errno == MARK);
  check(posix_madvise(at, 8 * PAGE, POSIX_MADV_WILLNEED) == 0 && errno == MARK);
  check(msync(shared, 8 * PAGE, MS_SYNC) == 0 && errno == MARK);
  byte core[8];
  check(mincore(at, 8 * PAGE, core) == 0 && errno == MARK);
  check(mlock(at, PAGE) == 0 && errno == MARK);
  check(munlock(at, PAGE) == 0 && errno == MARK);
  at = mremap(at + PAGE, 7 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
  check(at != MAP_FAILED && errno == MARK);
  check(getpagesize() == (int)PAGE && errno == MARK);
  check(munmap(at, 32 * PAGE) == 0 && errno == MARK);
}

// A length that is no multiple of the page size reaches to the end of its last page.
static void odd_lengths(char** arguments) {
  (void)arguments;
  byte* at = mmap(NULL, PAGE + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED);
  fill_pattern(at, 2 * PAGE, 0);
  check(is_pattern(at, 2 * PAGE, 0));
  check(mprotect(at, 1, PROT_READ) == 0);
  check(signal_of_store(at + PAGE - 1, 0) == SIGSEGV);
  check(signal_of_store(at + PAGE, 0) == 0);
  check(munmap(at, PAGE + 1) == 0);
  check(signal_of_load(at + PAGE) == SIGSEGV);
}

static void many_mappings(char** arguments) {
  (void)arguments;
  enum { COUNT = 2000 };
  static byte* at[COUNT];
  for (size_t i = 0; i < COUNT; ++i) {
    at[i] = mmap(NULL, (1 + i % 5) * PAGE, i % 3 == 0 ? PROT_READ : PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(at[i] != MAP_FAILED);
    if (i % 3 != 0) memset(at[i], (int)i, (1 + i % 5) * PAGE);
  }
  for (size_t i = 0; i < COUNT; ++i) {
    check(is_filled(at[i], (1 + i % 5) * PAGE, i % 3 == 0 ? 0 : (byte)i));
    check(munmap(at[i], (1 + i % 5) * PAGE) == 0);
  }
}

// Far more than the machine has, of which a little is used.
static void sparse(char** arguments) {
  (void)arguments;
  const size_t bytes = (size_t)1 << 40;
  byte* at =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  check(at != MAP_FAILED);
  const size_t step = bytes / 256;
  for (size_t i = 0; i < bytes; i += step) at[i] = pattern_byte(i / step);
  for (size_t i = 0; i < bytes; i += step) check(at[i] == pattern_byte(i / step));
  check(munmap(at, bytes) == 0);
}

CASES(CASE(private_memory), CASE(shared_memory), CASE(zero_device), CASE(hole), CASE(fixed),
      CASE(fixed_elsewhere), CASE(hint), CASE(grows_down), CASE(empty), CASE(refusals),
      CASE(errno_stays), CASE(odd_lengths), CASE(many_mappings), CASE(sparse))
