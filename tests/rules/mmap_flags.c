// mmap: what its flags may be and mean; FreeBSD's guards.
#include "observe.h"
#include "rule.h"

RULE(mmap, anonymous_with_descriptor, "MAP_ANON with a descriptor",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)"), LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, new_file(1), 0));
}

RULE(mmap, anonymous_with_bad_descriptor, "MAP_ANON with a descriptor that is not open and not -1",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)"), LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, 1000, 0));
}

RULE(mmap, anonymous_with_offset, "MAP_ANON with an offset of one page",
     FREEBSD_7("maps it", "seed mmap()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, PAGE));
}

RULE(mmap, anonymous_with_unaligned_offset, "MAP_ANON with an offset of 100 bytes",
     FREEBSD_7("maps it, points 100 bytes into the page", "seed mmap()"),
     FREEBSD_14("EINVAL", "mmap(2)"), LINUX("EINVAL", "mmap(2)")) {
  byte* const at = mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 100);
  if (at == MAP_FAILED) return error_name(errno);
  return say("maps it, points %zu bytes into the page", (uintptr_t)at % PAGE);
}

RULE(mmap, unknown_flag, "the flags have a bit that means nothing",
     FREEBSD_7("maps it", "seed mmap()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | UNKNOWN_FLAG, -1, 0));
}

RULE(mmap, anonymous_without_type, "MAP_ANON with neither MAP_SHARED nor MAP_PRIVATE",
     BOTH_FREEBSDS("maps it", "seed mmap()", "mmap(2)"), LINUX("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_ANON, -1, 0));
}

RULE(mmap, file_without_type, "a file with neither MAP_SHARED nor MAP_PRIVATE: a store",
     FREEBSD_7("the file has its own", "seed vm_mmap()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("EINVAL", "mmap(2)")) {
  const int file = new_file(1);
  byte* const at = mmap(NULL, PAGE, READ_WRITE, 0, file, 0);
  if (at == MAP_FAILED) return error_name(errno);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC) == 0);
  return file_state(file, 0, 9);
}

RULE(mmap, bad_descriptor_without_type,
     "neither MAP_ANON, MAP_SHARED nor MAP_PRIVATE, and a descriptor that is not open",
     FREEBSD_7("EBADF", "seed mmap()"), FREEBSD_14("EBADF", "mmap(2)"), LINUX("EBADF", KERNEL)) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, 0, 1000, 0));
}

RULE(mmap, shared_with_children, "a child stores into memory mapped MAP_SHARED: the parent",
     EVERYWHERE("reads 9", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = shared(1);
  require(child_store(at, 9) == 0);
  return load(at);
}

RULE(mmap, private_to_children, "a child stores into memory mapped MAP_PRIVATE: the parent",
     EVERYWHERE("reads 1", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = numbered(1);
  require(child_store(at, 9) == 0);
  return load(at);
}

RULE(mmap, below_2g, "MAP_32BIT: where the mapping is", FREEBSD_14("below 2 GiB", "mmap(2)"),
     LINUX("below 2 GiB", "mmap(2)")) {
  const byte* const at = mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_32BIT, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return (uintptr_t)at < 2 * GIB ? "below 2 GiB" : "elsewhere";
}

RULE(mmap, fixed_above_2g, "MAP_32BIT with MAP_FIXED at an address above 2 GiB",
     FREEBSD_14("EINVAL", "mmap(2)"), LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(room(1), PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED | MAP_32BIT, -1, 0));
}

#ifdef RULES_FREEBSD_NUMBERS

RULE(mmap, both_types, "a file with both MAP_SHARED and MAP_PRIVATE",
     FREEBSD_7("maps it", "seed vm_mmap()"), FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_SHARED | MAP_PRIVATE, new_file(1), 0));
}

RULE(mmap, exclusive_not_fixed, "MAP_EXCL without MAP_FIXED", FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_EXCL, -1, 0));
}

RULE(mmap, reserved_flags, "the flags that FreeBSD has reserved (0x20 and 0x40)",
     BOTH_FREEBSDS("maps it", "seed mmap()", "vm_mmap.c kern_mmap()")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | 0x60, -1, 0));
}

