// Redirects its own libc's functions to ones that count, then lets libc allocate and make a thread.
// Exits with 0 when each was seen, or says which was not.
#include "libshim/redirect.h"

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
      {"mmap", nullptr, SYS_mmap, (const void*)count_mmap, true},
      {"munmap", nullptr, SYS_munmap, (const void*)count_munmap, true},
      {"mremap", nullptr, SYS_mremap, (const void*)count_mremap, true},
      {"mprotect", nullptr, SYS_mprotect, (const void*)count_mprotect, true},
      {"madvise", nullptr, SYS_madvise, (const void*)count_madvise, true},
      {"sbrk", "brk", 0, (const void*)count_sbrk, true},
      {"brk", nullptr, SYS_brk, (const void*)count_brk, true},
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

  int missing = kept ? 0 : 1;
  for (int i = 0; i < kCount; ++i) {
    printf("%s %d\n", names[i], seen[i]);
    if (seen[i] != 0) continue;
    fprintf(stderr, "no call of %s was seen\n", names[i]);
    ++missing;
  }
  return missing == 0 ? 0 : 1;
}
