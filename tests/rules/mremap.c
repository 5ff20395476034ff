// mremap, which only the host has
#include "observe.h"
#include "rule.h"

#ifndef RULES_FREEBSD_NUMBERS

#define PAGE_SOURCE "mremap(2)"

static const char* moved(const void* at) { return either(at != MAP_FAILED, "succeeds"); }

RULE(mremap, grow, "growing with MREMAP_MAYMOVE: the data, and the new page",
     LINUX("reads 2, reads 0", PAGE_SOURCE)) {
  const byte* const at = mremap(numbered(2), 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE);
  if (at == MAP_FAILED) return error_name(errno);
  return say("%s, %s", load(at + PAGE), load(at + 2 * PAGE));
}

RULE(mremap, grow_in_place, "growing without MREMAP_MAYMOVE where it is free",
     LINUX("succeeds, in place", PAGE_SOURCE)) {
  byte* const at = numbered(4);
  require(munmap(at + PAGE, 3 * PAGE) == 0);
  const byte* const got = mremap(at, PAGE, 2 * PAGE, 0);
  return say("%s, %s", moved(got), got == at ? "in place" : "elsewhere");
}

RULE(mremap, grow_where_taken, "growing without MREMAP_MAYMOVE where it is not free",
     LINUX("ENOMEM", PAGE_SOURCE)) {
  byte* const at = numbered(2);
  require(mprotect(at + PAGE, PAGE, PROT_READ) == 0);
  return moved(mremap(at, PAGE, 2 * PAGE, 0));
}

RULE(mremap, shrink, "shrinking: the pages", LINUX("stays, is gone", PAGE_SOURCE)) {
  byte* const at = numbered(2);
  require(mremap(at, 2 * PAGE, PAGE, 0) == at);
  return say("%s, %s", presence(at), presence(at + PAGE));
}

RULE(mremap, shrink_over_a_hole, "shrinking a range with a hole in what goes",
     LINUX("succeeds", KERNEL)) {
  return moved(mremap(with_hole(3, 1), 3 * PAGE, PAGE, 0));
}

RULE(mremap, same_size, "the size that it has", LINUX("succeeds, in place", PAGE_SOURCE)) {
  byte* const at = numbered(1);
  const byte* const got = mremap(at, PAGE, PAGE, 0);
  return say("%s, %s", moved(got), got == at ? "in place" : "elsewhere");
}

