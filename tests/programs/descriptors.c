// Programs that treat every descriptor as theirs.
#include "check.h"
#include "minherit.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>

static void use_memory(void) {
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  check(is_pattern(at, 64 * PAGE, 0));
  byte* shared = map_shared(64 * PAGE);
  fill_pattern(shared, 64 * PAGE, 0);
  const pid_t child = fork();
  if (child == 0) {
    check(is_pattern(at, 64 * PAGE, 0));
    check(is_pattern(shared, 64 * PAGE, 0));
    byte* own = map_private(64 * PAGE);
    check(is_filled(own, 64 * PAGE, 0));
    _exit(0);
  }
  check_child(child);
  check(munmap(at, 64 * PAGE) == 0);
}

static void close_all(char** arguments) {
  (void)arguments;
  byte* before = map_private(64 * PAGE);
  before[0] = 1;
  check(close_range(3, ~0u, 0) == 0);
  use_memory();
  check(before[0] == 1 && before[PAGE] == 0);
}

static void close_one_by_one(char** arguments) {
  (void)arguments;
  for (int round = 0; round < 3; ++round) {
    for (int number = 3; number < 20000; ++number) close(number);
    use_memory();
  }
}

// Closes everything in a forked child, as a daemon does, before that child has made a call.
static void close_in_child(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  const pid_t child = fork();
  if (child == 0) {
    check(close_range(3, ~0u, 0) == 0);
    check(is_pattern(at, 64 * PAGE, 0));
    use_memory();
    _exit(0);
  }
  check_child(child);
  use_memory();
}

static bool is_own_file(int number) {
  byte data[4] = {0};
  return pread(number, data, sizeof(data), 0) == 4 && memcmp(data, "mine", 4) == 0;
}

static void put_own_everywhere(char** arguments) {
  (void)arguments;
  byte* before = map_private(64 * PAGE);
  before[0] = 1;
  const int file = memfd_create("own", 0);
  check(file == 3);
  check(write(file, "mine", 4) == 4);
  for (int number = 4; number < 1024; ++number) check(dup2(file, number) == number);
  use_memory();
  check(before[0] == 1);
  for (int number = 3; number < 1024; ++number) check(is_own_file(number));
}

// Fails if a descriptor beside the standard ones is open.
static void none_open(char** arguments) {
  (void)arguments;
  DIR* directory = opendir("/proc/self/fd");
  check(directory != NULL);
  for (struct dirent* entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    const int number = atoi(entry->d_name);
    if (number > 2 && number != dirfd(directory)) {
      char path[300], target[300] = {0};
      snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
      if (readlink(path, target, sizeof(target) - 1) < 0) continue;
      dprintf(STDERR_FILENO, "descriptor %d is open: %s\n", number, target);
      _exit(1);
    }
  }
}

// arguments: a program to become, without the library
static void become_unserved(char** arguments) {
  byte* at = map_private(64 * PAGE);
  at[0] = 1;
  check(unsetenv("LD_PRELOAD") == 0);
  execv(arguments[0], arguments);
  check(false);
}

// `copied`: shared memory that a child gets a copy of.
static void fork_deeper(int depth, const byte* at, const byte* copied) {
  check_error(EMFILE, dup(0) < 0);
  const pid_t child = fork();
  if (child == 0) {
    check(is_pattern(at, 64 * PAGE, 0));
    check(is_pattern(copied, 64 * PAGE, 7));
    byte* own = map_private(64 * PAGE);
    fill_pattern(own, 64 * PAGE, 0);
    if (depth > 0) fork_deeper(depth - 1, at, copied);
    _exit(0);
  }
  check_child(child);
}

// Everything that may be open is.
static void fork_with_none_left(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  byte* copied = map_shared(64 * PAGE);
  fill_pattern(copied, 64 * PAGE, 7);
  check(minherit(copied, 64 * PAGE, INHERIT_COPY) == 0);
  while (dup(0) >= 0) continue;
  fork_deeper(3, at, copied);
  for (int round = 0; round < 3; ++round) {
    byte* shared = map_shared(64 * PAGE);
    fill_pattern(shared, 64 * PAGE, 0);
    check(is_pattern(shared, 64 * PAGE, 0));
  }
}

// Descriptors that the program opens are small, as it expects.
static void small_numbers(char** arguments) {
  (void)arguments;
  check(open("/dev/null", O_RDONLY) == 3);
  map_private(64 * PAGE)[0] = 1;
  check(open("/dev/null", O_RDONLY) == 4);
}

// With the library of wrap_open.c preloaded too: both are in force.
static void opens_are_wrapped(char** arguments) {
  int (*counted)(void) = NULL;
  *(void**)&counted = dlsym(RTLD_DEFAULT, "opens_counted");
  check(counted != NULL);
  const int before = counted();
  const int file = open(arguments[0], O_RDWR);
  check(file >= 0 && counted() == before + 1);
  byte* mapped = mmap(NULL, 64 * PAGE, PROT_READ, MAP_SHARED, file, 0);
  check(mapped != MAP_FAILED && is_pattern(mapped, 64 * PAGE, 0));
  use_memory();
}

// The library holds no pipe open: its reader sees the end.
static void pipes_end(char** arguments) {
  (void)arguments;
  int ends[2];
  check(pipe(ends) == 0);
  map_private(PAGE)[0] = 1;
  const pid_t child = fork();
  if (child == 0) {
    map_private(PAGE)[0] = 1;
    close(ends[0]);
    check(write(ends[1], "x", 1) == 1);
    close(ends[1]);
    pause();
  }
  close(ends[1]);
  char got = 0;
  check(read(ends[0], &got, 1) == 1);
  check(read(ends[0], &got, 1) == 0);
  check(kill(child, SIGKILL) == 0);
  check(waitpid(child, NULL, 0) == child);
}

CASES(CASE(close_all), CASE(close_one_by_one), CASE(close_in_child), CASE(put_own_everywhere),
      CASE(none_open), CASE(opens_are_wrapped), CASE(fork_with_none_left), CASE(become_unserved),
      CASE(small_numbers), CASE(pipes_end))
