// A program under RLIMIT_AS. arguments[0]: the limit in MiB, which the test has set; [1]: a file.
#include "check.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)

static void address_space(char** arguments) {
  const size_t limit = strtoul(arguments[0], NULL, 10) * MIB;
  struct rlimit seen;
  check(getrlimit(RLIMIT_AS, &seen) == 0 && seen.rlim_cur == limit);
  byte* at = map_private(16 * MIB);
  fill_pattern(at, 16 * MIB, 0);
  check(is_pattern(at, 16 * MIB, 0));
  byte* shared = map_shared(MIB);
  fill_pattern(shared, MIB, 0);
  const int file = open(arguments[1], O_RDWR);
  check(file >= 0);
  byte* mapped = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(mapped != MAP_FAILED);
  check(is_pattern(mapped, 4 * PAGE, 0));
  check_error(ENOMEM,
              mmap(NULL, limit, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
  // Up to the limit, and once more after something was given back.
  enum { MOST = 4096 };
  static byte* pieces[MOST];
  for (int round = 0; round < 2; ++round) {
    size_t count = 0;
    while (count < MOST) {
      errno = 0;
      pieces[count] =
          mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (pieces[count] == MAP_FAILED) break;
      pieces[count][0] = 1;
      ++count;
    }
    check(errno == ENOMEM);
    check(count > 0 && count * 16 * MIB < limit);
    for (size_t i = 0; i < count; ++i) {
      check(pieces[i][0] == 1);
      check(munmap(pieces[i], 16 * MIB) == 0);
    }
  }
  const pid_t child = fork();
  if (child == 0) {
    check(is_pattern(at, 16 * MIB, 0));
    map_private(MIB)[0] = 1;
    _exit(0);
  }
  check_child(child);
  check(munmap(at, 16 * MIB) == 0);
  check(signal_of_load(at) == SIGSEGV);
}

// What a program under a limit of 1 GiB can and cannot have.
static void check_under_a_gib(void) {
  errno = 0;
  check(malloc(2048 * MIB) == NULL && errno == ENOMEM);
  check_error(ENOMEM, mmap(NULL, 2048 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                           -1, 0) == MAP_FAILED);
  byte* at = malloc(100 * MIB);
  check(at != NULL);
  memset(at, 1, 100 * MIB);
  check(is_filled(at, 100 * MIB, 1));
  byte* mapped = map_private(100 * MIB);
  fill_pattern(mapped, 100 * MIB, 0);
  check(is_pattern(mapped, 100 * MIB, 0));
  void* library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
  check(library != NULL);
  check(dlsym(library, "cos") != NULL);
  check(munmap(mapped, 100 * MIB) == 0);
  free(at);
  const pid_t child = fork();
  if (child == 0) {
    map_private(MIB)[0] = 1;
    _exit(0);
  }
  check_child(child);
}

// The limit was there before the program began.
static void from_the_start(char** arguments) {
  (void)arguments;
  struct rlimit seen;
  check(getrlimit(RLIMIT_AS, &seen) == 0 && seen.rlim_cur == 1024 * MIB);
  check_under_a_gib();
}

// The program sets it itself, after it has mapped.
static void while_running(char** arguments) {
  (void)arguments;
  byte* before = map_private(16 * MIB);
  fill_pattern(before, 16 * MIB, 0);
  const struct rlimit limit = {1024 * MIB, 1024 * MIB};
  check(setrlimit(RLIMIT_AS, &limit) == 0);
  check_under_a_gib();
  check(is_pattern(before, 16 * MIB, 0));
  check(munmap(before, 16 * MIB) == 0);
}

CASES(CASE(address_space), CASE(from_the_start), CASE(while_running))
