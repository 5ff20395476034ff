// sbrk, brk, sstk, getpagesize, and 4.3BSD's ommap and ogetpagesize
#include "observe.h"
#include "rule.h"

RULE(sbrk, grow, "one page more: a store there", FREEBSD_7("EOPNOTSUPP", "seed sbrk()"),
     FREEBSD_14("can be written", "sbrk(2)"), LINUX("can be written", "sbrk(2)")) {
  byte* const at = sbrk((intptr_t)PAGE);
  if (at == (void*)-1) return error_name(errno);
  return store(at, 1);
}

RULE(sbrk, zero, "an increment of 0", FREEBSD_7("EOPNOTSUPP", "seed sbrk()"),
     FREEBSD_14("succeeds", "sbrk(2)"), LINUX("succeeds", "sbrk(2)")) {
  return either(sbrk(0) != (void*)-1, "succeeds");
}

RULE(sbrk, shrink, "one page more and one page less: where the heap ends",
     FREEBSD_14("where it was", "sbrk(2)"), LINUX("where it was", "sbrk(2)")) {
  const byte* const before = sbrk(0);
  require(sbrk((intptr_t)PAGE) == before);
  require(sbrk(-(intptr_t)PAGE) == before + PAGE);
  return sbrk(0) == before ? "where it was" : "elsewhere";
}

RULE(sstk, grow, "one page more",
     BOTH_FREEBSDS("EOPNOTSUPP", "seed sstk()", "vm_mmap.c sys_sstk()")) {
  return either(sstk((int)PAGE) != (void*)-1, "succeeds");
}

RULE(getpagesize, page_size, "",
     EVERYWHERE("4096", "seed ogetpagesize()", "getpagesize(3)", "getpagesize(2)")) {
  return say("%d", getpagesize());
}

RULE(ogetpagesize, page_size, "",
     BOTH_FREEBSDS("4096", "seed ogetpagesize()", "vm_mmap.c ogetpagesize()")) {
  return say("%d", ogetpagesize());
}

// ---- ommap ----

enum { kOldAnonymous = 0x0002, kOldShared = 0x0010, kOldCopy = 0x0020, kOldFixed = 0x0100 };
enum { kOldExecute = 1, kOldWrite = 2, kOldRead = 4 };

#define OMMAP_14 "vm_mmap.c ommap()"

RULE(ommap, read_is_4, "protection 4: a load and a store",
     BOTH_FREEBSDS("reads 0, SIGSEGV", "seed ommap()", OMMAP_14)) {
  byte* const at = ommap(NULL, PAGE, kOldRead, kOldAnonymous, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  const char* const first = load(at);
  return say("%s, %s", first, store(at, 1));
}

RULE(ommap, write_is_2, "protection 6: a load and a store",
     BOTH_FREEBSDS("reads 0, can be written", "seed ommap()", OMMAP_14)) {
  byte* const at = ommap(NULL, PAGE, kOldRead | kOldWrite, kOldAnonymous, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  const char* const first = load(at);
  return say("%s, %s", first, store(at, 1));
}

RULE(ommap, execute_is_1, "protection 5: a function that does nothing",
     BOTH_FREEBSDS("can be called", "seed ommap()", OMMAP_14)) {
  const int file = new_file(1);
  const byte code = 0xc3;  // ret
  require(pwrite(file, &code, 1, 0) == 1);
  byte* const at = ommap(NULL, PAGE, kOldRead | kOldExecute, 0, file, 0);
  if (at == MAP_FAILED) return error_name(errno);
  void (*function)(void);
  memcpy(&function, &at, sizeof(function));
  function();
  return "can be called";
}

RULE(ommap, nothing_is_0, "protection 0: a load",
     BOTH_FREEBSDS("SIGSEGV", "seed ommap()", OMMAP_14)) {
  byte* const at = ommap(NULL, PAGE, 0, kOldAnonymous, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return load(at);
}

RULE(ommap, unknown_protection, "protection 0x44, of which only the 4 means something: a load",
     BOTH_FREEBSDS("reads 0", "seed ommap()", OMMAP_14)) {
  byte* const at = ommap(NULL, PAGE, 0x40 | kOldRead, kOldAnonymous, -1, 0);
  if (at == MAP_FAILED) return error_name(errno);
  return load(at);
}

static const char* old_mapping_of_file(int flags) {
  const int file = new_file(1);
  byte* const at = ommap(NULL, PAGE, kOldRead | kOldWrite, flags, file, 0);
  if (at == MAP_FAILED) return error_name(errno);
  const char* const first = load(at);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC) == 0);
  return say("%s, %s", first, file_state(file, 0, 9));
}

RULE(ommap, shared, "a file with the flag 0x10 (OMAP_SHARED): a store, then msync",
     BOTH_FREEBSDS("reads 1, the file has it", "seed ommap()", OMMAP_14)) {
  return old_mapping_of_file(kOldShared);
}

RULE(ommap, private_unless_shared, "a file without flags: a store, then msync",
     BOTH_FREEBSDS("reads 1, the file has its own", "seed ommap()", OMMAP_14)) {
  return old_mapping_of_file(0);
}

RULE(ommap, copy, "a file with the flag 0x20 (OMAP_COPY): a store, then msync",
     BOTH_FREEBSDS("reads 1, the file has its own", "seed ommap()", OMMAP_14)) {
  return old_mapping_of_file(kOldCopy);
}

RULE(ommap, fixed, "the flag 0x100 (OMAP_FIXED) over a page with data: the page",
     BOTH_FREEBSDS("reads 0", "seed ommap()", OMMAP_14)) {
  byte* const at = numbered(1);
  const byte* const got = ommap(at, PAGE, kOldRead, kOldAnonymous | kOldFixed, -1, 0);
  if (got == MAP_FAILED) return error_name(errno);
  return got == at ? load(at) : "maps elsewhere";
}

RULE(ommap, unknown_flag, "a flag that 4.3BSD has not",
     BOTH_FREEBSDS("maps it", "seed ommap()", OMMAP_14)) {
  return mapped(ommap(NULL, PAGE, kOldRead, kOldAnonymous | 0x1000, -1, 0));
}

RULE(ommap, negative_length, "a negative length", FREEBSD_7("EINVAL", "seed mmap()"),
     FREEBSD_14("ENOMEM", OMMAP_14)) {
  return mapped(ommap(NULL, -(int)PAGE, kOldRead, kOldAnonymous, -1, 0));
}

RULE(ommap, anonymous_with_descriptor, "the flag 2 (OMAP_ANON) with a descriptor",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", OMMAP_14)) {
  return mapped(ommap(NULL, PAGE, kOldRead, kOldAnonymous, new_file(1), 0));
}

RULE(ommap, offset_within_a_page, "a file offset of 100 bytes: where the answer points",
     BOTH_FREEBSDS("100 bytes into a page", "seed mmap()", OMMAP_14)) {
  byte* const at = ommap(NULL, PAGE, kOldRead, 0, new_file(2), 100);
  if (at == MAP_FAILED) return error_name(errno);
  return say("%zu bytes into a page", (uintptr_t)at % PAGE);
}
