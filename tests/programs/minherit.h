// FreeBSD's minherit(2), which only the preloaded library has: libc has no declaration of it.
#pragma once

#include <dlfcn.h>

#include "check.h"

enum { INHERIT_SHARE, INHERIT_COPY, INHERIT_NONE, INHERIT_ZERO };

static inline int minherit(void* address, size_t length, int inherit) {
  int (*function)(void*, size_t, int) = NULL;
  *(void**)&function = dlsym(RTLD_DEFAULT, "minherit");
  check(function != NULL);
  return function(address, length, inherit);
}
