// mmap: its length, protection, offset and address, and where a mapping goes. Its flags: mmap_flags.c
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
