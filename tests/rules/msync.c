// msync
#include "observe.h"
#include "rule.h"

RULE(msync, address_within_a_page, "an address within a page",
     FREEBSD_7("succeeds", "seed msync()"), FREEBSD_14("EINVAL", "msync(2)"),
     LINUX("EINVAL", "msync(2)")) {
  return status(msync(numbered(1) + 100, 1, MS_SYNC));
}

RULE(msync, range_is_rounded, "two bytes, of which the second is on a file's next page: that page",
     FREEBSD_7("succeeds, the file has it", "seed msync()"), FREEBSD_14("EINVAL", "msync(2)"),
     LINUX("EINVAL", "msync(2)")) {
  const int file = new_file(2);
  byte* const at = map_file(file, 2, READ_WRITE, MAP_SHARED);
  at[PAGE] = 9;
  const char* const result = status(msync(at + PAGE - 1, 2, MS_SYNC));
  return strcmp(result, "succeeds") == 0 ? say("%s, %s", result, file_state(file, PAGE, 9))
                                         : result;
}

RULE(msync, wraps, "the range wraps around",
     BOTH_FREEBSDS("EINVAL", "seed msync()", "vm_mmap.c kern_msync()"),
     LINUX("ENOMEM", "msync(2)")) {
  return status(msync(numbered(1), -PAGE, MS_SYNC));
}

RULE(msync, async_and_invalidate, "MS_ASYNC with MS_INVALIDATE",
     BOTH_FREEBSDS("EINVAL", "seed msync()", "msync(2)"), LINUX("succeeds", "msync(2)")) {
  return status(msync(numbered(1), PAGE, MS_ASYNC | MS_INVALIDATE));
}

RULE(msync, async_and_invalidate_of_a_hole, "MS_ASYNC with MS_INVALIDATE where nothing is mapped",
     BOTH_FREEBSDS("EINVAL", "seed msync()", "msync(2)"), LINUX("ENOMEM", "msync(2)")) {
  return status(msync(room(1), PAGE, MS_ASYNC | MS_INVALIDATE));
}

RULE(msync, unknown_flag, "the flags have a bit that means nothing",
     BOTH_FREEBSDS("succeeds", "seed msync()", AS_7), LINUX("EINVAL", "msync(2)")) {
  return status(msync(numbered(1), PAGE, MS_SYNC | 0x100));
}

RULE(msync, hole, "a range with a hole in its middle", FREEBSD_7("EINVAL", "seed msync()"),
     FREEBSD_14("ENOMEM", "msync(2)"), LINUX("ENOMEM", "msync(2)")) {
  return status(msync(with_hole(3, 1), 3 * PAGE, MS_SYNC));
}

RULE(msync, nothing_mapped, "a range where nothing is mapped", FREEBSD_7("EINVAL", "seed msync()"),
     FREEBSD_14("ENOMEM", "msync(2)"), LINUX("ENOMEM", "msync(2)")) {
  return status(msync(room(1), PAGE, MS_SYNC));
}

RULE(msync, outside_the_map, "a range above all that can be mapped",
     FREEBSD_7("EINVAL", "seed msync()"), FREEBSD_14("ENOMEM", "msync(2)"),
     LINUX("ENOMEM", "msync(2)")) {
  return status(msync((void*)((uintptr_t)1 << 47), PAGE, MS_SYNC));
}

RULE(msync, invalidate_locked, "MS_INVALIDATE over a page that is locked, as the superuser",
     EVERYWHERE("EBUSY", "seed msync()", "msync(2)", "msync(2)")) {
  need_root();
  byte* const at = map_file(new_file(1), 1, READ_WRITE, MAP_SHARED);
  require(mlock(at, PAGE) == 0);
  return status(msync(at, PAGE, MS_SYNC | MS_INVALIDATE));
}

RULE(msync, sync_locked, "MS_SYNC over a page that is locked, as the superuser",
     EVERYWHERE("succeeds", "seed msync()", "msync(2)", "msync(2)")) {
  need_root();
  byte* const at = map_file(new_file(1), 1, READ_WRITE, MAP_SHARED);
  require(mlock(at, PAGE) == 0);
  return status(msync(at, PAGE, MS_SYNC));
}

