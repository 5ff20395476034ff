// mprotect
#include "observe.h"
#include "rule.h"

RULE(mprotect, address_within_a_page, "PROT_NONE for a byte within a page: the page",
     BOTH_FREEBSDS("succeeds, is gone", "seed mprotect()", AS_7),
     LINUX("EINVAL, stays", "mprotect(2)")) {
  byte* const at = numbered(1);
  const char* const result = status(mprotect(at + 100, 1, PROT_NONE));
  return say("%s, %s", result, presence(at));
}

RULE(mprotect, end_within_a_page,
     "PROT_NONE for two bytes, of which the second is on the next page: both pages",
     BOTH_FREEBSDS("succeeds, is gone, is gone", "seed mprotect()", AS_7),
     LINUX("EINVAL, stays, stays", "mprotect(2)")) {
  byte* const at = numbered(2);
  const char* const result = status(mprotect(at + PAGE - 1, 2, PROT_NONE));
  return say("%s, %s, %s", result, presence(at), presence(at + PAGE));
}

RULE(mprotect, length_is_rounded_up, "PROT_NONE for a page and a byte: the second page",
     EVERYWHERE("is gone", "seed mprotect()", AS_7, "mprotect(2)")) {
  byte* const at = numbered(2);
  require(mprotect(at, PAGE + 1, PROT_NONE) == 0);
  return presence(at + PAGE);
}

RULE(mprotect, length_zero, "the length is 0: the page",
     EVERYWHERE("succeeds, stays", "seed mprotect()", AS_7, KERNEL)) {
  byte* const at = numbered(1);
  const char* const result = status(mprotect(at, 0, PROT_NONE));
  return say("%s, %s", result, presence(at));
}

RULE(mprotect, length_zero_within_a_page, "the length is 0, the address within a page: the page",
     BOTH_FREEBSDS("succeeds, is gone", "seed mprotect()", AS_7),
     LINUX("EINVAL, stays", "mprotect(2)")) {
  byte* const at = numbered(1);
  const char* const result = status(mprotect(at + 100, 0, PROT_NONE));
  return say("%s, %s", result, presence(at));
}

RULE(mprotect, wraps, "the range wraps around",
     BOTH_FREEBSDS("EINVAL", "seed mprotect()", "mprotect(2)"), LINUX("ENOMEM", "mprotect(2)")) {
  return status(mprotect(anonymous(1), -PAGE, PROT_READ));
}

RULE(mprotect, hole, "PROT_NONE for a range with a hole in its middle: the pages around it",
     BOTH_FREEBSDS("succeeds, is gone, is gone", "seed mprotect()", AS_7),
     LINUX("ENOMEM, is gone, stays", "mprotect(2)")) {
  byte* const at = with_hole(3, 1);
  const char* const result = status(mprotect(at, 3 * PAGE, PROT_NONE));
  return say("%s, %s, %s", result, presence(at), presence(at + 2 * PAGE));
}

RULE(mprotect, hole_at_the_start,
     "PROT_NONE for a range whose first page is not mapped: the second",
     BOTH_FREEBSDS("succeeds, is gone", "seed mprotect()", AS_7),
     LINUX("ENOMEM, stays", "mprotect(2)")) {
  byte* const at = with_hole(2, 0);
  const char* const result = status(mprotect(at, 2 * PAGE, PROT_NONE));
  return say("%s, %s", result, presence(at + PAGE));
}

RULE(mprotect, nothing_mapped, "a range where nothing is mapped",
     BOTH_FREEBSDS("succeeds", "seed mprotect()", AS_7), LINUX("ENOMEM", "mprotect(2)")) {
  return status(mprotect(room(1), PAGE, PROT_READ));
}

RULE(mprotect, unknown_protection, "the protection has a bit that means nothing",
     FREEBSD_7("succeeds", "seed mprotect()"), FREEBSD_14("EINVAL", "mprotect(2)"),
     LINUX("EINVAL", "mprotect(2)")) {
  return status(mprotect(anonymous(1), PAGE, READ_WRITE | UNKNOWN_PROTECTION));
}

RULE(mprotect, nothing, "PROT_NONE: a load",
     EVERYWHERE("SIGSEGV", "seed mprotect()", "mprotect(2)", "mprotect(2)")) {
  byte* const at = numbered(1);
  require(mprotect(at, PAGE, PROT_NONE) == 0);
  return load(at);
}

RULE(mprotect, read_only, "PROT_READ: a load and a store",
     EVERYWHERE("reads 1, SIGSEGV", "seed mprotect()", "mprotect(2)", "mprotect(2)")) {
  byte* const at = numbered(1);
  require(mprotect(at, PAGE, PROT_READ) == 0);
  const char* const first = load(at);
  return say("%s, %s", first, store(at, 9));
}

RULE(mprotect, and_back, "PROT_NONE and then PROT_READ | PROT_WRITE: what was stored before",
     EVERYWHERE("reads 1", "seed mprotect()", "mprotect(2)", "mprotect(2)")) {
  byte* const at = numbered(1);
  require(mprotect(at, PAGE, PROT_NONE) == 0);
  require(mprotect(at, PAGE, READ_WRITE) == 0);
  return load(at);
}

