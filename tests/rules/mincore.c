// mincore
#include "observe.h"
#include "rule.h"

static const char* ask(const byte* at, size_t bytes) {
  static byte vector[64];
  return status(mincore((void*)(uintptr_t)at, bytes, (void*)vector));
}

RULE(mincore, wraps, "the range wraps around",
     EVERYWHERE("ENOMEM", "seed mincore()", "mincore(2)", "mincore(2)")) {
  return ask(numbered(1), -PAGE);
}

RULE(mincore, across_the_top, "a range that goes past the highest address",
     EVERYWHERE("ENOMEM", "seed mincore()", "mincore(2)", "mincore(2)")) {
  return ask((const byte*)(((uintptr_t)1 << 47) - 2 * PAGE), 4 * PAGE);
}

RULE(mincore, nothing_mapped, "a range where nothing is mapped",
     EVERYWHERE("ENOMEM", "seed mincore()", "mincore(2)", "mincore(2)")) {
  return ask(room(1), PAGE);
}

RULE(mincore, hole, "a range with a hole in its middle",
     EVERYWHERE("ENOMEM", "seed mincore()", "mincore(2)", "mincore(2)")) {
  return ask(with_hole(3, 1), 3 * PAGE);
}

RULE(mincore, hole_at_the_end, "a range whose last page is not mapped",
     EVERYWHERE("ENOMEM", "seed mincore()", "mincore(2)", "mincore(2)")) {
  return ask(with_hole(2, 1), 2 * PAGE);
}

RULE(mincore, address_within_a_page, "an address within a page",
     BOTH_FREEBSDS("succeeds", "seed mincore()", AS_7), LINUX("EINVAL", "mincore(2)")) {
  return ask(numbered(1) + 100, 1);
}

RULE(mincore, length_is_rounded_up, "a page and a byte: how many bytes of the vector are set",
     EVERYWHERE("2", "seed mincore()", "mincore(2)", "mincore(2)")) {
  byte vector[4] = {99, 99, 99, 99};
  require(mincore(numbered(3), PAGE + 1, (void*)vector) == 0);
  int set = 0;
  while (set < 4 && vector[set] != 99) ++set;
  return say("%d", set);
}

RULE(mincore, length_zero, "the length is 0",
     EVERYWHERE("succeeds", "seed mincore()", AS_7, KERNEL)) {
  return ask(numbered(1), 0);
}

RULE(mincore, length_zero_of_nothing, "the length is 0 where nothing is mapped",
     BOTH_FREEBSDS("ENOMEM", "seed mincore()", AS_7), LINUX("succeeds", KERNEL)) {
  return ask(room(1), 0);
}

RULE(mincore, bad_vector, "a vector where nothing is mapped",
     EVERYWHERE("EFAULT", "seed mincore()", "mincore(2)", "mincore(2)")) {
  byte* const at = numbered(1);
  return status(mincore(at, PAGE, (void*)room(1)));
}

RULE(mincore, bad_vector_of_nothing, "the same, for a range where nothing is mapped",
     EVERYWHERE("ENOMEM", "seed mincore()", AS_7, KERNEL)) {
  byte* const vector = room(1);
  return status(mincore(vector, PAGE, (void*)vector));
}

RULE(mincore, untouched, "private memory that was never touched",
     EVERYWHERE("not in core", "seed mincore()", "mincore(2)", "mincore(2)")) {
  return core_state(anonymous(1));
}

RULE(mincore, touched, "private memory that was stored to",
     EVERYWHERE("in core", "seed mincore()", "mincore(2)", "mincore(2)")) {
  return core_state(numbered(1));
}

RULE(mincore, inaccessible, "private memory that was stored to and is now PROT_NONE",
     EVERYWHERE("succeeds", "seed mincore()", "mincore(2)", "mincore(2)")) {
  byte* const at = numbered(1);
  require(mprotect(at, PAGE, PROT_NONE) == 0);
  return ask(at, PAGE);
}

