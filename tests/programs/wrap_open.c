// A second preloaded library: open() goes through it, and its own memory comes from mmap.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

static int* count;

__attribute__((constructor)) static void begin(void) {
  count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (count == MAP_FAILED) abort();
}

int opens_counted(void) { return *count; }

int open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const mode_t mode = va_arg(list, mode_t);
  va_end(list);
  int (*next)(const char*, int, ...) = NULL;
  *(void**)&next = dlsym(RTLD_NEXT, "open");
  ++*count;
  return next(path, flags, mode);
}
