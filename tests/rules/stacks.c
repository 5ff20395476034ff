// mmap of memory that grows down: FreeBSD's MAP_STACK, the host's MAP_GROWSDOWN.
#include "observe.h"
#include "rule.h"

#define BIG (MIB / PAGE)  // pages; more than a stack has at first

static byte* grows_down(size_t pages) {
  return mmap(NULL, pages * PAGE, READ_WRITE, PRIVATE_ANONYMOUS | GROWS_DOWN, -1, 0);
}

static byte* stack(size_t pages) {
  byte* const at = grows_down(pages);
  require(at != MAP_FAILED);
  return at;
}

RULE(mmap, stack_with_descriptor, "MAP_STACK with a descriptor",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)"), LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, BIG * PAGE, READ_WRITE, PRIVATE_ANONYMOUS | GROWS_DOWN, new_file(1), 0));
}

RULE(mmap, stack_of_a_file, "MAP_STACK, private, without MAP_ANON but with a descriptor",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)")) {
  return mapped(mmap(NULL, BIG * PAGE, READ_WRITE, MAP_PRIVATE | GROWS_DOWN, new_file(1), 0));
}

RULE(mmap, stack_read_only, "MAP_STACK with PROT_READ only",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)"), LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, BIG * PAGE, PROT_READ, PRIVATE_ANONYMOUS | GROWS_DOWN, -1, 0));
}

RULE(mmap, stack_write_only, "MAP_STACK with PROT_WRITE only",
     BOTH_FREEBSDS("EINVAL", "seed mmap()", "mmap(2)"), LINUX("maps it", "mmap(2)")) {
  return mapped(mmap(NULL, BIG * PAGE, PROT_WRITE, PRIVATE_ANONYMOUS | GROWS_DOWN, -1, 0));
}

RULE(mmap, stack_is_anonymous, "MAP_STACK without MAP_ANON",
     BOTH_FREEBSDS("maps it", "seed mmap()", "mmap(2)"), LINUX("EBADF", "mmap(2)")) {
  return mapped(mmap(NULL, BIG * PAGE, READ_WRITE, MAP_PRIVATE | GROWS_DOWN, -1, 0));
}

RULE(mmap, stack_alone, "MAP_STACK and no other flag",
     BOTH_FREEBSDS("maps it", "seed mmap()", "mmap(2)"), LINUX("EBADF", "mmap(2)")) {
  return mapped(mmap(NULL, BIG * PAGE, READ_WRITE, GROWS_DOWN, -1, 0));
}

RULE(mmap, stack_has_no_offset, "MAP_STACK without MAP_ANON, with an offset of 100 bytes",
     BOTH_FREEBSDS("maps it, points 0 bytes into a page", "seed mmap()", "mmap(2)"),
     LINUX("EINVAL", "mmap(2)")) {
  byte* const at = mmap(NULL, BIG * PAGE, READ_WRITE, MAP_PRIVATE | GROWS_DOWN, -1, 100);
  if (at == MAP_FAILED) return error_name(errno);
  return say("maps it, points %zu bytes into a page", (uintptr_t)at % PAGE);
}

RULE(mmap, stack_of_one_page, "MAP_STACK of one page", FREEBSD_7("maps it", "seed vm_mmap()"),
     FREEBSD_14("EINVAL", "mmap(2)"), LINUX("maps it", "mmap(2)")) {
  return mapped(grows_down(1));
}

