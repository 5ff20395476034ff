// mmap: what its arguments may be, and where a mapping goes.
#include <sys/resource.h>

#include "observe.h"
#include "rule.h"

// ---- length ----

RULE(mmap, negative_length, "the length is negative as a signed number",
     FREEBSD_7("EINVAL", "seed mmap()"), FREEBSD_14("ENOMEM", "mmap(2)"),
     LINUX("ENOMEM", "mmap(2)")) {
  return mapped(mmap(NULL, -PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0));
}

RULE(mmap, length_over_the_top, "the length is one that becomes 0 when rounded up",
     FREEBSD_7("EINVAL", "seed mmap()"), FREEBSD_14("ENOMEM", "mmap(2)"),
     LINUX("ENOMEM", "mmap(2)")) {
  return mapped(mmap(NULL, SIZE_MAX, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0));
}

RULE(mmap, no_room, "the length is more than the whole address space",
     EVERYWHERE("ENOMEM", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  return mapped(mmap(NULL, (size_t)1 << 48, PROT_NONE, PRIVATE_ANONYMOUS, -1, 0));
}

RULE(mmap, length_zero, "the length is 0", FREEBSD_7("succeeds, maps nothing", "seed vm_mmap()"),
     FREEBSD_14("EINVAL", "mmap(2)"), LINUX("EINVAL", "mmap(2)")) {
  const byte* const at = mmap(NULL, 0, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return signal_of_load(at) != 0 ? "succeeds, maps nothing" : "maps a page";
}

RULE(mmap, length_zero_fixed, "the length is 0, with MAP_FIXED where a page is mapped",
     FREEBSD_7("succeeds, the page stays", "seed vm_mmap()"),
     FREEBSD_14("EINVAL, the page stays", "mmap(2)"), LINUX("EINVAL, the page stays", "mmap(2)")) {
  byte* const at = numbered(1);
  const void* const got = mmap(at, 0, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0);
  const char* const result = either(got == at, "succeeds");
  return say("%s, the page %s", result, presence(at));
}

RULE(mmap, length_zero_within_a_page,
     "the length is 0 and the file offset is not at the start of a page",
     FREEBSD_7("maps the page", "seed mmap()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("EINVAL", "mmap(2)")) {
  const byte* const at = mmap(NULL, 0, PROT_READ, MAP_PRIVATE, new_file(1), 100);
  if (at == MAP_FAILED) return error_name(errno);
  return *at == 1 ? "maps the page" : "maps something else";
}

RULE(mmap, length_zero_of_bad_descriptor, "the length is 0 and the descriptor is not open",
     FREEBSD_7("EBADF", "seed mmap()"), FREEBSD_14("EINVAL", "mmap(2)"), LINUX("EBADF", KERNEL)) {
  return mapped(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, 1000, 0));
}

RULE(mmap, length_is_rounded_up, "the length is 1: a byte at the end of the page is stored to",
     EVERYWHERE("can be written", "seed mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = mmap(NULL, 1, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return store(at + PAGE - 1, 1);
}

RULE(mmap, negative_length_of_bad_descriptor,
     "the length is negative and the descriptor is not open", FREEBSD_7("EINVAL", "seed mmap()"),
     FREEBSD_14("EBADF", "vm_mmap.c kern_mmap()"), LINUX("EBADF", KERNEL)) {
  return mapped(mmap(NULL, -PAGE, PROT_READ, MAP_PRIVATE, 1000, 0));
}

// ---- protection ----

RULE(mmap, unknown_protection, "the protection has a bit that means nothing",
     FREEBSD_7("maps it", "seed mmap()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("maps it", KERNEL)) {
  return mapped(mmap(NULL, PAGE, READ_WRITE | UNKNOWN_PROTECTION, PRIVATE_ANONYMOUS, -1, 0));
}

RULE(mmap, no_protection, "the protection is PROT_NONE: the page is read",
     EVERYWHERE("SIGSEGV", "seed mmap()", "mmap(2)", "mmap(2)")) {
  const byte* const at = mmap(NULL, PAGE, PROT_NONE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return load(at);
}

RULE(mmap, read_only, "the protection is PROT_READ: the page is stored to",
     EVERYWHERE("SIGSEGV", "seed mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = mmap(NULL, PAGE, PROT_READ, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return store(at, 1);
}

RULE(mmap, anonymous_reads_zero, "anonymous memory is read before anything is stored there",
     EVERYWHERE("reads 0", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  return load(anonymous(1));
}

RULE(mmap, anonymous_may_get_any_protection,
     "anonymous memory mapped PROT_NONE is given every protection by mprotect",
     EVERYWHERE("succeeds", "seed mmap()", "mmap(2)", "mprotect(2)")) {
  byte* const at = mmap(NULL, PAGE, PROT_NONE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return status(mprotect(at, PAGE, READ_WRITE | PROT_EXEC));
}

#ifdef RULES_FREEBSD_NUMBERS

RULE(mmap, maximum_below_protection, "PROT_MAX() has less than the protection that is asked for",
     FREEBSD_7("maps it", "seed mmap()"), FREEBSD_14("EOPNOTSUPP", "mmap(2)")) {
  return mapped(mmap(NULL, PAGE, READ_WRITE | PROT_MAX(PROT_READ), PRIVATE_ANONYMOUS, -1, 0));
}

RULE(mmap, maximum_is_kept, "a mapping with PROT_MAX(PROT_READ) is to become writable",
     FREEBSD_7("succeeds", "seed mmap()"), FREEBSD_14("EACCES", "mmap(2), mprotect(2)")) {
  byte* const at = mmap(NULL, PAGE, PROT_READ | PROT_MAX(PROT_READ), PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return status(mprotect(at, PAGE, READ_WRITE));
}

RULE(mmap, maximum_allows_what_it_has,
     "a mapping without protection but with PROT_MAX(PROT_READ | PROT_WRITE) is to become writable",
     BOTH_FREEBSDS("succeeds", "seed mmap()", "mmap(2), mprotect(2)")) {
  byte* const at = mmap(NULL, PAGE, PROT_NONE | PROT_MAX(READ_WRITE), PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return status(mprotect(at, PAGE, READ_WRITE));
}

#endif

// ---- flags ----

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

// ---- offset ----

RULE(mmap, offset_within_a_page,
     "the file offset is 100 bytes into the second page: the byte there",
     BOTH_FREEBSDS("reads 2, 100 bytes into a page", "seed mmap()", "mmap(2)"),
     LINUX("EINVAL", "mmap(2)")) {
  const byte* const at = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, new_file(3), PAGE + 100);
  if (at == MAP_FAILED) return error_name(errno);
  return say("%s, %zu bytes into a page", load(at), (uintptr_t)at % PAGE);
}

RULE(mmap, offset_adds_to_length,
     "a page at a file offset of 100 bytes: the last byte of the page, in the file's second",
     BOTH_FREEBSDS("reads 2", "seed mmap()", "mmap(2)"), LINUX("EINVAL", "mmap(2)")) {
  const byte* const at = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, new_file(2), 100);
  if (at == MAP_FAILED) return error_name(errno);
  return load(at + PAGE - 1);
}

RULE(mmap, negative_offset, "the offset of a file is negative", FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("EOVERFLOW", KERNEL)) {
  return mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, new_file(1), -(off_t)PAGE));
}

RULE(mmap, offset_behind_the_end, "the offset is behind the end of the file: the page is read",
     EVERYWHERE("SIGBUS", "seed vm_mmap_vnode()", "mmap(2)", "mmap(2)")) {
  const byte* const at = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, new_file(1), 4 * PAGE);
  require(at != MAP_FAILED);
  return load(at);
}

// ---- address ----

RULE(mmap, free_hint, "a hint at which it is free",
     EVERYWHERE("honours it", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const hint = room(8);
  const void* const at = mmap(hint, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return at == hint ? "honours it" : "maps elsewhere";
}

RULE(mmap, taken_hint, "a hint at which something is mapped",
     EVERYWHERE("maps elsewhere, what was there reads 1", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const hint = numbered(1);
  const void* const at = mmap(hint, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return say("maps %s, what was there %s", at == hint ? "there" : "elsewhere", load(hint));
}

RULE(mmap, unaligned_hint, "a hint within a free page",
     BOTH_FREEBSDS("takes the page behind it", "seed vm_mmap()", AS_7),
     LINUX("takes that page", "mmap(2)")) {
  byte* const hint = room(8);
  const byte* const at = mmap(hint + 100, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  if (at == hint) return "takes that page";
  return at == hint + PAGE ? "takes the page behind it" : "maps elsewhere";
}

extern char end;

// Where the program's own data would grow to.
static const char* hint_in_the_heap(void) {
  const uintptr_t hint = ((uintptr_t)&end + 8 * GIB) / PAGE * PAGE;
  const void* const at = mmap((void*)hint, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return (uintptr_t)at == hint ? "honours it" : "moves it behind the heap";
}

RULE(mmap, hint_in_the_heap, "a hint where the heap may grow: 8 GiB behind the program's data",
     BOTH_FREEBSDS("moves it behind the heap", "seed mmap()", AS_7),
     LINUX("honours it", "mmap(2)")) {
  return hint_in_the_heap();
}

RULE(mmap, hint_behind_a_limited_heap, "the same hint, with a maximum of 1 GiB for RLIMIT_DATA",
     EVERYWHERE("honours it", "seed mmap()", AS_7, "mmap(2)")) {
  set_limit(RLIMIT_DATA, GIB);
  return hint_in_the_heap();
}

RULE(mmap, fixed, "MAP_FIXED at a free address",
     EVERYWHERE("maps it there", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = room(1);
  const void* const got = mmap(at, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0);
  return either(got == at, "maps it there");
}

RULE(mmap, fixed_replaces, "MAP_FIXED over a page with data: the page",
     EVERYWHERE("reads 0", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = numbered(1);
  require(mmap(at, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0) == at);
  return load(at);
}

RULE(mmap, fixed_replaces_only_its_range, "MAP_FIXED over the middle one of three pages",
     EVERYWHERE("reads 1, reads 0, reads 3", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = numbered(3);
  require(mmap(at + PAGE, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0) == at + PAGE);
  return say("%s, %s, %s", load(at), load(at + PAGE), load(at + 2 * PAGE));
}

RULE(mmap, fixed_unaligned, "MAP_FIXED at an address within a page",
     EVERYWHERE("EINVAL", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return mapped(mmap(anonymous(2) + 100, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0));
}

RULE(mmap, fixed_with_same_remainder,
     "MAP_FIXED, address and file offset both 100 bytes into a page: the byte there",
     FREEBSD_7("reads 1", "seed mmap()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("EINVAL", "mmap(2)")) {
  byte* const at = room(2) + 100;
  const void* const got = mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, new_file(2), 100);
  return got == at ? load(at) : error_name(errno);
}

RULE(mmap, fixed_with_other_remainder,
     "MAP_FIXED, the address at the start of a page and the file offset 100 bytes into one",
     EVERYWHERE("EINVAL", "seed mmap()", "vm_mmap.c kern_mmap()", "mmap(2)")) {
  return mapped(mmap(room(2), PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, new_file(2), 100));
}

RULE(mmap, fixed_unaligned_bad_descriptor,
     "MAP_FIXED at an address within a page, and a descriptor that is not open",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", AS_7), LINUX("EBADF", KERNEL)) {
  return mapped(mmap(room(2) + 100, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, 1000, 0));
}

RULE(mmap, fixed_above_the_map, "MAP_FIXED at an address above all that can be mapped",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)"), LINUX("ENOMEM", "mmap(2)")) {
  return mapped(
      mmap((void*)((uintptr_t)1 << 47), PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0));
}

RULE(mmap, fixed_across_the_top, "MAP_FIXED from below the highest address to above it",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)"), LINUX("ENOMEM", "mmap(2)")) {
  return mapped(mmap((void*)(((uintptr_t)1 << 47) - 2 * PAGE), 4 * PAGE, READ_WRITE,
                     PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0));
}

RULE(mmap, fixed_wraps, "MAP_FIXED of a range that wraps around",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)"), LINUX("ENOMEM", "mmap(2)")) {
  return mapped(mmap((void*)(uintptr_t)(-2 * PAGE), 4 * PAGE, READ_WRITE,
                     PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0));
}

RULE(mmap, page_zero, "MAP_FIXED at address 0, as the superuser",
     FREEBSD_7("maps it", "seed mmap()"), FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("maps it", "mmap(2)")) {
  need_root();
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0));
}

RULE(mmap, page_zero_not_superuser, "MAP_FIXED at address 0, not as the superuser",
     FREEBSD_14("EINVAL", "mmap(2)"), LINUX("EPERM", "mmap(2)")) {
  drop_root(0);
  return mapped(mmap(NULL, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0));
}

RULE(mmap, exclusive_where_taken,
     "MAP_FIXED, but only where it is free (MAP_EXCL, MAP_FIXED_NOREPLACE), over a page",
     FREEBSD_14("EINVAL, what was there reads 1", "mmap(2)"),
     LINUX("EEXIST, what was there reads 1", "mmap(2)")) {
  byte* const at = numbered(1);
  const char* const result =
      mapped(mmap(at, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | FIXED_EXCLUSIVELY, -1, 0));
  return say("%s, what was there %s", result, load(at));
}

RULE(mmap, exclusive_where_partly_taken,
     "the same, over a range of which only the last page is taken", FREEBSD_14("EINVAL", "mmap(2)"),
     LINUX("EEXIST", "mmap(2)")) {
  byte* const at = anonymous(3);
  require(munmap(at, 2 * PAGE) == 0);
  return mapped(mmap(at, 3 * PAGE, READ_WRITE, PRIVATE_ANONYMOUS | FIXED_EXCLUSIVELY, -1, 0));
}

RULE(mmap, exclusive_where_free, "the same, at a free address",
     FREEBSD_14("maps it there", "mmap(2)"), LINUX("maps it there", "mmap(2)")) {
  byte* const at = room(1);
  const void* const got = mmap(at, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | FIXED_EXCLUSIVELY, -1, 0);
  return either(got == at, "maps it there");
}

// ---- MAP_FIXED, and a later check that fails ----

static const char* failing_over_page(int descriptor, int protection, int flags) {
  byte* const at = numbered(1);
  const char* const result = mapped(mmap(at, PAGE, protection, flags | MAP_FIXED, descriptor, 0));
  return say("%s, what was there %s", result, presence(at));
}

RULE(mmap, fixed_of_a_directory, "MAP_FIXED of a directory over a page",
     FREEBSD_7("EINVAL, what was there is gone", "seed vm_mmap()"),
     FREEBSD_14("ENODEV, what was there stays", "mmap(2)"),
     LINUX("ENODEV, what was there stays", "mmap(2)")) {
  return failing_over_page(open(".", O_RDONLY), PROT_READ, MAP_PRIVATE);
}

RULE(mmap, fixed_without_the_right,
     "MAP_FIXED of a shared file over a page, without the right to write",
     EVERYWHERE("EACCES, what was there stays", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return failing_over_page(open_again(new_file(1), O_RDONLY), READ_WRITE, MAP_SHARED);
}

RULE(mmap, fixed_of_bad_descriptor, "MAP_FIXED over a page with a descriptor that is not open",
     EVERYWHERE("EBADF, what was there stays", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return failing_over_page(1000, PROT_READ, MAP_PRIVATE);
}
