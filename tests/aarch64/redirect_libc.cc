// Redirects its own libc's functions to ones that count, then lets libc allocate and make a thread.
// Exits with 0 when each was seen, or says which was not.
#include "libshim/redirect.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libshim/report.h"
#include "libshim/syscall.h"

namespace {

enum Which { kMmap, kMunmap, kMremap, kMprotect, kMadvise, kSbrk, kBrk, kCount };
const char* const names[kCount] = {"mmap",    "munmap", "mremap", "mprotect",
                                   "madvise", "sbrk",   "brk"};
int seen[kCount];

void* count_mmap(void* address, size_t length, int protection, int flags, int file, long offset) {
  __atomic_fetch_add(&seen[kMmap], 1, __ATOMIC_RELAXED);
  return (void*)shim::sys(SYS_mmap, address, length, protection, flags, file, offset);
}
int count_munmap(void* address, size_t length) {
  __atomic_fetch_add(&seen[kMunmap], 1, __ATOMIC_RELAXED);
  return (int)shim::sys(SYS_munmap, address, length);
}
void* count_mremap(void* address, size_t from, size_t to, int flags, void* target) {
  __atomic_fetch_add(&seen[kMremap], 1, __ATOMIC_RELAXED);
  return (void*)shim::sys(SYS_mremap, address, from, to, flags, target);
}
int count_mprotect(void* address, size_t length, int protection) {
  __atomic_fetch_add(&seen[kMprotect], 1, __ATOMIC_RELAXED);
  return (int)shim::sys(SYS_mprotect, address, length, protection);
}
int count_madvise(void* address, size_t length, int advice) {
  __atomic_fetch_add(&seen[kMadvise], 1, __ATOMIC_RELAXED);
  return (int)shim::sys(SYS_madvise, address, length, advice);
}
void* count_sbrk(intptr_t) {
  __atomic_fetch_add(&seen[kSbrk], 1, __ATOMIC_RELAXED);
  return (void*)-1;
}
int count_brk(void*) {
  __atomic_fetch_add(&seen[kBrk], 1, __ATOMIC_RELAXED);
  return -1;
}

// Ones that go on into what libc's function was.
ssize_t (*read_as_it_was)(int, void*, size_t);
int (*open_as_it_was)(const char*, int, ...);
int (*fcntl_as_it_was)(int, int, ...);
int (*ftruncate_as_it_was)(int, off_t);
int reads, opens, fcntls, ftruncates;

ssize_t count_read(int file, void* buffer, size_t bytes) {
  ++reads;
  return read_as_it_was(file, buffer, bytes);
}
int count_open(const char* path, int flags, unsigned mode) {
  ++opens;
  return open_as_it_was(path, flags, mode);
}
int count_fcntl(int file, int command, void* argument) {
  ++fcntls;
  return fcntl_as_it_was(file, command, argument);
}
int count_ftruncate(int file, off_t bytes) {
  ++ftruncates;
  return ftruncate_as_it_was(file, bytes);
}

bool files_go_on() {
  const shim::Redirection redirections[] = {
      {"read", nullptr, 0, (const void*)count_read, false, (void**)&read_as_it_was},
      {"open64", nullptr, 0, (const void*)count_open, false, (void**)&open_as_it_was},
      {"fcntl64", nullptr, 0, (const void*)count_fcntl, false, (void**)&fcntl_as_it_was},
      {"ftruncate64", nullptr, 0, (const void*)count_ftruncate, false,
       (void**)&ftruncate_as_it_was},
  };
  const unsigned redirected = shim::redirect_libc(redirections, 4);
  FILE* file = fopen("/proc/self/exe", "r");
  char start[4] = "";
  const bool well = file != nullptr && fread(start, 1, 4, file) == 4 &&
                    memcmp(start, "\177ELF", 4) == 0 && fcntl(fileno(file), F_GETFL) >= 0 &&
                    ftruncate(-1, 0) == -1 && errno == EBADF;
  printf("%u redirected: read %d, open %d, fcntl %d, ftruncate %d\n", redirected, reads, opens,
         fcntls, ftruncates);
  const int expected = (read_as_it_was != nullptr) + (open_as_it_was != nullptr) +
                       (fcntl_as_it_was != nullptr) + (ftruncate_as_it_was != nullptr);
  const int called = (reads != 0) + (opens != 0) + (fcntls != 0) + (ftruncates != 0);
  return well && redirected == 4 && expected == 4 && called == 4;
}

void* allocate(void*) {
  void* volatile block = malloc(1000);
  memset(block, 1, 1000);
  free(block);
  return nullptr;
}

}  // namespace

int main() {
  shim::set_debug(true);
  const shim::Redirection redirections[] = {
      {"mmap", nullptr, SYS_mmap, (const void*)count_mmap, true, nullptr},
      {"munmap", nullptr, SYS_munmap, (const void*)count_munmap, true, nullptr},
      {"mremap", nullptr, SYS_mremap, (const void*)count_mremap, true, nullptr},
      {"mprotect", nullptr, SYS_mprotect, (const void*)count_mprotect, true, nullptr},
      {"madvise", nullptr, SYS_madvise, (const void*)count_madvise, true, nullptr},
      {"sbrk", "brk", 0, (const void*)count_sbrk, true, nullptr},
      {"brk", nullptr, SYS_brk, (const void*)count_brk, true, nullptr},
  };
  const unsigned redirected = shim::redirect_libc(redirections, kCount);
  if (redirected != kCount) {
    fprintf(stderr, "%u of %d functions are redirected\n", redirected, kCount);
    return 1;
  }
  // Once more, they are somebody else's.
  shim::set_debug(false);
  if (shim::redirect_libc(redirections, kCount) != 0) {
    fprintf(stderr, "a body is redirected twice\n");
    return 1;
  }

  char* block = static_cast<char*>(malloc(1 << 20));
  memset(block, 7, 1 << 20);
  block = static_cast<char*>(realloc(block, 8 << 20));
  bool kept = true;
  for (int i = 0; i < 1 << 20; ++i) kept = kept && block[i] == 7;
  free(block);
  // More small blocks than the heap has room for.
  for (int i = 0; i < 100; ++i) {
    void* volatile small = malloc(8000);
    memset(small, 1, 8000);
  }
  pthread_t thread;
  if (pthread_create(&thread, nullptr, allocate, nullptr) != 0) return 1;
  pthread_join(thread, nullptr);
  if (brk(nullptr) != -1) kept = false;
  if (!files_go_on()) {
    fprintf(stderr, "libc's functions do not go on\n");
    kept = false;
  }

  int missing = kept ? 0 : 1;
  for (int i = 0; i < kCount; ++i) {
    printf("%s %d\n", names[i], seen[i]);
    if (seen[i] != 0) continue;
    fprintf(stderr, "no call of %s was seen\n", names[i]);
    ++missing;
  }
  return missing == 0 ? 0 : 1;
}