RULE(msync, invalidate, "MS_INVALIDATE over a shared file into which write(2) put something",
     EVERYWHERE("reads 9", "seed msync()", "msync(2)", "msync(2)")) {
  const int file = new_file(1);
  const byte* const at = map_file(file, 1, PROT_READ, MAP_SHARED);
  require(*at == 1);
  const byte value = 9;
  require(pwrite(file, &value, 1, 0) == 1);
  require(msync((void*)(uintptr_t)at, PAGE, MS_SYNC | MS_INVALIDATE) == 0);
  return load(at);
}

RULE(msync, invalidate_keeps_stores, "MS_INVALIDATE over a shared file that was stored to",
     EVERYWHERE("reads 9, the file has it", "seed msync()", "msync(2)", "msync(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC | MS_INVALIDATE) == 0);
  return say("%s, %s", load(at), file_state(file, 0, 9));
}

RULE(msync, length_zero, "the length is 0, at the first of a file's three pages: the third",
     BOTH_FREEBSDS("the file has it", "seed msync()", "msync(2)")) {
  const int file = new_file(3);
  byte* const at = map_file(file, 3, READ_WRITE, MAP_SHARED);
  at[2 * PAGE] = 9;
  require(msync(at, 0, MS_SYNC) == 0);
  return file_state(file, 2 * PAGE, 9);
}

RULE(msync, length_zero_in_the_middle,
     "the length is 0, at the second of a file's three pages: the first",
     BOTH_FREEBSDS("the file has it", "seed msync()", "msync(2)")) {
  const int file = new_file(3);
  byte* const at = map_file(file, 3, READ_WRITE, MAP_SHARED);
  at[0] = 9;
  require(msync(at + PAGE, 0, MS_SYNC) == 0);
  return file_state(file, 0, 9);
}

RULE(msync, length_zero_of_nothing, "the length is 0 where nothing is mapped",
     FREEBSD_7("EINVAL", "seed msync()"), FREEBSD_14("ENOMEM", "msync(2)"),
     LINUX("succeeds", KERNEL)) {
  return status(msync(room(1), 0, MS_SYNC));
}

RULE(msync, synchronous, "MS_SYNC of a shared file that was stored to",
     EVERYWHERE("the file has it", "seed msync()", "msync(2)", "msync(2)")) {
  const int file = new_file(2);
  byte* const at = map_file(file, 2, READ_WRITE, MAP_SHARED);
  at[PAGE + 5] = 9;
  require(msync(at, 2 * PAGE, MS_SYNC) == 0);
  return file_state(file, PAGE + 5, 9);
}

RULE(msync, asynchronous, "MS_ASYNC of a shared file that was stored to, after a while",
     EVERYWHERE("the file has it", "seed msync()", "msync(2)", "msync(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  require(msync(at, PAGE, MS_ASYNC) == 0);
  for (int i = 0; i < 50 && file_byte(file, 0) != 9; ++i) usleep(100 * 1000);
  return file_state(file, 0, 9);
}

RULE(msync, private_file, "a private file that was stored to",
     EVERYWHERE("succeeds, the file has its own", "seed msync()", "msync(2)", "msync(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_PRIVATE);
  *at = 9;
  const char* const result = status(msync(at, PAGE, MS_SYNC));
  return say("%s, %s", result, file_state(file, 0, 9));
}

RULE(msync, anonymous, "anonymous memory",
     EVERYWHERE("succeeds, reads 1", "seed msync()", "msync(2)", "msync(2)")) {
  byte* const at = numbered(1);
  const char* const result = status(msync(at, PAGE, MS_SYNC));
  return say("%s, %s", result, load(at));
}

RULE(msync, inaccessible, "a shared file that was stored to and is now PROT_NONE",
     EVERYWHERE("succeeds, the file has it", "seed msync()", "msync(2)", "msync(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  require(mprotect(at, PAGE, PROT_NONE) == 0);
  const char* const result = status(msync(at, PAGE, MS_SYNC));
  return say("%s, %s", result, file_state(file, 0, 9));
}

#ifndef RULES_FREEBSD_NUMBERS

RULE(msync, async_and_sync, "MS_ASYNC with MS_SYNC", LINUX("EINVAL", "msync(2)")) {
  return status(msync(numbered(1), PAGE, MS_ASYNC | MS_SYNC));
}

#endif