RULE(mremap, fixed, "MREMAP_FIXED to a page with data: what is there, and the old page",
     LINUX("reads 1, is gone", PAGE_SOURCE)) {
  byte* const at = numbered(1);
  byte* const target = anonymous(1);
  *target = 9;
  require(mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
  return say("%s, %s", load(target), presence(at));
}

RULE(mremap, fixed_not_movable, "MREMAP_FIXED without MREMAP_MAYMOVE",
     LINUX("EINVAL", PAGE_SOURCE)) {
  return moved(mremap(numbered(1), PAGE, PAGE, MREMAP_FIXED, anonymous(1)));
}

RULE(mremap, fixed_within_a_page, "MREMAP_FIXED to an address within a page",
     LINUX("EINVAL", PAGE_SOURCE)) {
  return moved(mremap(numbered(1), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, anonymous(2) + 100));
}

RULE(mremap, fixed_over_itself, "MREMAP_FIXED to a range that overlaps the old one",
     LINUX("EINVAL", PAGE_SOURCE)) {
  byte* const at = numbered(3);
  return moved(mremap(at, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE));
}

RULE(mremap, address_within_a_page, "an old address within a page", LINUX("EINVAL", PAGE_SOURCE)) {
  return moved(mremap(numbered(2) + 100, PAGE, PAGE, MREMAP_MAYMOVE));
}

RULE(mremap, new_length_zero, "a new length of 0", LINUX("EINVAL", PAGE_SOURCE)) {
  return moved(mremap(numbered(1), PAGE, 0, MREMAP_MAYMOVE));
}

RULE(mremap, unknown_flag, "a flag that means nothing", LINUX("EINVAL", PAGE_SOURCE)) {
  return moved(mremap(numbered(1), PAGE, 2 * PAGE, MREMAP_MAYMOVE | 0x100));
}

RULE(mremap, nothing_mapped, "a range where nothing is mapped", LINUX("EFAULT", PAGE_SOURCE)) {
  return moved(mremap(room(1), PAGE, 2 * PAGE, MREMAP_MAYMOVE));
}

RULE(mremap, across_mappings, "growing a range of two mappings", LINUX("EFAULT", PAGE_SOURCE)) {
  byte* const at = numbered(2);
  require(mprotect(at + PAGE, PAGE, PROT_READ) == 0);
  return moved(mremap(at, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE));
}

RULE(mremap, no_room, "a new length for which there is no room", LINUX("ENOMEM", PAGE_SOURCE)) {
  return moved(mremap(numbered(1), PAGE, (size_t)120 << 40, MREMAP_MAYMOVE));
}

RULE(mremap, longer_than_the_address_space, "a new length of more than the whole address space",
     LINUX("EINVAL", KERNEL)) {
  return moved(mremap(numbered(1), PAGE, (size_t)1 << 47, MREMAP_MAYMOVE));
}

RULE(mremap, twice, "an old length of 0 of shared memory: a store to the old page, the new one",
     LINUX("reads 9", PAGE_SOURCE)) {
  byte* const at = shared(1);
  const byte* const copy = mremap(at, 0, PAGE, MREMAP_MAYMOVE);
  if (copy == MAP_FAILED) return error_name(errno);
  *at = 9;
  return load(copy);
}

RULE(mremap, twice_of_private, "an old length of 0 of private memory",
     LINUX("EINVAL", PAGE_SOURCE)) {
  return moved(mremap(numbered(1), 0, PAGE, MREMAP_MAYMOVE));
}

RULE(mremap, twice_not_movable, "an old length of 0 of shared memory without MREMAP_MAYMOVE",
     LINUX("ENOMEM", KERNEL)) {
  return moved(mremap(shared(1), 0, PAGE, 0));
}

RULE(mremap, dont_unmap, "MREMAP_DONTUNMAP: the data at the new place, and at the old one",
     LINUX("reads 1, reads 0", PAGE_SOURCE)) {
  byte* const at = numbered(1);
  const byte* const got = mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
  if (got == MAP_FAILED) return error_name(errno);
  return say("%s, %s", load(got), load(at));
}

RULE(mremap, dont_unmap_not_movable, "MREMAP_DONTUNMAP without MREMAP_MAYMOVE",
     LINUX("EINVAL", PAGE_SOURCE)) {
  return moved(mremap(numbered(1), PAGE, PAGE, MREMAP_DONTUNMAP, NULL));
}

RULE(mremap, dont_unmap_and_grow, "MREMAP_DONTUNMAP with another size",
     LINUX("EINVAL", PAGE_SOURCE)) {
  return moved(mremap(numbered(1), PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
}

RULE(mremap, file_grows, "growing a mapping of a file's first page: the second",
     LINUX("reads 2", PAGE_SOURCE)) {
  byte* const at = map_file(new_file(2), 1, PROT_READ, MAP_SHARED);
  const byte* const got = mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
  if (got == MAP_FAILED) return error_name(errno);
  return load(got + PAGE);
}

RULE(mremap, file_moves, "moving a shared file's mapping, then a store and msync",
     LINUX("the file has it", PAGE_SOURCE)) {
  const int file = new_file(1);
  byte* const target = anonymous(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  require(mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
  *target = 9;
  require(msync(target, PAGE, MS_SYNC) == 0);
  return file_state(file, 0, 9);
}

RULE(mremap, keeps_protection, "growing memory that is mapped for reading: a store",
     LINUX("SIGSEGV", PAGE_SOURCE)) {
  byte* const at = mmap(NULL, PAGE, PROT_READ, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  byte* const got = mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
  if (got == MAP_FAILED) return error_name(errno);
  return store(got + PAGE, 1);
}

#endif
