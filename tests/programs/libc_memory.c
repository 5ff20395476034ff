// Memory that libc gets for itself: malloc's heaps and threads' stacks.
#include "check.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

enum { THREADS = 6 };

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static void* volatile in_arena;
static void* volatile on_stack;

static void* show_thread(void* argument) {
  pthread_barrier_t* both = argument;
  byte local = 1;
  on_stack = &local;
  in_arena = malloc(100);
  check(in_arena != NULL);
  memset(in_arena, 1, 100);
  pthread_barrier_wait(both);
  pause();
  return NULL;
}

// Says where libc's memory is, a line each, and waits to be killed.
static void shows(char** arguments) {
  (void)arguments;
  pthread_barrier_t both;
  pthread_t thread;
  check(pthread_barrier_init(&both, NULL, 2) == 0);
  check(pthread_create(&thread, NULL, show_thread, &both) == 0);
  pthread_barrier_wait(&both);
  void* small = malloc(100);
  void* big = malloc(8 * MIB);
  check(small != NULL && big != NULL);
  memset(small, 1, 100);
  memset(big, 1, 8 * MIB);
  printf("small %p\nbig %p\narena %p\nstack %p\nshown\n", small, big, in_arena, on_stack);
  fflush(stdout);
  pause();
}

// A heap that grows, shrinks and moves holds what was stored.
static void heap(char** arguments) {
  (void)arguments;
  enum { COUNT = 400 };
  byte* blocks[COUNT];
  size_t sizes[COUNT];
  for (size_t round = 0; round < 6; ++round) {
    for (size_t i = 0; i < COUNT; ++i) {
      sizes[i] = 1 + (i * 7919 + round * 104729) % (i % 50 == 0 ? 2 * MIB : 24 * KIB);
      blocks[i] = malloc(sizes[i]);
      check(blocks[i] != NULL);
      fill_pattern(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < COUNT; i += 2) {
      check(is_pattern(blocks[i], sizes[i], i));
      free(blocks[i]);
    }
    malloc_trim(0);
    for (size_t i = 1; i < COUNT; i += 2) {
      const size_t larger = sizes[i] * 3;
      blocks[i] = realloc(blocks[i], larger);
      check(blocks[i] != NULL && is_pattern(blocks[i], sizes[i], i));
      fill_pattern(blocks[i], larger, i);
      const size_t smaller = sizes[i] / 2 + 1;
      blocks[i] = realloc(blocks[i], smaller);
      check(blocks[i] != NULL && is_pattern(blocks[i], smaller, i));
      free(blocks[i]);
    }
    malloc_trim(0);
  }
  // Blocks with a mapping of their own move by mremap.
  byte* block = malloc(MIB);
  check(block != NULL);
  fill_pattern(block, MIB, 0);
  for (size_t bytes = MIB; bytes < 64 * MIB; bytes *= 2) {
    block = realloc(block, 2 * bytes);
    check(block != NULL && is_pattern(block, bytes, 0));
    fill_pattern(block + bytes, bytes, bytes);
  }
  for (size_t bytes = 64 * MIB; bytes > MIB; bytes /= 2) {
    block = realloc(block, bytes / 2);
    check(block != NULL && is_pattern(block, bytes / 2, 0));
  }
  free(block);
  byte* zeroes = calloc(3, MIB);
  check(zeroes != NULL && is_filled(zeroes, 3 * MIB, 0));
  free(zeroes);
}

static void* allocate(void* argument) {
  const size_t self = (size_t)(uintptr_t)argument;
  for (size_t round = 0; round < 200; ++round) {
    const size_t bytes = 1 + (round * 6151 + self * 257) % (round % 20 == 0 ? MIB : 40 * KIB);
    byte* first = malloc(bytes);
    byte* second = malloc(bytes / 2 + 1);
    check(first != NULL && second != NULL);
    fill_pattern(first, bytes, self);
    fill_pattern(second, bytes / 2 + 1, round);
    first = realloc(first, bytes + 10 * KIB);
    check(first != NULL && is_pattern(first, bytes, self));
    check(is_pattern(second, bytes / 2 + 1, round));
    free(first);
    free(second);
  }
  return NULL;
}

// Threads allocate, end, and others run on the stacks that they leave.
static void threads(char** arguments) {
  (void)arguments;
  for (size_t round = 0; round < 8; ++round) {
    pthread_t running[THREADS];
    for (uintptr_t i = 0; i < THREADS; ++i) {
      check(pthread_create(&running[i], NULL, allocate, (void*)(i + round)) == 0);
    }
    for (size_t i = 0; i < THREADS; ++i) check(pthread_join(running[i], NULL) == 0);
  }
  malloc_trim(0);
}

// A child's heap is its parent's and then its own.
static void child(char** arguments) {
  (void)arguments;
  byte* mine = malloc(3 * MIB);
  byte* little = malloc(1000);
  check(mine != NULL && little != NULL);
  fill_pattern(mine, 3 * MIB, 1);
  fill_pattern(little, 1000, 2);
  const pid_t pid = fork();
  if (pid == 0) {
    check(is_pattern(mine, 3 * MIB, 1) && is_pattern(little, 1000, 2));
    memset(mine, 0, 3 * MIB);
    mine = realloc(mine, 9 * MIB);
    check(mine != NULL);
    free(mine);
    free(little);
    heap(NULL);
    threads(NULL);
    _exit(0);
  }
  check_child(pid);
  check(is_pattern(mine, 3 * MIB, 1) && is_pattern(little, 1000, 2));
  free(mine);
  free(little);
}

// How /proc/self/maps shows libc's mappings, without their addresses.
static void maps_of_libc(char** arguments) {
  (void)arguments;
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[4096];
  check(maps != NULL);
  while (fgets(line, sizeof(line), maps) != NULL) {
    if (strstr(line, "/libc.so") != NULL) fputs(strchr(line, ' '), stdout);
  }
  fclose(maps);
}

// The bodies of libc's functions follow the host's rules; what the program calls, the server's.
static void rules(char** arguments) {
  (void)arguments;
  void* libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
  check(libc != NULL);
  void* (*body)(void*, size_t, int, int, int, off_t) = dlsym(libc, "mmap");
  void* (*body_of_sbrk)(intptr_t) = dlsym(libc, "sbrk");
  check(body != NULL && body_of_sbrk != NULL);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  // FreeBSD refuses anonymous memory of a descriptor; the host does not look at it.
  check_error(EINVAL, mmap(NULL, PAGE, PROT_READ, flags, 1, 0) == MAP_FAILED);
  errno = 99;
  check(body(NULL, PAGE, PROT_READ, flags, 1, 0) != MAP_FAILED);
  check(errno == 99);
  check_error(EINVAL, body(NULL, 0, PROT_READ, flags, -1, 0) == MAP_FAILED);
  check_error(EOPNOTSUPP, sbrk(PAGE) == (void*)-1);
  check_error(ENOMEM, body_of_sbrk(PAGE) == (void*)-1);
  check_error(ENOMEM, body_of_sbrk(-PAGE) == (void*)-1);
  check(body_of_sbrk(0) != (void*)-1);
}

CASES(CASE(shows), CASE(heap), CASE(threads), CASE(child), CASE(maps_of_libc), CASE(rules))
