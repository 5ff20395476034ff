// mmap with FreeBSD's flags, and what shm_open gives.
#include <sys/mman.h>
#include <sys/param.h>
#include <sys/stat.h>

#include "../check.h"

#include <dlfcn.h>
#include <fcntl.h>

static byte* map(size_t bytes, int flags) {
  byte* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  check(at != MAP_FAILED);
  return at;
}

static void anonymous(char** arguments) {
  (void)arguments;
  const size_t bytes = (size_t)(8 * getpagesize());
  byte* at = map(bytes, MAP_ANON);  // private, if nothing is said
  check(is_filled(at, bytes, 0));
  fill_pattern(at, bytes, 0);
  const pid_t child = fork();
  if (child == 0) {
    memset(at, 0xee, bytes);
    _exit(0);
  }
  check_child(child);
  check(is_pattern(at, bytes, 0));
  check(munmap(at, bytes) == 0);
  check(signal_of_load(at) == SIGSEGV);
}

static void shared(char** arguments) {
  (void)arguments;
  byte* at = map(2 * PAGE_SIZE, MAP_ANON | MAP_SHARED);
  const pid_t child = fork();
  if (child == 0) {
    memset(at, 0xee, 2 * PAGE_SIZE);
    _exit(0);
  }
  check_child(child);
  check(is_filled(at, 2 * PAGE_SIZE, 0xee));
}

static void wishes(char** arguments) {
  (void)arguments;
  static const int flags[] = {MAP_NOCORE, MAP_NOSYNC, MAP_HASSEMAPHORE, MAP_PREFAULT_READ};
  for (size_t i = 0; i < nitems(flags); ++i) {
    byte* at = map(4 * PAGE_SIZE, MAP_ANON | MAP_PRIVATE | flags[i]);
    fill_pattern(at, 4 * PAGE_SIZE, i);
    check(is_pattern(at, 4 * PAGE_SIZE, i));
    check(munmap(at, 4 * PAGE_SIZE) == 0);
  }
}

// MAP_STACK is memory by itself, without MAP_ANON, and has to be readable and writable.
static void stack(char** arguments) {
  (void)arguments;
  const size_t bytes = 64 * PAGE_SIZE;
  byte* at = map(bytes, MAP_STACK);
  for (size_t down = bytes; down > 0; down -= PAGE_SIZE) at[down - 1] = (byte)(down >> PAGE_SHIFT);
  for (size_t down = bytes; down > 0; down -= PAGE_SIZE) {
    check(at[down - 1] == (byte)(down >> PAGE_SHIFT));
  }
  check_error(EINVAL, mmap(NULL, PAGE_SIZE, PROT_READ, MAP_STACK, -1, 0) == MAP_FAILED);
}

static void fixed(char** arguments) {
  (void)arguments;
  byte* at = map(4 * PAGE_SIZE, MAP_ANON | MAP_PRIVATE);
  fill_pattern(at, 4 * PAGE_SIZE, 0);
  check(mmap(at + PAGE_SIZE, PAGE_SIZE, PROT_READ, MAP_ANON | MAP_PRIVATE | MAP_FIXED, -1, 0) ==
        at + PAGE_SIZE);
  check(is_pattern(at, PAGE_SIZE, 0));
  check(is_filled(at + PAGE_SIZE, PAGE_SIZE, 0));
  check(is_pattern(at + 2 * PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE));
  check(trunc_page(at + 5) == (vm_offset_t)at && round_page(at + 5) == (vm_offset_t)at + PAGE_SIZE);
}

static void refusals(char** arguments) {
  (void)arguments;
  const int pipe_end = dup(0);
  check_error(EINVAL,
              mmap(NULL, PAGE_SIZE, PROT_READ, MAP_ANON | MAP_PRIVATE, pipe_end, 0) == MAP_FAILED);
  check_error(EBADF, mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE, 800, 0) == MAP_FAILED);
  byte* at = map(PAGE_SIZE, MAP_ANON);
  check_error(EINVAL, munmap(at, 0) == -1);
}

