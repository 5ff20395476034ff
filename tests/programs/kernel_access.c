// The kernel touches managed memory on the program's behalf: nothing there was touched before.
#include "check.h"

#include <fcntl.h>
#include <pthread.h>

#define MIB ((size_t)1 << 20)

static void write_fully(int descriptor, const byte* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t wrote = write(descriptor, data + done, bytes - done);
    check(wrote > 0);
    done += (size_t)wrote;
  }
}

static void read_fully(int descriptor, byte* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = read(descriptor, data + done, bytes - done);
    check(got > 0);
    done += (size_t)got;
  }
}

static void* feed(void* argument) {
  const int descriptor = *(const int*)argument;
  static byte data[MIB];
  fill_pattern(data, sizeof(data), 0);
  write_fully(descriptor, data, sizeof(data));
  return NULL;
}

static void read_from_pipe(char** arguments) {
  (void)arguments;
  int ends[2];
  check(pipe(ends) == 0);
  pthread_t feeder;
  check(pthread_create(&feeder, NULL, feed, &ends[1]) == 0);
  byte* at = map_private(MIB);
  read_fully(ends[0], at, MIB);
  check(is_pattern(at, MIB, 0));
  check(pthread_join(feeder, NULL) == 0);
}

// arguments[0]: a file of 1 MiB with the pattern
static void read_from_file(char** arguments) {
  const int file = open(arguments[0], O_RDONLY);
  check(file >= 0);
  byte* at = map_private(MIB);
  read_fully(file, at, MIB);
  check(is_pattern(at, MIB, 0));
  byte* shared = map_shared(MIB);
  check(pread(file, shared, MIB, 0) == (ssize_t)MIB);
  check(is_pattern(shared, MIB, 0));
}

// arguments[0]: a file of 1 MiB with the pattern
static void write_from_mapping(char** arguments) {
  const int file = open(arguments[0], O_RDONLY);
  check(file >= 0);
  static const int flags[] = {MAP_PRIVATE, MAP_SHARED};
  for (size_t i = 0; i < 2; ++i) {
    const byte* at = mmap(NULL, MIB, PROT_READ, flags[i], file, 0);
    check(at != MAP_FAILED);
    const int copy = memfd_create("copy", 0);
    write_fully(copy, at, MIB);
    static byte read_back[MIB];
    check(pread(copy, read_back, MIB, 0) == (ssize_t)MIB);
    check(is_pattern(read_back, MIB, 0));
  }
}

static void write_from_anonymous(char** arguments) {
  (void)arguments;
  const byte* at = map_private(MIB);
  const int copy = memfd_create("copy", 0);
  write_fully(copy, at, MIB);
  static byte read_back[MIB];
  memset(read_back, 1, MIB);
  check(pread(copy, read_back, MIB, 0) == (ssize_t)MIB);
  check(is_filled(read_back, MIB, 0));
}

// arguments[0]: a file of 1 MiB with the pattern
static void direct(char** arguments) {
  const int file = open(arguments[0], O_RDWR | O_DIRECT);
  check(file >= 0);
  byte* at = map_private(MIB);
  check(pread(file, at, MIB, 0) == (ssize_t)MIB);
  check(is_pattern(at, MIB, 0));
  byte* shared = map_shared(MIB);
  check(pread(file, shared, MIB, 0) == (ssize_t)MIB);
  check(is_pattern(shared, MIB, 0));
  const byte* untouched = map_private(MIB);
  check(pwrite(file, untouched, MIB, 0) == (ssize_t)MIB);
  check(pread(file, at, MIB, 0) == (ssize_t)MIB);
  check(is_filled(at, MIB, 0));
}

// Names and vectors that lie in memory never touched before are read by the kernel, too.
static void arguments_of_calls(char** arguments) {
  (void)arguments;
  char* name = (char*)map_private(PAGE);
  check_error(ENOENT, open(name, O_RDONLY) == -1);
  int ends[2];
  check(pipe(ends) == 0);
  byte* target = map_private(PAGE);
  check(write(ends[1], "data", 4) == 4);
  check(read(ends[0], target, 4) == 4);
  check(memcmp(target, "data", 4) == 0);
  check(mprotect(target, PAGE, PROT_NONE) == 0);
  check_error(EFAULT, write(ends[1], target, 1) == -1);
}

CASES(CASE(read_from_pipe), CASE(read_from_file), CASE(write_from_mapping),
      CASE(write_from_anonymous), CASE(direct), CASE(arguments_of_calls))
