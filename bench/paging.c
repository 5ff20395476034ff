// paging MEMORY ORDER BYTES STEPS: what it costs to change a page of more memory than there is. MEMORY
// is "anonymous" or the path of a file of BYTES bytes, which is mapped shared; ORDER is "sequential",
// STEPS pages one after the other and round again, or "random", STEPS pages anywhere.
//
// All pages are stored to first, in order, which does not count. Prints microseconds a step, until the
// last store; what has not been written to swap or file by then does not count on either side. Every
// page is looked at before it is changed: a page that is not as it was left is an error.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { kPage = 4096 };

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int fail(const char* what) {
  fprintf(stderr, "paging: %s: %s\n", what, strerror(errno));
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: paging anonymous|FILE sequential|random BYTES STEPS\n");
    return 2;
  }
  const int anonymous = strcmp(argv[1], "anonymous") == 0;
  const int sequential = strcmp(argv[2], "sequential") == 0;
  const size_t bytes = strtoull(argv[3], NULL, 10);
  const size_t pages = bytes / kPage;
  const size_t steps = strtoull(argv[4], NULL, 10);
  int descriptor = -1;
  if (!anonymous && (descriptor = open(argv[1], O_RDWR)) < 0) return fail(argv[1]);
  char* const memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                            anonymous ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) return fail("mmap");
  // Pages of 4 KiB on both sides.
  if (anonymous && madvise(memory, bytes, MADV_NOHUGEPAGE) != 0) return fail("madvise");
  uint32_t* const changes = calloc(pages, sizeof(*changes));
  if (changes == NULL) return fail("calloc");

  for (size_t page = 0; page < pages; ++page) *(uint64_t*)(memory + page * kPage) = page << 32;
  uint64_t random = 1;
  const double start = seconds();
  for (size_t step = 0; step < steps; ++step) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const size_t page = sequential ? step % pages : (random >> 33) % pages;
    uint64_t* const word = (uint64_t*)(memory + page * kPage);
    if (*word != ((uint64_t)page << 32 | changes[page])) {
      fprintf(stderr, "paging: page %zu is not as it was left\n", page);
      return 1;
    }
    *word = (uint64_t)page << 32 | ++changes[page];
  }
  printf("%.3f\n", (seconds() - start) * 1e6 / (double)steps);
  return 0;
}
