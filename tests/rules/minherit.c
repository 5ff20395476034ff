// minherit. The host has no such call; its own words for inheritance are in madvise.c.
#include "observe.h"
#include "rule.h"

RULE(minherit, unknown, "an inheritance that does not exist",
     BOTH_FREEBSDS("EINVAL", "seed minherit()", "vm_mmap.c kern_minherit()")) {
  return status(minherit(anonymous(1), PAGE, 99));
}

RULE(minherit, wraps, "the range wraps around",
     BOTH_FREEBSDS("EINVAL", "seed minherit()", "minherit(2)")) {
  return status(minherit(anonymous(1), -PAGE, INHERIT_COPY));
}

RULE(minherit, hole, "a range with a hole in its middle",
     BOTH_FREEBSDS("succeeds", "seed minherit()", AS_7)) {
  return status(minherit(with_hole(3, 1), 3 * PAGE, INHERIT_NONE));
}

RULE(minherit, length_zero, "the length is 0: a load in a child",
     BOTH_FREEBSDS("the child reads 1", "seed minherit()", AS_7)) {
  byte* const at = numbered(1);
  require(minherit(at, 0, INHERIT_NONE) == 0);
  return child_load(at);
}

RULE(minherit, range_is_rounded, "INHERIT_NONE for two bytes on two pages: loads in a child",
     BOTH_FREEBSDS("the child gets SIGSEGV, the child gets SIGSEGV", "seed minherit()", AS_7)) {
  byte* const at = numbered(2);
  require(minherit(at + PAGE - 1, 2, INHERIT_NONE) == 0);
  return say("%s, %s", child_load(at), child_load(at + PAGE));
}

RULE(minherit, part_of_a_mapping,
     "INHERIT_NONE for the middle one of three pages: loads in a child",
     BOTH_FREEBSDS("the child reads 1, the child gets SIGSEGV, the child reads 3",
                   "seed minherit()", "minherit(2)")) {
  byte* const at = numbered(3);
  require(minherit(at + PAGE, PAGE, INHERIT_NONE) == 0);
  const char* const first = child_load(at);
  const char* const second = child_load(at + PAGE);
  return say("%s, %s, %s", first, second, child_load(at + 2 * PAGE));
}

RULE(minherit, none_and_the_parent, "INHERIT_NONE and a fork: the parent",
     BOTH_FREEBSDS("reads 1", "seed minherit()", "minherit(2)")) {
  byte* const at = numbered(1);
  require(minherit(at, PAGE, INHERIT_NONE) == 0);
  (void)child_load(at);
  return load(at);
}

static const char* map_there(byte* at) {
  require(mmap(at, PAGE, READ_WRITE, PRIVATE_ANONYMOUS | MAP_FIXED, -1, 0) == at);
  return say("the child %s", load(at));
}

RULE(minherit, none_is_a_hole, "INHERIT_NONE: a child maps something there, with MAP_FIXED",
     BOTH_FREEBSDS("the child reads 0", "seed minherit()", "minherit(2)")) {
  byte* const at = numbered(1);
  require(minherit(at, PAGE, INHERIT_NONE) == 0);
  return in_child(map_there, at);
}

RULE(minherit, share_shows_the_child, "INHERIT_SHARE of private memory: a load in a child",
     BOTH_FREEBSDS("the child reads 1", "seed minherit()", "minherit(2)")) {
  byte* const at = numbered(1);
  require(minherit(at, PAGE, INHERIT_SHARE) == 0);
  return child_load(at);
}

RULE(minherit, share_of_private, "INHERIT_SHARE of private memory: a child stores, the parent",
     BOTH_FREEBSDS("reads 9", "seed minherit()", "minherit(2)")) {
  byte* const at = numbered(1);
  require(minherit(at, PAGE, INHERIT_SHARE) == 0);
  require(child_store(at, 9) == 0);
  return load(at);
}

