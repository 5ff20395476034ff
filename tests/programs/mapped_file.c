// A mapping of the file arguments[0] that does what its standard input says, a line at a time, and
// answers each with a line: "map shared rw", "load 10" ("-" where that is a bus error),
// "store 10 200", "sync", "try sync" and "try fsync" ("error 5"), "unmap", and "hammer 4" (see
// below), which the next line ends.
#include "check.h"

#include <fcntl.h>
#include <poll.h>

enum { PAGES = 64 };

static int file;
static byte* at;

static void map(const char* kind, const char* rights) {
  if (at != NULL) check(munmap(at, PAGES * PAGE) == 0);
  at = mmap(NULL, PAGES * PAGE, PROT_READ | (strchr(rights, 'w') != NULL ? PROT_WRITE : 0),
            strcmp(kind, "shared") == 0 ? MAP_SHARED : MAP_PRIVATE, file, 0);
  check(at != MAP_FAILED);
}

static bool told(void) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  return poll(&input, 1, 0) > 0;
}

// Counts in every second page, and never finds less there than it has counted.
static uint32_t hammer(void) {
  uint32_t count = 0;
  do {
    for (size_t page = 0; page < PAGES; page += 2) {
      volatile uint32_t* counter = (uint32_t*)(void*)(at + page * PAGE);
      check(*counter == count);
      *counter = count + 1;
    }
    ++count;
  } while (count % 64 != 0 || !told());
  return count;
}

int main(int argc, char** argv) {
  check(argc == 2);
  file = open(argv[1], O_RDWR);
  check(file >= 0);
  char line[128];
  setvbuf(stdin, NULL, _IONBF, 0);
  while (fgets(line, sizeof(line), stdin) != NULL) {
    char first[32] = "";
    char second[32] = "";
    char third[32] = "";
    sscanf(line, "%31s %31s %31s", first, second, third);
    if (strcmp(first, "map") == 0) {
      map(second, third);
      puts("mapped");
    } else if (strcmp(first, "load") == 0) {
      const size_t offset = strtoul(second, NULL, 10);
      if (signal_of_load(at + offset) == 0) {
        printf("loaded %u\n", at[offset]);
      } else {
        puts("loaded -");
      }
    } else if (strcmp(first, "store") == 0) {
      at[strtoul(second, NULL, 10)] = (byte)strtoul(third, NULL, 10);
      puts("stored");
    } else if (strcmp(first, "sync") == 0) {
      check(msync(at, PAGES * PAGE, MS_SYNC) == 0);
      puts("synced");
    } else if (strcmp(first, "try") == 0) {
      const int result =
          strcmp(second, "sync") == 0 ? msync(at, PAGES * PAGE, MS_SYNC) : fsync(file);
      if (result == 0) {
        puts("synced");
      } else {
        printf("error %d\n", errno);
      }
    } else if (strcmp(first, "unmap") == 0) {
      check(munmap(at, PAGES * PAGE) == 0);
      at = NULL;
      puts("unmapped");
    } else if (strcmp(first, "hammer") == 0) {
      puts("hammering");
      fflush(stdout);
      printf("hammered %u\n", hammer());
    } else {
      check(!"a known line");
    }
    fflush(stdout);
  }
  return 0;
}
