// mmap: how much and how many.
#include <sys/resource.h>

#include "observe.h"
#include "rule.h"

RULE(mmap, over_address_space_limit, "more than RLIMIT_AS allows",
     EVERYWHERE("ENOMEM", "seed vm_mmap()", "vm_mmap.c kern_mmap_racct_check()", "mmap(2)")) {
  set_limit(RLIMIT_AS, GIB);
  return mapped(mmap(NULL, 2 * GIB, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0));
}

RULE(mmap, over_address_space_limit_fixed, "the same, with MAP_FIXED over a page",
     EVERYWHERE("ENOMEM, what was there stays", "seed vm_mmap()",
                "vm_mmap.c kern_mmap_racct_check()", "mmap(2)")) {
  byte* const at = mmap(NULL, 2 * GIB, PROT_NONE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  require(munmap(at + PAGE, 2 * GIB - PAGE) == 0);
  require(mprotect(at, PAGE, READ_WRITE) == 0);
  set_limit(RLIMIT_AS, GIB);
  const char* const result =
      mapped(mmap(at, 2 * GIB, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0));
  return say("%s, what was there %s", result, presence(at));
}

RULE(mmap, nothing_over_address_space_limit, "length 0, with an RLIMIT_AS that is used up",
     FREEBSD_7("succeeds", "seed vm_mmap()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("EINVAL", "mmap(2)")) {
  set_limit(RLIMIT_AS, PAGE);
  return either(mmap(NULL, 0, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0) != MAP_FAILED, "succeeds");
}

// Neighbours of different protection are entries of their own.
static const char* map_many(byte* at, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const int protection = i % 2 == 0 ? PROT_READ : PROT_NONE;
    const void* const got =
        mmap(at + i * PAGE, PAGE, protection, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0);
    if (got == MAP_FAILED) return error_name(errno);
  }
  return "maps them";
}

RULE(mmap, too_many_entries, "more mappings than vm.max_proc_mmap allows",
     WITH_OPTION("--max-proc-mmap=512"), FREEBSD_7("ENOMEM", "seed mmap()")) {
  return map_many(room(600), 600);
}

RULE(mmap, fewer_entries_again, "the same, and then one more where one was unmapped",
     WITH_OPTION("--max-proc-mmap=512"), FREEBSD_7("ENOMEM, then maps it", "seed mmap()")) {
  byte* const at = room(600);
  const char* const result = map_many(at, 600);
  require(munmap(at, 2 * PAGE) == 0);
  return say("%s, then %s", result,
             mapped(mmap(at, PAGE, PROT_READ, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0)));
}

RULE(mmap, too_many_entries_and_bad_descriptor, "the same, with a descriptor that is not open",
     WITH_OPTION("--max-proc-mmap=512"), FREEBSD_7("EBADF", "seed mmap()")) {
  require(strcmp(map_many(room(600), 600), "ENOMEM") == 0);
  return mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 1000, 0));
}

RULE(mmap, many_entries, "600 mappings, without such a limit",
     EVERYWHERE("maps them", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return map_many(room(600), 600);
}
