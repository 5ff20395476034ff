// Executable mappings: allowed, denied by a policy, and told to who listens.
#include "check.h"

#include <fcntl.h>
#include <sys/prctl.h>

#define READ_EXECUTE (PROT_READ | PROT_EXEC)
#define ALL (PROT_READ | PROT_WRITE | PROT_EXEC)
#define NOBODY 65534

static int open_file(const char* path) {
  const int file = open(path, O_RDWR);
  check(file >= 0);
  return file;
}

// arguments[0]: a file of three pages or more. Says where it had it.
static void maps(char** arguments) {
  const int file = open_file(arguments[0]);
  byte* data = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
  check(data != MAP_FAILED);
  byte* code = mmap(NULL, 3 * PAGE, READ_EXECUTE, MAP_PRIVATE, file, 0);
  check(code != MAP_FAILED);
  check(is_pattern(code, 3 * PAGE, 0));
  check(munmap(data, PAGE) == 0);
  check(munmap(code + 10, 3 * PAGE - 20) == 0);
  dprintf(STDOUT_FILENO, "%#lx\n", (unsigned long)(uintptr_t)code);
}

// arguments[0]: a file of a page or more. A policy denies writable and executable at once.
static void never_both(char** arguments) {
  const int file = open_file(arguments[0]);
  check_error(EACCES, mmap(NULL, PAGE, ALL, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
  check_error(EACCES, mmap(NULL, PAGE, ALL, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
  check_error(EACCES, mmap(NULL, PAGE, ALL, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0) ==
                          MAP_FAILED);
  check_error(EACCES, mmap(NULL, PAGE, ALL, MAP_PRIVATE, file, 0) == MAP_FAILED);
  byte* at = map_private(PAGE);
  *at = 7;
  check_error(EACCES, mprotect(at, PAGE, ALL) == -1);
  check(signal_of_store(at, 8) == 0);
  check(mprotect(at, PAGE, READ_EXECUTE) == 0);
  check_error(EACCES, mprotect(at, PAGE, ALL) == -1);
  check(signal_of_store(at, 9) == SIGSEGV);
  check(*at == 8);
  // The host's own: this page of the stack.
  byte* stack = (byte*)((uintptr_t)&file & ~(uintptr_t)(PAGE - 1));
  check_error(EACCES, mprotect(stack, PAGE, ALL) == -1);
}

// arguments[0]: a file of a page or more. A policy denies NOBODY to execute it.
static void drops_root(char** arguments) {
  const int file = open_file(arguments[0]);
  byte* before = mmap(NULL, PAGE, READ_EXECUTE, MAP_PRIVATE, file, 0);
  check(before != MAP_FAILED);
  // A name that looks as if the program were still root's.
  check(prctl(PR_SET_NAME, "Uid: 0 0 0 0") == 0);
  check(setresuid(NOBODY, NOBODY, NOBODY) == 0);
  check_error(EACCES, mmap(NULL, PAGE, READ_EXECUTE, MAP_PRIVATE, file, 0) == MAP_FAILED);
  byte* data = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
  check(data != MAP_FAILED);
  check_error(EACCES, mprotect(data, PAGE, READ_EXECUTE) == -1);
  check(is_pattern(data, PAGE, 0));
  check(is_pattern(before, PAGE, 0));
  check(mprotect(map_private(PAGE), PAGE, READ_EXECUTE) == 0);
}

CASES(CASE(maps), CASE(never_both), CASE(drops_root))
