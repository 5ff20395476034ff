// mlock, mlock2 and munlock
#include <sys/resource.h>

#include "observe.h"
#include "rule.h"

RULE(mlock, superuser, "one page, as the superuser: the page, in the host's eyes too",
     EVERYWHERE("succeeds, is locked", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = numbered(1);
  const char* const result = status(mlock(at, PAGE));
  return say("%s, %s", result, lock_state(at));
}

RULE(mlock, not_superuser, "one page, not as the superuser, within RLIMIT_MEMLOCK",
     FREEBSD_7("EPERM", "seed mlock()"), FREEBSD_14("succeeds", "mlock(2)"),
     LINUX("succeeds", "mlock(2)")) {
  byte* const at = numbered(1);
  drop_root(MIB);
  return status(mlock(at, PAGE));
}

RULE(mlock, not_superuser_over_the_limit, "more than RLIMIT_MEMLOCK, not as the superuser",
     FREEBSD_7("EPERM", "seed mlock()"), FREEBSD_14("ENOMEM", "mlock(2)"),
     LINUX("ENOMEM", "mlock(2)")) {
  byte* const at = numbered(8);
  drop_root(4 * PAGE);
  return status(mlock(at, 8 * PAGE));
}

RULE(mlock, not_superuser_second_over_the_limit,
     "so many pages in two calls that the second is over RLIMIT_MEMLOCK, not as the superuser",
     FREEBSD_14("succeeds, ENOMEM", "mlock(2)"), LINUX("succeeds, ENOMEM", "mlock(2)")) {
  byte* const at = numbered(8);
  drop_root(4 * PAGE);
  const char* const first = status(mlock(at, 3 * PAGE));
  return say("%s, %s", first, status(mlock(at + 4 * PAGE, 3 * PAGE)));
}

RULE(mlock, without_any_right, "one page, not as the superuser, with an RLIMIT_MEMLOCK of 0",
     FREEBSD_7("EPERM", "seed mlock()"), FREEBSD_14("ENOMEM", "mlock(2)"),
     LINUX("EPERM", "mlock(2)")) {
  byte* const at = numbered(1);
  set_limit(RLIMIT_MEMLOCK, 0);
  drop_root(0);
  return status(mlock(at, PAGE));
}

RULE(mlock, superuser_over_the_limit, "more than RLIMIT_MEMLOCK, as the superuser",
     BOTH_FREEBSDS("ENOMEM", "seed mlock()", "mlock(2)"), LINUX("succeeds", "mlock(2)")) {
  need_root();
  byte* const at = numbered(8);
  set_limit(RLIMIT_MEMLOCK, 4 * PAGE);
  return status(mlock(at, 8 * PAGE));
}

RULE(mlock, superuser_second_over_the_limit,
     "so many pages in two calls that the second is over RLIMIT_MEMLOCK, as the superuser",
     BOTH_FREEBSDS("succeeds, ENOMEM", "seed mlock()", "mlock(2)"),
     LINUX("succeeds, succeeds", "mlock(2)")) {
  need_root();
  byte* const at = numbered(8);
  set_limit(RLIMIT_MEMLOCK, 4 * PAGE);
  const char* const first = status(mlock(at, 3 * PAGE));
  return say("%s, %s", first, status(mlock(at + 4 * PAGE, 3 * PAGE)));
}

RULE(mlock, wraps, "the range wraps around, as the superuser",
     EVERYWHERE("EINVAL", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  return status(mlock(numbered(1), -PAGE));
}

RULE(mlock, wraps_not_superuser, "the range wraps around, not as the superuser",
     FREEBSD_7("EPERM", "seed mlock()"), FREEBSD_14("EINVAL", "mlock(2)")) {
  byte* const at = numbered(1);
  drop_root(MIB);
  return status(mlock(at, -PAGE));
}

RULE(mlock, range_is_rounded, "two bytes on two pages, as the superuser: both",
     EVERYWHERE("succeeds, is locked, is locked", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = numbered(2);
  const char* const result = status(mlock(at + PAGE - 1, 2));
  return say("%s, %s, %s", result, lock_state(at), lock_state(at + PAGE));
}

RULE(mlock, length_zero, "the length is 0, as the superuser: the page",
     EVERYWHERE("succeeds, is not locked", "seed mlock()", AS_7, KERNEL)) {
  need_root();
  byte* const at = numbered(1);
  const char* const result = status(mlock(at, 0));
  return say("%s, %s", result, lock_state(at));
}

RULE(mlock, nothing_mapped, "a range where nothing is mapped, as the superuser",
     EVERYWHERE("ENOMEM", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  return status(mlock(room(1), PAGE));
}

RULE(mlock, hole, "a range with a hole in its middle, as the superuser: the page before it",
     BOTH_FREEBSDS("ENOMEM, is not locked", "seed mlock()", "mlock(2)"),
     LINUX("ENOMEM, is locked", KERNEL)) {
  need_root();
  byte* const at = with_hole(3, 1);
  const char* const result = status(mlock(at, 3 * PAGE));
  return say("%s, %s", result, lock_state(at));
}

RULE(mlock, inaccessible, "memory with PROT_NONE, as the superuser",
     EVERYWHERE("ENOMEM", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = mmap(NULL, PAGE, PROT_NONE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return status(mlock(at, PAGE));
}

RULE(mlock, behind_the_end, "a file's mapping that reaches behind its end, as the superuser",
     EVERYWHERE("ENOMEM", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  return status(mlock(map_file(new_file(1), 2, PROT_READ, MAP_SHARED), 2 * PAGE));
}

RULE(mlock, brings_pages_in, "memory never touched, as the superuser: its pages",
     EVERYWHERE("in core", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = anonymous(8);
  require(mlock(at, 8 * PAGE) == 0);
  return core_state(at + 7 * PAGE);
}

static const char* lock_state_there(byte* at) { return lock_state(at); }

RULE(mlock, not_inherited, "a locked page and a fork, as the superuser: the page in the child",
     EVERYWHERE("is not locked", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = numbered(1);
  require(mlock(at, PAGE) == 0);
  return in_child(lock_state_there, at);
}

// A third of the machine's memory may be wired: 4 MiB. RLIMIT_MEMLOCK is more than that.
static byte* memory_to_wire(size_t bytes) {
  need_root();
  set_limit(RLIMIT_MEMLOCK, 8 * MIB);
  byte* const at = mmap(NULL, bytes, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return at;
}

RULE(mlock, more_than_the_machine, "6 MiB where 4 MiB may be wired, as the superuser",
     WITH_OPTION("--memory=12M"), FREEBSD_7("ENOMEM", "seed mlock()")) {
  return status(mlock(memory_to_wire(6 * MIB), 6 * MIB));
}

RULE(mlock, more_than_is_left, "twice 3 MiB where 4 MiB may be wired, as the superuser",
     WITH_OPTION("--memory=12M"), FREEBSD_7("succeeds, EAGAIN", "seed mlock()")) {
  byte* const at = memory_to_wire(6 * MIB);
  const char* const first = status(mlock(at, 3 * MIB));
  return say("%s, %s", first, status(mlock(at + 3 * MIB, 3 * MIB)));
}

// ---- munlock ----

RULE(munlock, superuser, "a locked page, as the superuser",
     EVERYWHERE("succeeds, is not locked", "seed munlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = numbered(1);
  require(mlock(at, PAGE) == 0);
  const char* const result = status(munlock(at, PAGE));
  return say("%s, %s", result, lock_state(at));
}

RULE(munlock, not_superuser, "a page that was locked by the superuser, not as the superuser",
     FREEBSD_7("EPERM, is locked", "seed munlock()"),
     FREEBSD_14("succeeds, is not locked", "mlock(2)"),
     LINUX("succeeds, is not locked", "mlock(2)")) {
  need_root();
  byte* const at = numbered(1);
  require(mlock(at, PAGE) == 0);
  drop_root(MIB);
  const char* const result = status(munlock(at, PAGE));
  return say("%s, %s", result, lock_state(at));
}

RULE(munlock, wraps, "the range wraps around, as the superuser",
     EVERYWHERE("EINVAL", "seed munlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  return status(munlock(numbered(1), -PAGE));
}

RULE(munlock, wraps_not_superuser, "the range wraps around, not as the superuser",
     FREEBSD_7("EPERM", "seed munlock()"), FREEBSD_14("EINVAL", "mlock(2)"),
     LINUX("EINVAL", "mlock(2)")) {
  byte* const at = numbered(1);
  drop_root(MIB);
  return status(munlock(at, -PAGE));
}

RULE(munlock, hole, "a range with a hole in its middle, as the superuser",
     EVERYWHERE("ENOMEM", "seed munlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  return status(munlock(with_hole(3, 1), 3 * PAGE));
}

RULE(munlock, not_locked, "a page that is not locked, as the superuser",
     EVERYWHERE("succeeds", "seed munlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  return status(munlock(numbered(1), PAGE));
}

RULE(munlock, locks_do_not_nest, "a page that was locked twice, as the superuser",
     EVERYWHERE("is not locked", "seed munlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = numbered(1);
  require(mlock(at, PAGE) == 0 && mlock(at, PAGE) == 0);
  require(munlock(at, PAGE) == 0);
  return lock_state(at);
}

RULE(munlock, part_of_a_range, "the middle one of three locked pages, as the superuser: the three",
     EVERYWHERE("is locked, is not locked, is locked", "seed munlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = numbered(3);
  require(mlock(at, 3 * PAGE) == 0);
  require(munlock(at + PAGE, PAGE) == 0);
  return say("%s, %s, %s", lock_state(at), lock_state(at + PAGE), lock_state(at + 2 * PAGE));
}

// ---- mlock2 ----

#ifndef RULES_FREEBSD_NUMBERS

RULE(mlock2, no_flags, "no flags, as the superuser",
     EVERYWHERE("succeeds, is locked", "seed mlock()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = numbered(1);
  const char* const result = status(mlock2(at, PAGE, 0));
  return say("%s, %s", result, lock_state(at));
}

RULE(mlock2, not_superuser, "no flags, not as the superuser", FREEBSD_7("EPERM", "seed mlock()"),
     FREEBSD_14("succeeds", "mlock(2)"), LINUX("succeeds", "mlock(2)")) {
  byte* const at = numbered(1);
  drop_root(MIB);
  return status(mlock2(at, PAGE, 0));
}

RULE(mlock2, on_fault, "MLOCK_ONFAULT of memory never touched, as the superuser: its page",
     LINUX("succeeds, not in core", "mlock(2)")) {
  need_root();
  byte* const at = anonymous(1);
  const char* const result = status(mlock2(at, PAGE, MLOCK_ONFAULT));
  return say("%s, %s", result, core_state(at));
}

RULE(mlock2, unknown_flag, "a flag that means nothing, as the superuser",
     LINUX("EINVAL", "mlock(2)")) {
  need_root();
  return status(mlock2(anonymous(1), PAGE, 0x100));
}

#endif