// arguments[0]: a file of 4 pages
static void file(char** arguments) {
  const int descriptor = open(arguments[0], O_RDWR);
  check(descriptor >= 0);
  byte* at = mmap(NULL, 4 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_FILE | MAP_COPY, descriptor, 0);
  check(at != MAP_FAILED && is_pattern(at, 4 * PAGE_SIZE, 0));
  memset(at, 0xee, 4 * PAGE_SIZE);
  byte* same = mmap(NULL, 4 * PAGE_SIZE, PROT_READ, MAP_SHARED, descriptor, 0);
  check(same != MAP_FAILED && is_pattern(same, 4 * PAGE_SIZE, 0));
  check(close(descriptor) == 0);
  check(is_filled(at, 4 * PAGE_SIZE, 0xee));
}

static void shm_anon(char** arguments) {
  (void)arguments;
  const int descriptor = shm_open(SHM_ANON, O_RDWR, 0600);
  check(descriptor >= 0);
  check((fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0);
  check(ftruncate(descriptor, 2 * PAGE_SIZE) == 0);
  byte* at = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  check(at != MAP_FAILED && is_filled(at, 2 * PAGE_SIZE, 0));
  byte* same = mmap(NULL, 2 * PAGE_SIZE, PROT_READ, MAP_SHARED, descriptor, 0);
  check(same != MAP_FAILED);
  fill_pattern(at, 2 * PAGE_SIZE, 0);
  check(is_pattern(same, 2 * PAGE_SIZE, 0));
  check_error(EINVAL, shm_open(SHM_ANON, O_RDONLY, 0600) == -1);
}

static void shm_named(char** arguments) {
  (void)arguments;
  char name[64];
  snprintf(name, sizeof(name), "/vmshim-freebsd-%d", (int)getpid());
  check_error(ENOENT, shm_open(name, O_RDWR, 0600) == -1);
  const int descriptor = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  check(descriptor >= 0);
  check(shm_unlink(name) == 0);
  check(ftruncate(descriptor, PAGE_SIZE) == 0);
  byte* at = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  check(at != MAP_FAILED);
  fill_pattern(at, PAGE_SIZE, 0);
  check(is_pattern(at, PAGE_SIZE, 0));
}

// What a library built with the host's header calls: MAP_PRIVATE | MAP_ANONYMOUS there.
static void host_numbers(char** arguments) {
  (void)arguments;
  enum { kHostAnonymous = 0x20, kHostDiscard = 4 };
  void* (*host_mmap)(void*, size_t, int, int, int, off_t) = NULL;
  int (*host_madvise)(void*, size_t, int) = NULL;
  *(void**)&host_mmap = dlsym(RTLD_DEFAULT, "mmap");
  *(void**)&host_madvise = dlsym(RTLD_DEFAULT, "madvise");
  byte* at =
      host_mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | kHostAnonymous, -1, 0);
  check(at != MAP_FAILED);
  fill_pattern(at, PAGE_SIZE, 0);
  check(madvise(at, PAGE_SIZE, MADV_DONTNEED) == 0);
  check(is_pattern(at, PAGE_SIZE, 0));
  check(host_madvise(at, PAGE_SIZE, kHostDiscard) == 0);
  check(is_filled(at, PAGE_SIZE, 0));
}

static void page_sizes(char** arguments) {
  (void)arguments;
  size_t sizes[2] = {0, 7};
  check(getpagesize() == PAGE_SIZE);
  check(getpagesizes(NULL, 0) == 1);
  check(getpagesizes(sizes, 2) == 1 && sizes[0] == PAGE_SIZE && sizes[1] == 7);
  check_error(EINVAL, getpagesizes(NULL, 1) == -1);
  check_error(EINVAL, getpagesizes(sizes, -1) == -1);
}

CASES(CASE(anonymous), CASE(shared), CASE(wishes), CASE(stack), CASE(fixed), CASE(refusals),
      CASE(file), CASE(shm_anon), CASE(shm_named), CASE(host_numbers), CASE(page_sizes))