RULE(mmap, has_semaphore, "MAP_HASSEMAPHORE",
     BOTH_FREEBSDS("maps it", "seed mmap()", "vm_mmap.c kern_mmap()")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, SHARED_ANONYMOUS | 0x200, -1, 0));
}

static const char* alignment(int log) {
  const byte* const at =
      mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | (int)MAP_ALIGNED((unsigned)log), -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return (uintptr_t)at % ((uintptr_t)1 << log) == 0 ? "is aligned" : "is not aligned";
}

RULE(mmap, aligned_to_2m, "MAP_ALIGNED(21)", FREEBSD_14("is aligned", "mmap(2)")) {
  return alignment(21);
}

RULE(mmap, aligned_to_1g, "MAP_ALIGNED(30)", FREEBSD_14("is aligned", "mmap(2)")) {
  return alignment(30);
}

RULE(mmap, aligned_below_a_page, "MAP_ALIGNED(11), less than a page",
     FREEBSD_14("EINVAL", "mmap(2)")) {
  return alignment(11);
}

RULE(mmap, aligned_beyond_an_address, "MAP_ALIGNED(64), more than an address has bits",
     FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_ALIGNED(64), -1, 0));
}

RULE(mmap, aligned_for_large_pages, "MAP_ALIGNED_SUPER", FREEBSD_14("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, 4 * MIB, READ_WRITE, PRIVATE_ANONYMOUS | MAP_ALIGNED_SUPER, -1, 0));
}

RULE(mmap, prefault_read, "a file with MAP_PREFAULT_READ: its second page",
     FREEBSD_14("reads 2", "mmap(2)")) {
  return load(map_file(new_file(2), 2, PROT_READ, MAP_SHARED | MAP_PREFAULT_READ) + PAGE);
}

RULE(mmap, not_in_core_files, "memory mapped MAP_NOCORE",
     BOTH_FREEBSDS("is left out", "seed vm_mmap()", "mmap(2)")) {
  byte* const at = mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_NOCORE, -1, 0);
  require(at != MAP_FAILED);
  return has_flag(at, "dd") ? "is left out" : "is in core files";
}

RULE(mmap, no_sync, "a file mapped MAP_NOSYNC is stored to, then msync",
     BOTH_FREEBSDS("the file has it", "seed vm_mmap()", "mmap(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED | MAP_NOSYNC);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC) == 0);
  return file_state(file, 0, 9);
}

// ---- guards ----

static byte* guard(size_t pages) {
  byte* const at = mmap(NULL, pages * PAGE, PROT_NONE, MAP_GUARD, -1, 0);
  require(at != MAP_FAILED);
  return at;
}

RULE(mmap, guard_is_not_accessible, "a MAP_GUARD is read", FREEBSD_14("SIGSEGV", "mmap(2)")) {
  return load(guard(1));
}

RULE(mmap, guard_with_protection, "MAP_GUARD with PROT_READ", FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, PROT_READ, MAP_GUARD, -1, 0));
}

RULE(mmap, guard_with_descriptor, "MAP_GUARD with a descriptor", FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, PROT_NONE, MAP_GUARD, new_file(1), 0));
}

RULE(mmap, guard_with_offset, "MAP_GUARD with an offset", FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, PROT_NONE, MAP_GUARD, -1, PAGE));
}

RULE(mmap, guard_with_anonymous, "MAP_GUARD with MAP_ANON", FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, PROT_NONE, MAP_GUARD | MAP_ANON, -1, 0));
}

RULE(mmap, guard_with_private, "MAP_GUARD with MAP_PRIVATE", FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, PROT_NONE, MAP_GUARD | MAP_PRIVATE, -1, 0));
}

RULE(mmap, guard_with_prefault, "MAP_GUARD with MAP_PREFAULT_READ",
     FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, PROT_NONE, MAP_GUARD | MAP_PREFAULT_READ, -1, 0));
}

