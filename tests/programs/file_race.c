// Several of these share every page of the file arguments[1], each with a number of its own in each
// page, at byte 64 * arguments[2], until somebody writes to descriptor 0. Each finds what it did last
// in every view of the file, at once. Prints how often it has been round.
#include "check.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>

enum { PAGES = 16 };

static int file;
static byte* at;
static size_t place;

static bool told(void) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  return poll(&input, 1, 0) > 0;
}

static uint32_t in_mapping(size_t page) { return *(volatile uint32_t*)(void*)(at + page * PAGE + place); }

static uint32_t in_file(size_t page) {
  uint32_t value;
  check(pread(file, &value, sizeof(value), (off_t)(page * PAGE + place)) == sizeof(value));
  return value;
}

static void store(size_t page, uint32_t count) {
  *(volatile uint32_t*)(void*)(at + page * PAGE + place) = count;
}

static void write_it(size_t page, uint32_t count) {
  check(pwrite(file, &count, sizeof(count), (off_t)(page * PAGE + place)) == sizeof(count));
}

// Beside the first thread, and on the same file.
static void* sync_all_the_time(void* unused) {
  (void)unused;
  for (;;) {
    check(msync(at, PAGES * PAGE, MS_SYNC) == 0);
    (void)in_file(0);
  }
  return NULL;
}

int main(int argc, char** argv) {
  check(argc == 4);
  file = open(argv[2], O_RDWR);
  check(file >= 0);
  place = 64 * strtoul(argv[3], NULL, 10);
  const bool stores = strchr(argv[1], 's') != NULL;
  const bool writes = strchr(argv[1], 'w') != NULL;
  const bool syncs = strchr(argv[1], 'y') != NULL;
  const bool maps = strchr(argv[1], 'm') != NULL;
  const bool resizes = strchr(argv[1], 't') != NULL;
  at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  pthread_t helper;
  if (strchr(argv[1], 'h') != NULL) {
    check(pthread_create(&helper, NULL, sync_all_the_time, NULL) == 0);
  }
  puts("running");
  fflush(stdout);
  uint32_t count = 0;
  for (; count % 16 != 0 || !told(); ++count) {
    for (size_t page = 0; page < PAGES; ++page) {
      check(in_mapping(page) == count);
      check(in_file(page) == count);
      // Those that do both take turns.
      if (stores && !(writes && count % 2 == 0)) {
        store(page, count + 1);
      } else {
        write_it(page, count + 1);
      }
      check(in_mapping(page) == count + 1);
      check(in_file(page) == count + 1);
    }
    if (syncs) check(msync(at, PAGES * PAGE, count % 2 == 0 ? MS_SYNC : MS_ASYNC) == 0);
    if (resizes) check(ftruncate(file, (off_t)((PAGES + count % 3) * PAGE + count % 5)) == 0);
    if (maps) {
      check(munmap(at, PAGES * PAGE) == 0);
      at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      check(at != MAP_FAILED);
    }
  }
  printf("%u\n", count);
  return 0;
}
