// holder MAPPINGS MIB: maps so many pieces of a page, no two of which can be one mapping, and so much
// memory that it touches; says "ready" and holds all that until its input ends.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static char* map(size_t bytes, int protection) {
  char* memory = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    perror("mmap");
    exit(1);
  }
  return memory;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fputs("usage: holder MAPPINGS MIB\n", stderr);
    return 2;
  }
  const long mappings = atol(argv[1]);
  for (long i = 0; i < mappings; ++i) map(4096, i % 2 == 0 ? PROT_READ : PROT_READ | PROT_WRITE);
  const size_t bytes = (size_t)atol(argv[2]) << 20;
  if (bytes != 0) {
    char* memory = map(bytes, PROT_READ | PROT_WRITE);
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
  }
  puts("ready");
  fflush(stdout);
  char byte;
  return read(STDIN_FILENO, &byte, 1) < 0;
}
