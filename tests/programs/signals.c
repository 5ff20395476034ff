// Calls from signal handlers, and signals in the middle of calls.
#include "check.h"

#include <stdatomic.h>
#include <sys/time.h>

static atomic_ulong handled;

static void check_own_mapping(size_t pages, size_t mark) {
  byte* at = map_private(pages * PAGE);
  check(is_filled(at, pages * PAGE, 0));
  fill_pattern(at, pages * PAGE, mark);
  check(is_pattern(at, pages * PAGE, mark));
  check(mprotect(at, PAGE, PROT_READ) == 0);
  check(munmap(at, pages * PAGE) == 0);
}

static void on_timer(int number) {
  (void)number;
  const int saved = errno;
  check_own_mapping(2, 77);
  ++handled;
  errno = saved;
}

static void count(int number) {
  (void)number;
  ++handled;
}

static void every_200_us(void (*handler)(int)) {
  struct sigaction action = {.sa_handler = handler};  // without SA_RESTART
  check(sigaction(SIGALRM, &action, NULL) == 0);
  const struct itimerval period = {{0, 200}, {0, 200}};
  check(setitimer(ITIMER_REAL, &period, NULL) == 0);
}

// arguments[0]: how often the handler has to have run
static void map_in_handler(char** arguments) {
  const unsigned long times = strtoul(arguments[0], NULL, 10);
  every_200_us(on_timer);
  size_t mark = 0;
  while (handled < times) {
    check_own_mapping(1 + mark % 20, mark);
    ++mark;
  }
}

// arguments[0]: how often. Whatever comes in between, no call fails.
static void interrupted(char** arguments) {
  const unsigned long times = strtoul(arguments[0], NULL, 10);
  every_200_us(count);
  byte* shared = map_shared(64 * PAGE);
  while (handled < times) {
    byte* at = map_private(64 * PAGE);
    errno = 0;
    at[0] = 1;
    shared[0] = 1;
    check(msync(shared, 64 * PAGE, MS_SYNC) == 0);
    check(madvise(at, 64 * PAGE, MADV_DONTNEED) == 0);
    byte core[64];
    check(mincore(at, 64 * PAGE, core) == 0);
    at = mremap(at, 64 * PAGE, 128 * PAGE, MREMAP_MAYMOVE);
    check(at != MAP_FAILED);
    check(munmap(at, 128 * PAGE) == 0);
    check(errno == 0);
  }
}

CASES(CASE(map_in_handler), CASE(interrupted))
