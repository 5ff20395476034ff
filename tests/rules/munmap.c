// munmap
#include "observe.h"
#include "rule.h"

RULE(munmap, mapping, "a mapping: its page",
     EVERYWHERE("is gone", "seed munmap()", "munmap(2)", "munmap(2)")) {
  byte* const at = numbered(1);
  require(munmap(at, PAGE) == 0);
  return presence(at);
}

RULE(munmap, length_zero, "the length is 0",
     EVERYWHERE("EINVAL", "seed munmap()", "munmap(2)", "munmap(2)")) {
  return status(munmap(anonymous(1), 0));
}

RULE(munmap, negative_length, "the length is negative as a signed number",
     EVERYWHERE("EINVAL", "seed munmap()", "munmap(2)", "munmap(2)")) {
  return status(munmap(anonymous(1), (size_t)1 << 63));
}

RULE(munmap, wraps, "the range wraps around",
     EVERYWHERE("EINVAL", "seed munmap()", "munmap(2)", "munmap(2)")) {
  return status(munmap(anonymous(1), -PAGE));
}

RULE(munmap, outside_the_map, "a range above all that can be mapped",
     EVERYWHERE("EINVAL", "seed munmap()", "munmap(2)", "munmap(2)")) {
  return status(munmap((void*)((uintptr_t)1 << 47), PAGE));
}

RULE(munmap, across_the_top, "a range from below the highest address to above it",
     EVERYWHERE("EINVAL", "seed munmap()", "munmap(2)", "munmap(2)")) {
  return status(munmap((void*)(((uintptr_t)1 << 47) - 2 * PAGE), 4 * PAGE));
}

RULE(munmap, address_within_a_page, "an address within a page: the page",
     FREEBSD_7("succeeds, the page is gone", "seed munmap()"),
     FREEBSD_14("EINVAL, the page stays", "munmap(2)"),
     LINUX("EINVAL, the page stays", "munmap(2)")) {
  byte* const at = numbered(1);
  const char* const result = status(munmap(at + 100, 1));
  return say("%s, the page %s", result, presence(at));
}

RULE(munmap, end_within_a_page, "two bytes, of which the second is on the next page: both pages",
     FREEBSD_7("succeeds, is gone, is gone", "seed munmap()"),
     FREEBSD_14("EINVAL, stays, stays", "munmap(2)"), LINUX("EINVAL, stays, stays", "munmap(2)")) {
  byte* const at = numbered(2);
  const char* const result = status(munmap(at + PAGE - 1, 2));
  return say("%s, %s, %s", result, presence(at), presence(at + PAGE));
}

RULE(munmap, length_is_rounded_up, "a page and a byte: the second page",
     EVERYWHERE("is gone", "seed munmap()", "mmap(2)", "munmap(2)")) {
  byte* const at = numbered(2);
  require(munmap(at, PAGE + 1) == 0);
  return presence(at + PAGE);
}

RULE(munmap, zero_within_a_page, "length 0 at an address within a page",
     EVERYWHERE("EINVAL", "seed munmap()", "munmap(2)", "munmap(2)")) {
  return status(munmap(anonymous(1) + 100, 0));
}

RULE(munmap, hole_in_the_middle, "a range with a hole in its middle: the page before it",
     FREEBSD_7("EINVAL, stays", "seed munmap()"), FREEBSD_14("succeeds, is gone", "munmap(2)"),
     LINUX("succeeds, is gone", "munmap(2)")) {
  byte* const at = with_hole(3, 1);
  const char* const result = status(munmap(at, 3 * PAGE));
  return say("%s, %s", result, presence(at));
}

RULE(munmap, hole_at_the_start, "a range whose first page is not mapped: the page behind it",
     FREEBSD_7("EINVAL, stays", "seed munmap()"), FREEBSD_14("succeeds, is gone", "munmap(2)"),
     LINUX("succeeds, is gone", "munmap(2)")) {
  byte* const at = with_hole(2, 0);
  const char* const result = status(munmap(at, 2 * PAGE));
  return say("%s, %s", result, presence(at + PAGE));
}

RULE(munmap, hole_at_the_end, "a range whose last page is not mapped: the page before it",
     FREEBSD_7("EINVAL, stays", "seed munmap()"), FREEBSD_14("succeeds, is gone", "munmap(2)"),
     LINUX("succeeds, is gone", "munmap(2)")) {
  byte* const at = with_hole(2, 1);
  const char* const result = status(munmap(at, 2 * PAGE));
  return say("%s, %s", result, presence(at));
}

RULE(munmap, twice, "the same range a second time", FREEBSD_7("EINVAL", "seed munmap()"),
     FREEBSD_14("succeeds", "munmap(2)"), LINUX("succeeds", "munmap(2)")) {
  return status(munmap(room(1), PAGE));
}

RULE(munmap, inaccessible, "a mapping with PROT_NONE is no hole",
     EVERYWHERE("succeeds", "seed munmap()", "munmap(2)", "munmap(2)")) {
  byte* const at = numbered(3);
  require(mprotect(at + PAGE, PAGE, PROT_NONE) == 0);
  return status(munmap(at, 3 * PAGE));
}

RULE(munmap, middle_of_a_mapping, "the middle one of three pages: the three",
     EVERYWHERE("stays, is gone, stays", "seed munmap()", "munmap(2)", "munmap(2)")) {
  byte* const at = numbered(3);
  require(munmap(at + PAGE, PAGE) == 0);
  return say("%s, %s, %s", presence(at), presence(at + PAGE), presence(at + 2 * PAGE));
}

RULE(munmap, several_mappings, "private memory, shared memory and a file, side by side",
     EVERYWHERE("succeeds", "seed munmap()", "munmap(2)", "munmap(2)")) {
  byte* const at = numbered(3);
  require(mmap(at + PAGE, PAGE, READ_WRITE, SHARED_ANONYMOUS | MAP_FIXED, -1, 0) == at + PAGE);
  require(mmap(at + 2 * PAGE, PAGE, READ_WRITE, MAP_SHARED | MAP_FIXED, new_file(1), 0) ==
          at + 2 * PAGE);
  return status(munmap(at, 3 * PAGE));
}

RULE(munmap, written_file, "a shared mapping of a file that was stored to",
     EVERYWHERE("the file has it", "seed munmap()", "mmap(2)", "mmap(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  require(munmap(at, PAGE) == 0);
  return file_state(file, 0, 9);
}

RULE(munmap, locked, "a mapping that is locked, as the superuser",
     EVERYWHERE("succeeds", "seed munmap()", "mlock(2)", "mlock(2)")) {
  need_root();
  byte* const at = numbered(1);
  require(mlock(at, PAGE) == 0);
  return status(munmap(at, PAGE));
}

RULE(munmap, makes_room, "and then a hint there",
     EVERYWHERE("honours it", "seed munmap()", "munmap(2)", "munmap(2)")) {
  byte* const at = numbered(1);
  require(munmap(at, PAGE) == 0);
  return mmap(at, PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0) == at ? "honours it"
                                                                    : "maps elsewhere";
}