RULE(minherit, share_of_untouched,
     "INHERIT_SHARE of memory never touched: a child stores, the parent",
     BOTH_FREEBSDS("reads 9", "seed minherit()", "minherit(2)")) {
  byte* const at = anonymous(1);
  require(minherit(at, PAGE, INHERIT_SHARE) == 0);
  require(child_store(at, 9) == 0);
  return load(at);
}

static const char* store_in_grandchild(byte* at) {
  require(child_store(at, 9) == 0);
  return "stored";
}

RULE(minherit, share_of_grandchildren, "INHERIT_SHARE: a child's child stores, the parent",
     BOTH_FREEBSDS("reads 9", "seed minherit()", "minherit(2)")) {
  byte* const at = numbered(1);
  require(minherit(at, PAGE, INHERIT_SHARE) == 0);
  require(strcmp(in_child(store_in_grandchild, at), "stored") == 0);
  return load(at);
}

RULE(minherit, share_of_private_file,
     "INHERIT_SHARE of a private file: a child stores, the parent and the file",
     BOTH_FREEBSDS("reads 9, the file has its own", "seed minherit()", "minherit(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_PRIVATE);
  require(minherit(at, PAGE, INHERIT_SHARE) == 0);
  require(child_store(at, 9) == 0);
  return say("%s, %s", load(at), file_state(file, 0, 9));
}

RULE(minherit, copy_of_shared,
     "INHERIT_COPY of shared memory: a load in a child; it stores, the parent",
     BOTH_FREEBSDS("the child reads 1, reads 1", "seed minherit()", "minherit(2)")) {
  byte* const at = shared(1);
  require(minherit(at, PAGE, INHERIT_COPY) == 0);
  const char* const first = child_load(at);
  require(child_store(at, 9) == 0);
  return say("%s, %s", first, load(at));
}

RULE(minherit, copy_of_shared_file,
     "INHERIT_COPY of a shared file: a child stores; the parent, after msync the file",
     BOTH_FREEBSDS("reads 1, the file has its own", "seed minherit()", "minherit(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  require(minherit(at, PAGE, INHERIT_COPY) == 0);
  require(child_store(at, 9) == 0);
  require(msync(at, PAGE, MS_SYNC) == 0);
  return say("%s, %s", load(at), file_state(file, 0, 9));
}

RULE(minherit, copy_of_shared_and_the_parent,
     "INHERIT_COPY of a shared file and a fork: the parent stores; another mapping of the file",
     FREEBSD_7("reads 9", "seed minherit()")) {
  const int file = new_file(1);
  const byte* const other = map_file(file, 1, PROT_READ, MAP_SHARED);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  require(minherit(at, PAGE, INHERIT_COPY) == 0);
  (void)child_load(at);
  *at = 9;
  return load(other);
}

RULE(minherit, share_then_copy, "INHERIT_SHARE and then INHERIT_COPY: a child stores, the parent",
     BOTH_FREEBSDS("reads 1", "seed minherit()", AS_7)) {
  byte* const at = numbered(1);
  require(minherit(at, PAGE, INHERIT_SHARE) == 0);
  require(minherit(at, PAGE, INHERIT_COPY) == 0);
  require(child_store(at, 9) == 0);
  return load(at);
}

static const char* load_zeroed(byte* at) {
  if (minherit(at, PAGE, INHERIT_ZERO) != 0) return error_name(errno);
  return child_load(at);
}

RULE(minherit, zero, "INHERIT_ZERO: a load in a child", FREEBSD_7("EINVAL", "seed minherit()"),
     FREEBSD_14("the child reads 0", "minherit(2)")) {
  return load_zeroed(numbered(1));
}

RULE(minherit, zero_of_shared, "INHERIT_ZERO of shared memory: a load in a child",
     FREEBSD_7("EINVAL", "seed minherit()"), FREEBSD_14("the child reads 0", "minherit(2)")) {
  return load_zeroed(shared(1));
}

RULE(minherit, zero_and_the_parent, "INHERIT_ZERO and a fork: the parent",
     FREEBSD_14("reads 1", "minherit(2)")) {
  byte* const at = numbered(1);
  require(minherit(at, PAGE, INHERIT_ZERO) == 0);
  (void)child_load(at);
  return load(at);
}
