// Touches memory in a pattern, for tests that count what that costs.
#include "check.h"

#include <fcntl.h>

#define MIB ((size_t)1 << 20)

static size_t number(const char* text) { return strtoul(text, NULL, 10); }

// arguments[0]: MiB
static void sequential(char** arguments) {
  const size_t bytes = number(arguments[0]) * MIB;
  byte* at = map_private(bytes);
  for (size_t i = 0; i < bytes; i += PAGE) at[i] = pattern_byte(i);
  for (size_t i = 0; i < bytes; i += PAGE) check(at[i] == pattern_byte(i));
}

// arguments[0]: pages touched of 256 MiB, far from each other, with MADV_RANDOM
static void at_random(char** arguments) {
  const size_t pages = 256 * MIB / PAGE;
  const size_t count = number(arguments[0]);
  byte* at = map_private(pages * PAGE);
  check(madvise(at, pages * PAGE, MADV_RANDOM) == 0);
  for (size_t i = 0; i < count; ++i) at[i * 7919 % pages * PAGE] = 1;
}

// arguments[0]: a file of zeroes, arguments[1]: MiB of it
static void touch_file(char** arguments, size_t first) {
  const size_t bytes = number(arguments[1]) * MIB;
  const int descriptor = open(arguments[0], O_RDONLY);
  check(descriptor >= 0);
  const byte* at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  check(at != MAP_FAILED);
  for (size_t i = first; i < bytes; i += PAGE) check(at[i] == 0);
}

static void file(char** arguments) { touch_file(arguments, 0); }

static void file_but_first(char** arguments) { touch_file(arguments, PAGE); }

CASES(CASE(sequential), CASE(at_random), CASE(file), CASE(file_but_first))