RULE(mmap, stack_of_two_pages, "MAP_STACK of two pages: the higher one",
     EVERYWHERE("can be written", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  return store(stack(2) + PAGE, 1);
}

RULE(mmap, stack_top, "a stack of 1 MiB: its highest page",
     EVERYWHERE("can be written", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  return store(stack(BIG) + BIG * PAGE - 1, 1);
}

RULE(mmap, stack_grows, "a stack of 1 MiB: each page from the highest to the second",
     EVERYWHERE("can be written", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = stack(BIG);
  const char* result = "";
  for (size_t page = BIG; page-- > 1;) {
    result = store(at + page * PAGE, (byte)page);
    if (strcmp(result, "can be written") != 0) return say("%s at page %zu", result, page);
  }
  for (size_t page = BIG; page-- > 1;) {
    if (at[page * PAGE] != (byte)page) return "loses what was stored";
  }
  return result;
}

RULE(mmap, stack_grows_at_once, "a stack of 1 MiB: its second page, as the first touch",
     EVERYWHERE("can be written", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  return store(stack(BIG) + PAGE, 1);
}

RULE(mmap, stack_lowest_page, "a stack of 1 MiB: its lowest page",
     FREEBSD_7("can be written", "seed vm_mmap()"), FREEBSD_14("SIGSEGV", "mmap(2)"),
     LINUX("can be written", "mmap(2)")) {
  return store(stack(BIG), 1);
}

RULE(mmap, below_the_stack, "a stack with free room below it: the page below it",
     BOTH_FREEBSDS("SIGSEGV", "seed vm_mmap()", "mmap(2)"), LINUX("can be written", "mmap(2)")) {
  byte* const low = room(32 * BIG);
  byte* const at = low + 16 * BIG * PAGE;
  require(mmap(at, BIG * PAGE, READ_WRITE, PRIVATE_ANONYMOUS | GROWS_DOWN | MAP_FIXED, -1, 0) ==
          at);
  return store(at - PAGE, 1);
}

RULE(mmap, stack_at_first, "a stack of 1 MiB that was not touched: how much of it mincore finds",
     FREEBSD_7("128 KiB", "seed vm_mmap()"), LINUX("1024 KiB", "mmap(2)")) {
  const byte* const at = stack(BIG);
  size_t page = BIG;
  while (page > 0 && core_byte(at + (page - 1) * PAGE) >= 0) --page;
  return say("%zu KiB", (BIG - page) * PAGE / 1024);
}

RULE(mmap, stack_reached, "the same, after a touch 256 KiB below its top",
     FREEBSD_7("256 KiB", "seed vm_mmap()"), LINUX("1024 KiB", "mmap(2)")) {
  byte* const at = stack(BIG);
  require(signal_of_store(at + (BIG - 64) * PAGE, 1) == 0);
  size_t page = BIG;
  while (page > 0 && core_byte(at + (page - 1) * PAGE) >= 0) --page;
  return say("%zu KiB", (BIG - page) * PAGE / 1024);
}

RULE(mmap, stack_of_a_child, "a child is the first to touch a stack's second page: the child",
     EVERYWHERE("the child reads 0", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  return child_load(stack(BIG) + PAGE);
}

RULE(mmap, stack_fixed, "MAP_STACK with MAP_FIXED over pages with data: the highest page",
     EVERYWHERE("reads 0", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  byte* const at = numbered(8);
  require(mmap(at, 8 * PAGE, READ_WRITE, PRIVATE_ANONYMOUS | GROWS_DOWN | MAP_FIXED, -1, 0) == at);
  return load(at + 7 * PAGE);
}

RULE(munmap, stack_not_grown, "a stack of 1 MiB that was not touched",
     FREEBSD_7("EINVAL", "seed munmap()"), FREEBSD_14("succeeds", "munmap(2)"),
     LINUX("succeeds", "munmap(2)")) {
  return status(munmap(stack(BIG), BIG * PAGE));
}

RULE(munmap, stack_grown, "a stack of 1 MiB that has grown to its lowest page",
     FREEBSD_7("succeeds", "seed munmap()"), FREEBSD_14("succeeds", "munmap(2)"),
     LINUX("succeeds", "munmap(2)")) {
  byte* const at = stack(BIG);
  (void)signal_of_store(at, 1);
  return status(munmap(at, BIG * PAGE));
}

RULE(munmap, small_stack, "a stack of 64 KiB that was not touched",
     EVERYWHERE("succeeds", "seed munmap()", "munmap(2)", "munmap(2)")) {
  return status(munmap(stack(16), 16 * PAGE));
}
