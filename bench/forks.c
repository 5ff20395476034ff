// forks COUNT MIB: microseconds that a fork and the child's exit take with so much memory resident.
// Served or not: whoever runs it decides.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int fail(const char* what) {
  perror(what);
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fputs("usage: forks COUNT MIB\n", stderr);
    return 2;
  }
  const long count = atol(argv[1]);
  const size_t bytes = (size_t)atol(argv[2]) << 20;
  char* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail("mmap");
  madvise(memory, bytes, MADV_NOHUGEPAGE);
  for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
  const double start = microseconds();
  for (long i = 0; i < count; ++i) {
    const pid_t child = fork();
    if (child < 0) return fail("fork");
    if (child == 0) _exit(0);
    if (waitpid(child, NULL, 0) != child) return fail("waitpid");
  }
  printf("%.1f\n", (microseconds() - start) / (double)count);
  return 0;
}
