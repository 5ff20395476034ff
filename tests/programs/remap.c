// mremap, and the calls of the heap: brk, sbrk, sstk, getpagesize.
#include "check.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/syscall.h>

// FreeBSD's; only the preloaded library has it.
static void* sstk(int increment) {
  void* (*function)(int) = NULL;
  *(void**)&function = dlsym(RTLD_DEFAULT, "sstk");
  check(function != NULL);
  return function(increment);
}

static void grow_in_place(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  check(munmap(at + 16 * PAGE, 48 * PAGE) == 0);
  check(mremap(at, 16 * PAGE, 64 * PAGE, 0) == at);
  check(is_pattern(at, 16 * PAGE, 0));
  check(is_filled(at + 16 * PAGE, 48 * PAGE, 0));
  fill_pattern(at, 64 * PAGE, 0);
  check(is_pattern(at, 64 * PAGE, 0));
}

static void grow_by_moving(char** arguments) {
  (void)arguments;
  for (int shared = 0; shared < 2; ++shared) {
    byte* at = shared ? map_shared(64 * PAGE) : map_private(64 * PAGE);
    fill_pattern(at, 64 * PAGE, 0);
    // Only a part of the mapping, so that what follows it is in the way.
    check_error(ENOMEM, mremap(at, 16 * PAGE, 32 * PAGE, 0) == MAP_FAILED);
    check(is_pattern(at, 64 * PAGE, 0));
    if (shared) continue;
    byte* new = mremap(at, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
    check(new != MAP_FAILED&& new != at);
    check(is_pattern(new, 16 * PAGE, 0));
    check(is_filled(new + 16 * PAGE, 16 * PAGE, 0));
    check(signal_of_load(at) == SIGSEGV);
    check(is_pattern(at + 16 * PAGE, 48 * PAGE, 16 * PAGE));
  }
}

static void shrink(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  check(mremap(at, 64 * PAGE, 8 * PAGE, 0) == at);
  check(is_pattern(at, 8 * PAGE, 0));
  check(signal_of_load(at + 8 * PAGE) == SIGSEGV);
}

static void to_fixed(char** arguments) {
  (void)arguments;
  byte* from = map_private(8 * PAGE);
  byte* to = map_private(16 * PAGE);
  fill_pattern(from, 8 * PAGE, 0);
  memset(to, 0xee, 16 * PAGE);
  check(mremap(from, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + 4 * PAGE) ==
        to + 4 * PAGE);
  check(is_pattern(to + 4 * PAGE, 8 * PAGE, 0));
  check(is_filled(to, 4 * PAGE, 0xee) && is_filled(to + 12 * PAGE, 4 * PAGE, 0xee));
  check(signal_of_load(from) == SIGSEGV);
}

// arguments[0]: a file of 16 pages
static void file(char** arguments) {
  const int descriptor = open(arguments[0], O_RDWR);
  check(descriptor >= 0);
  byte* at = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  check(at != MAP_FAILED);
  byte* block =
      mmap(at + 8 * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  check(block == at + 8 * PAGE);
  at[0] = 0xee;
  byte* new = mremap(at, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE);
  check(new != MAP_FAILED&& new != at);
  check(new[0] == 0xee);
  check(is_pattern(new + 1, 16 * PAGE - 1, 1));
  new[15 * PAGE] = 0xdd;
  check(munmap(new, 16 * PAGE) == 0);
  byte read_back = 0;
  check(pread(descriptor, &read_back, 1, 0) == 1 && read_back == 0xee);
  check(pread(descriptor, &read_back, 1, (off_t)(15 * PAGE)) == 1 && read_back == 0xdd);
}

static void refusals(char** arguments) {
  (void)arguments;
  byte* at = map_private(8 * PAGE);
  fill_pattern(at, 8 * PAGE, 0);
  check_error(EINVAL, mremap(at + 1, PAGE, PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
  check_error(EINVAL, mremap(at, PAGE, 0, MREMAP_MAYMOVE) == MAP_FAILED);
  check_error(EINVAL, mremap(at, PAGE, PAGE, 0x1000) == MAP_FAILED);
  check_error(EINVAL, mremap(at, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE) ==
                          MAP_FAILED);
  check_error(EINVAL, mremap(at, PAGE, PAGE, MREMAP_FIXED, at + 4 * PAGE) == MAP_FAILED);
  check(is_pattern(at, 8 * PAGE, 0));
  check(munmap(at + 2 * PAGE, PAGE) == 0);
  check_error(EFAULT, mremap(at + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
}

static void heap(char** arguments) {
  (void)arguments;
  check_error(EOPNOTSUPP, sbrk(0) == (void*)-1);
  check_error(EOPNOTSUPP, sbrk(4096) == (void*)-1);
  check_error(EOPNOTSUPP, sstk(4096) == (void*)-1);
  check(getpagesize() == (int)PAGE);
  // The break is the host's, and malloc's.
  byte* at = malloc(1000);
  check(at != NULL);
  fill_pattern(at, 1000, 0);
  check(is_pattern(at, 1000, 0));
  free(at);
}

// The program data grows and is given back; libc's own allocations go on in between.
static void break_moves(char** arguments) {
  (void)arguments;
  const uintptr_t at = (uintptr_t)syscall(SYS_brk, 0);
  const uintptr_t end = (at + PAGE - 1) / PAGE * PAGE;
  check(brk((void*)(end + 16 * PAGE)) == 0);
  fill_pattern((byte*)end, 16 * PAGE, 0);
  check(is_pattern((byte*)end, 16 * PAGE, 0));
  check(brk((void*)end) == 0);
  check(signal_of_load((byte*)end) == SIGSEGV);
  check_error(ENOMEM, brk((void*)~(uintptr_t)4095) == -1);
}

CASES(CASE(grow_in_place), CASE(grow_by_moving), CASE(shrink), CASE(to_fixed), CASE(file),
      CASE(refusals), CASE(heap), CASE(break_moves))