RULE(mmap, guard_is_kept_clear, "a hint inside a MAP_GUARD",
     FREEBSD_14("maps elsewhere", "mmap(2)")) {
  byte* const at = guard(4);
  const byte* const got = mmap(at + PAGE, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  if (got == MAP_FAILED) return error_name(errno);
  return got < at || got >= at + 4 * PAGE ? "maps elsewhere" : "maps into the guard";
}

RULE(mmap, guard_is_replaced_by_fixed, "MAP_FIXED over a MAP_GUARD, which is then stored to",
     FREEBSD_14("can be written", "mmap(2)")) {
  byte* const at = guard(3);
  require(mmap(at + PAGE, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0) == at + PAGE);
  return store(at + PAGE, 1);
}

RULE(mmap, guard_stops_exclusive, "MAP_FIXED | MAP_EXCL over a MAP_GUARD",
     FREEBSD_14("EINVAL", "mmap(2)")) {
  return mapped(mmap(guard(1), PAGE, READ_WRITE, PRIVATE_ANONYMOUS | FIXED_EXCLUSIVELY, -1, 0));
}

RULE(mmap, guard_replaces_mapping, "MAP_GUARD | MAP_FIXED over a page, which is then read",
     FREEBSD_14("SIGSEGV", "mmap(2)")) {
  byte* const at = numbered(1);
  require(mmap(at, PAGE, PROT_NONE, MAP_GUARD | MAP_FIXED, -1, 0) == at);
  return load(at);
}

RULE(mmap, guard_is_destroyed_by_munmap, "munmap of a MAP_GUARD, then a hint there",
     FREEBSD_14("honours it", "mmap(2)")) {
  byte* const at = guard(2);
  require(munmap(at, 2 * PAGE) == 0);
  return mmap(at, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0) == at ? "honours it"
                                                                    : "maps elsewhere";
}

#else

RULE(mmap, shared_validate, "a file with MAP_SHARED_VALIDATE",
     EVERYWHERE("maps it", "by its meaning: MAP_SHARED", "by its meaning: MAP_SHARED", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_SHARED_VALIDATE, new_file(1), 0));
}

RULE(mmap, shared_validate_unknown_flag, "MAP_SHARED_VALIDATE with a flag that means nothing",
     LINUX("EOPNOTSUPP", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_SHARED_VALIDATE | UNKNOWN_FLAG, new_file(1), 0));
}

RULE(mmap, shared_validate_anonymous, "MAP_SHARED_VALIDATE with MAP_ANONYMOUS",
     LINUX("EINVAL", KERNEL)) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_SHARED_VALIDATE | MAP_ANONYMOUS, -1, 0));
}

RULE(mmap, synchronous, "MAP_SYNC of a file that is not on persistent memory",
     LINUX("EOPNOTSUPP", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, new_file(1), 0));
}

RULE(mmap, populate, "MAP_POPULATE: the last page, never touched", LINUX("in core", "mmap(2)")) {
  const byte* const at = mmap(NULL, 8 * PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_POPULATE, -1, 0);
  require(at != MAP_FAILED);
  return core_state(at + 7 * PAGE);
}

RULE(mmap, no_reserve, "MAP_NORESERVE",
     EVERYWHERE("maps it", "a hint: it asks for nothing here", "a hint: it asks for nothing here",
                "mmap(2)")) {
  return mapped(mmap(NULL, GIB, READ_WRITE, PRIVATE_ANONYMOUS | MAP_NORESERVE, -1, 0));
}

RULE(mmap, locked, "MAP_LOCKED, as the superuser: the mapping", LINUX("is locked", "mmap(2)")) {
  need_root();
  const byte* const at = mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_LOCKED, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return lock_state(at);
}

RULE(mmap, locked_over_the_limit, "MAP_LOCKED of more than RLIMIT_MEMLOCK, not as the superuser",
     LINUX("EAGAIN", "mmap(2)")) {
  drop_root(4 * PAGE);
  return mapped(mmap(NULL, 8 * PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_LOCKED, -1, 0));
}

RULE(mmap, host_stack, "the host's MAP_STACK, with PROT_NONE",
     EVERYWHERE("maps it", "a hint: it asks for nothing here", "a hint: it asks for nothing here",
                "mmap(2)")) {
  return mapped(mmap(NULL, 8 * MIB, PROT_NONE, PRIVATE_ANONYMOUS | MAP_STACK, -1, 0));
}

#endif