RULE(mincore, file_touched, "a file's page that was read",
     EVERYWHERE("in core", "seed mincore()", "mincore(2)", "mincore(2)")) {
  const byte* const at = map_file(new_file(1), 1, PROT_READ, MAP_SHARED);
  (void)load(at);
  return core_state(at);
}

RULE(mincore, touched_elsewhere, "a file's page that was read through another mapping",
     FREEBSD_7("in core", "seed mincore()"), FREEBSD_14("not in core", "mincore(2)"),
     LINUX("in core", "mincore(2)")) {
  const int file = new_file(1);
  (void)load(map_file(file, 1, PROT_READ, MAP_SHARED));
  return core_state(map_file(file, 1, PROT_READ, MAP_SHARED));
}

RULE(mincore, long_range, "1 GiB, of which the last page was touched: the last byte of the vector",
     EVERYWHERE("in core", "seed mincore()", "mincore(2)", "mincore(2)")) {
  byte* const at = mmap(NULL, GIB, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  at[GIB - 1] = 1;
  static byte vector[GIB / PAGE];
  require(mincore(at, GIB, (void*)vector) == 0);
  return (vector[GIB / PAGE - 1] & 1) != 0 ? "in core" : "not in core";
}

#ifdef RULES_FREEBSD_NUMBERS

static const char* bits_of(const byte* at) {
  const int bits = core_byte(at);
  if (bits < 0) return error_name(errno);
  return say("%s%s%s%s%s", (bits & MINCORE_INCORE) != 0 ? "INCORE" : "0",
             (bits & MINCORE_REFERENCED) != 0 ? " REFERENCED" : "",
             (bits & MINCORE_MODIFIED) != 0 ? " MODIFIED" : "",
             (bits & MINCORE_REFERENCED_OTHER) != 0 ? " REFERENCED_OTHER" : "",
             (bits & MINCORE_MODIFIED_OTHER) != 0 ? " MODIFIED_OTHER" : "");
}

RULE(mincore, bits_of_untouched, "the bits of private memory that was never touched",
     BOTH_FREEBSDS("0", "seed mincore()", "mincore(2)")) {
  return bits_of(anonymous(1));
}

RULE(mincore, bits_of_stored, "the bits of private memory that was stored to",
     BOTH_FREEBSDS("INCORE REFERENCED MODIFIED", "seed mincore()", "mincore(2)")) {
  return bits_of(numbered(1));
}

RULE(mincore, bits_of_read_file, "the bits of a file's page that was read",
     BOTH_FREEBSDS("INCORE REFERENCED", "seed mincore()", "mincore(2)")) {
  const byte* const at = map_file(new_file(1), 1, PROT_READ, MAP_SHARED);
  (void)load(at);
  return bits_of(at);
}

RULE(mincore, bits_of_stored_file, "the bits of a shared file's page that was stored to",
     BOTH_FREEBSDS("INCORE REFERENCED MODIFIED", "seed mincore()", "mincore(2)")) {
  byte* const at = map_file(new_file(1), 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  return bits_of(at);
}

static const char* read_in_child(byte* at) { return load(at); }

RULE(mincore, bits_of_read_elsewhere, "the bits of a file's page that only a child read",
     FREEBSD_7("INCORE REFERENCED_OTHER", "seed mincore()"), FREEBSD_14("0", "mincore(2)")) {
  byte* const at = map_file(new_file(1), 1, PROT_READ, MAP_SHARED);
  require(strcmp(in_child(read_in_child, at), "reads 1") == 0);
  return bits_of(at);
}

RULE(mincore, bits_of_stored_elsewhere,
     "the bits of a shared file's page that only a child stored to",
     FREEBSD_7("INCORE REFERENCED_OTHER MODIFIED_OTHER", "seed mincore()"),
     FREEBSD_14("0", "mincore(2)")) {
  byte* const at = map_file(new_file(1), 1, READ_WRITE, MAP_SHARED);
  require(child_store(at, 9) == 0);
  return bits_of(at);
}

#endif