RULE(mprotect, middle_of_a_mapping, "PROT_NONE for the middle one of three pages: the three",
     EVERYWHERE("stays, is gone, stays", "seed mprotect()", "mprotect(2)", "mprotect(2)")) {
  byte* const at = numbered(3);
  require(mprotect(at + PAGE, PAGE, PROT_NONE) == 0);
  return say("%s, %s, %s", presence(at), presence(at + PAGE), presence(at + 2 * PAGE));
}

RULE(mprotect, children_have_it, "PROT_NONE, then a fork: a load in the child",
     EVERYWHERE("the child gets SIGSEGV", "seed mprotect()", "mprotect(2)", "fork(2)")) {
  byte* const at = numbered(1);
  require(mprotect(at, PAGE, PROT_NONE) == 0);
  return child_load(at);
}

RULE(mprotect, over_the_maximum, "PROT_WRITE of a shared file that is open for reading only",
     EVERYWHERE("EACCES", "seed mprotect()", "mprotect(2)", "mprotect(2)")) {
  byte* const at = map_file(open_again(new_file(1), O_RDONLY), 1, PROT_READ, MAP_SHARED);
  return status(mprotect(at, PAGE, READ_WRITE));
}

RULE(mprotect, over_the_maximum_in_part,
     "PROT_WRITE of private memory, mapped for reading, and such a file behind it: the memory",
     BOTH_FREEBSDS("EACCES, SIGSEGV", "seed mprotect()", "mprotect(2)"),
     LINUX("EACCES, can be written", KERNEL)) {
  byte* const at = mmap(NULL, 2 * PAGE, PROT_READ, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  const int file = open_again(new_file(1), O_RDONLY);
  require(mmap(at + PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == at + PAGE);
  const char* const result = status(mprotect(at, 2 * PAGE, READ_WRITE));
  return say("%s, %s", result, store(at, 1));
}

RULE(mprotect, file_becomes_writable,
     "a file open for reading and writing, mapped shared for reading, becomes writable: a store",
     EVERYWHERE("the file has it", "seed mmap()", "mprotect(2)", "mprotect(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, PROT_READ, MAP_SHARED);
  require(mprotect(at, PAGE, READ_WRITE) == 0);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC) == 0);
  return file_state(file, 0, 9);
}

#ifdef RULES_FREEBSD_NUMBERS

RULE(mprotect, maximum_is_lowered, "PROT_MAX(PROT_READ), and then PROT_WRITE",
     FREEBSD_7("succeeds", "seed mprotect()"), FREEBSD_14("EACCES", "mprotect(2)")) {
  byte* const at = anonymous(1);
  require(mprotect(at, PAGE, PROT_READ | PROT_MAX(PROT_READ)) == 0);
  return status(mprotect(at, PAGE, READ_WRITE));
}

RULE(mprotect, maximum_below_protection,
     "PROT_MAX() has less than the protection that is asked for",
     FREEBSD_7("succeeds", "seed mprotect()"), FREEBSD_14("EOPNOTSUPP", "mprotect(2)")) {
  return status(mprotect(anonymous(1), PAGE, READ_WRITE | PROT_MAX(PROT_READ)));
}

RULE(mprotect, maximum_is_not_raised, "PROT_MAX() has more than the mapping's maximum",
     FREEBSD_7("succeeds", "seed mprotect()"), FREEBSD_14("EACCES", "mprotect(2)")) {
  byte* const at = mmap(NULL, PAGE, PROT_READ | PROT_MAX(PROT_READ), PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return status(mprotect(at, PAGE, PROT_READ | PROT_MAX(READ_WRITE)));
}

RULE(mprotect, guard, "PROT_READ | PROT_WRITE for a MAP_GUARD, which is then read",
     FREEBSD_14("SIGSEGV", "mmap(2)")) {
  byte* const at = mmap(NULL, PAGE, PROT_NONE, MAP_GUARD, -1, 0);
  require(at != MAP_FAILED);
  (void)mprotect(at, PAGE, READ_WRITE);
  return load(at);
}

#else

RULE(mprotect, grows_down, "PROT_GROWSDOWN for a mapping that does not grow",
     LINUX("EINVAL", "mprotect(2)")) {
  return status(mprotect(anonymous(1), PAGE, PROT_READ | PROT_GROWSDOWN));
}

RULE(mprotect, grows_both_ways, "PROT_GROWSDOWN with PROT_GROWSUP",
     LINUX("EINVAL", "mprotect(2)")) {
  return status(mprotect(anonymous(1), PAGE, PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP));
}

RULE(mprotect, grows_down_to_the_start,
     "PROT_GROWSDOWN for the higher page of a mapping that grows down: its lower page",
     LINUX("SIGSEGV", "mprotect(2)")) {
  byte* const at = mmap(NULL, 2 * PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
  require(at != MAP_FAILED);
  require(mprotect(at + PAGE, PAGE, PROT_READ | PROT_GROWSDOWN) == 0);
  return store(at, 1);
}

#endif
