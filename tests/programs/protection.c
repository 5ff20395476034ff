// mprotect, and what protection lets a program do.
#include "check.h"

#include <fcntl.h>

static void stores(char** arguments) {
  (void)arguments;
  byte* at = map_private(8 * PAGE);
  fill_pattern(at, 8 * PAGE, 0);
  check(mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ) == 0);
  check(mprotect(at + 4 * PAGE, 2 * PAGE, PROT_NONE) == 0);
  check(signal_of_store(at, 1) == 0);
  check(signal_of_store(at + 2 * PAGE, 1) == SIGSEGV);
  check(signal_of_load(at + 2 * PAGE) == 0);
  check(signal_of_load(at + 4 * PAGE) == SIGSEGV);
  check(signal_of_store(at + 6 * PAGE, 1) == 0);
  check(mprotect(at, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
  at[0] = pattern_byte(0);
  at[6 * PAGE] = pattern_byte(6 * PAGE);
  check(is_pattern(at, 8 * PAGE, 0));
}

static void untouched(char** arguments) {
  (void)arguments;
  byte* at = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED);
  check(signal_of_load(at) == SIGSEGV);
  check(mprotect(at, 4 * PAGE, PROT_READ) == 0);
  check(is_filled(at, 4 * PAGE, 0));
  check(signal_of_store(at, 1) == SIGSEGV);
  check(mprotect(at, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
  fill_pattern(at, 8 * PAGE, 0);
  check(is_pattern(at, 8 * PAGE, 0));
}

static void execute(char** arguments) {
  (void)arguments;
#if defined(__x86_64__)
  static const byte code[] = {0xb8, 42, 0, 0, 0, 0xc3};  // mov $42, %eax; ret
#else
  static const uint32_t code[] = {0x52800540, 0xd65f03c0};  // mov w0, #42; ret
#endif
  byte* at = map_private(PAGE);
  memcpy(at, code, sizeof(code));
  __builtin___clear_cache((char*)at, (char*)at + sizeof(code));
  check(mprotect(at, PAGE, PROT_READ | PROT_EXEC) == 0);
  int (*function)(void) = NULL;
  memcpy(&function, &at, sizeof(at));
  check(function() == 42);
}

// arguments[0]: a file of a page or more
static void beyond_maximum(char** arguments) {
  const int file = open(arguments[0], O_RDONLY);
  check(file >= 0);
  byte* at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  check_error(EACCES, mprotect(at, PAGE, PROT_READ | PROT_WRITE) == -1);
  check(is_pattern(at, PAGE, 0));
  check(signal_of_store(at, 1) == SIGSEGV);
  byte* copy = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
  check(copy != MAP_FAILED);
  check(mprotect(copy, PAGE, PROT_READ | PROT_WRITE) == 0);
  copy[0] = 1;
  check(at[0] == pattern_byte(0));
}

// arguments[0]: a file of a page or more. Stores that the right to make came late for count too.
static void late_right(char** arguments) {
  const int file = open(arguments[0], O_RDWR);
  check(file >= 0);
  byte* at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  check(at[0] == pattern_byte(0));
  check(signal_of_store(at, 1) == SIGSEGV);
  check(mprotect(at, PAGE, PROT_READ | PROT_WRITE) == 0);
  at[0] = 0xee;
  check(msync(at, PAGE, MS_SYNC) == 0);
  byte read_back = 0;
  check(pread(file, &read_back, 1, 0) == 1);
  check(read_back == 0xee);
}

static void refusals(char** arguments) {
  (void)arguments;
  byte* at = map_private(PAGE);
  check_error(EINVAL, mprotect(at, SIZE_MAX, PROT_READ) == -1);
  *at = 1;
  check(*at == 1);
}

CASES(CASE(stores), CASE(untouched), CASE(execute), CASE(beyond_maximum), CASE(late_right),
      CASE(refusals))
