/* Something to debug, with memory from malloc, from mmap, and some that it never touches. With "wait"
   it says where that is, and waits for a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct block {
  char text[64];
  unsigned words[400000];
};

static unsigned long total;
static struct block* block;
static int* mapped;
static int* untouched;

static void* map(size_t size) {
  void* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  return memory;
}

static void work(int round) {
  for (int i = 0; i < 400000; i += 1000) {
    block->words[i] = (unsigned)(i * round);
    total += block->words[i] % 97;
  }
  snprintf(block->text, sizeof block->text, "round %d", round);
}

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 3;
  block = malloc(sizeof *block);
  memset(block, 0, sizeof *block);
  mapped = map(1 << 22);
  for (int i = 0; i < 1 << 20; ++i) mapped[i] = i ^ 0x5a5a5a;
  untouched = map(1 << 22);
  for (int round = 1; round <= rounds; ++round) work(round);
  if (argc > 2 && strcmp(argv[2], "wait") == 0) {
    printf("ready %p\n", (void*)(untouched + 500000));
    fflush(stdout);
    getchar();
  }
  printf("%s: %lu %d %u\n", block->text, total, mapped[500000] + untouched[500000],
         block->words[300000]);
  return 0;
}
