// madvise and posix_madvise
#include "observe.h"
#include "rule.h"

RULE(madvise, negative, "advice below 0",
     EVERYWHERE("EINVAL", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return status(madvise(numbered(1), PAGE, -1));
}

RULE(madvise, unknown, "advice that does not exist",
     EVERYWHERE("EINVAL", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return status(madvise(numbered(1), PAGE, 99));
}

RULE(madvise, unknown_of_nothing, "advice that does not exist, for a range that wraps around",
     EVERYWHERE("EINVAL", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return status(madvise(numbered(1), -PAGE, 99));
}

RULE(madvise, wraps, "the range wraps around", FREEBSD_7("EINVAL", "seed madvise()"),
     FREEBSD_14("ENOMEM", "madvise(2)"), LINUX("EINVAL", "madvise(2)")) {
  return status(madvise(numbered(1), -PAGE, MADV_NORMAL));
}

RULE(madvise, outside_the_map, "a range above all that can be mapped",
     FREEBSD_7("EINVAL", "seed madvise()"), FREEBSD_14("ENOMEM", "madvise(2)"),
     LINUX("ENOMEM", "madvise(2)")) {
  return status(madvise((void*)((uintptr_t)1 << 47), PAGE, MADV_NORMAL));
}

RULE(madvise, hole, "a range with a hole in its middle",
     BOTH_FREEBSDS("succeeds", "seed madvise()", AS_7), LINUX("ENOMEM", "madvise(2)")) {
  return status(madvise(with_hole(3, 1), 3 * PAGE, MADV_NORMAL));
}

RULE(madvise, nothing_mapped, "a range where nothing is mapped",
     BOTH_FREEBSDS("succeeds", "seed madvise()", AS_7), LINUX("ENOMEM", "madvise(2)")) {
  return status(madvise(room(1), PAGE, MADV_NORMAL));
}

RULE(madvise, address_within_a_page, "an address within a page",
     BOTH_FREEBSDS("succeeds", "seed madvise()", AS_7), LINUX("EINVAL", "madvise(2)")) {
  return status(madvise(numbered(1) + 100, 1, MADV_NORMAL));
}

RULE(madvise, length_zero, "the length is 0",
     EVERYWHERE("succeeds", "seed madvise()", AS_7, "madvise(2)")) {
  return status(madvise(numbered(1), 0, MADV_NORMAL));
}

// ---- each advice ----

static const char* advise(byte* at, int advice) {
  const char* const result = status(madvise(at, PAGE, advice));
  return say("%s, %s", result, load(at));
}

RULE(madvise, normal, "MADV_NORMAL: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return advise(numbered(1), MADV_NORMAL);
}

RULE(madvise, random, "MADV_RANDOM: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return advise(numbered(1), MADV_RANDOM);
}

RULE(madvise, sequential, "MADV_SEQUENTIAL: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return advise(numbered(1), MADV_SEQUENTIAL);
}

RULE(madvise, will_need, "MADV_WILLNEED: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return advise(numbered(1), MADV_WILLNEED);
}

RULE(madvise, will_need_file, "MADV_WILLNEED of a file: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return advise(map_file(new_file(1), 1, PROT_READ, MAP_PRIVATE), MADV_WILLNEED);
}

RULE(madvise, dont_need_shared, "MADV_DONTNEED of shared memory: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "madvise(2)", "madvise(2)")) {
  return advise(shared(1), MADV_DONTNEED);
}

RULE(madvise, dont_need_stored_file, "MADV_DONTNEED of a shared file that was stored to: the data",
     EVERYWHERE("succeeds, reads 9", "seed madvise()", "madvise(2)", "madvise(2)")) {
  byte* const at = map_file(new_file(1), 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  return advise(at, MADV_DONTNEED);
}

RULE(madvise, free, "MADV_FREE of private memory: the data, if it is not zero",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "madvise(2)", "madvise(2)")) {
  byte* const at = numbered(1);
  const char* const result = advise(at, MADV_FREE);
  return strcmp(result, "succeeds, reads 0") == 0 ? "succeeds, reads 1" : result;
}

RULE(madvise, free_then_store, "MADV_FREE, and then a store: the data",
     EVERYWHERE("reads 9", "seed madvise()", "madvise(2)", "madvise(2)")) {
  byte* const at = numbered(1);
  require(madvise(at, PAGE, MADV_FREE) == 0);
  *at = 9;
  return load(at);
}

RULE(madvise, free_of_file, "MADV_FREE of a private file",
     BOTH_FREEBSDS("succeeds", "seed madvise()", AS_7), LINUX("EINVAL", "madvise(2)")) {
  return status(madvise(map_file(new_file(1), 1, READ_WRITE, MAP_PRIVATE), PAGE, MADV_FREE));
}

RULE(madvise, not_in_core_files, "MADV_NOCORE, the host's MADV_DONTDUMP",
     EVERYWHERE("is left out", "seed madvise()", "madvise(2)", "madvise(2)")) {
  byte* const at = numbered(1);
  require(madvise(at, PAGE, ADVISE_OUT_OF_CORE_FILES) == 0);
  return has_flag(at, "dd") ? "is left out" : "is in core files";
}

RULE(madvise, in_core_files_again, "the same, and then MADV_CORE, the host's MADV_DODUMP",
     EVERYWHERE("is in core files", "seed madvise()", "madvise(2)", "madvise(2)")) {
  byte* const at = numbered(1);
  require(madvise(at, PAGE, ADVISE_OUT_OF_CORE_FILES) == 0);
  require(madvise(at, PAGE, ADVISE_INTO_CORE_FILES) == 0);
  return has_flag(at, "dd") ? "is left out" : "is in core files";
}

#ifdef RULES_FREEBSD_NUMBERS

RULE(madvise, dont_need, "MADV_DONTNEED of private memory: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "madvise(2)",
                "by its meaning: it throws nothing away")) {
  return advise(numbered(1), MADV_DONTNEED);
}

RULE(madvise, dont_need_private_file,
     "MADV_DONTNEED of a private file that was stored to: the data",
     EVERYWHERE("succeeds, reads 9", "seed madvise()", "madvise(2)",
                "by its meaning: it throws nothing away")) {
  byte* const at = map_file(new_file(1), 1, READ_WRITE, MAP_PRIVATE);
  *at = 9;
  return advise(at, MADV_DONTNEED);
}

RULE(madvise, past_the_last, "advice past MADV_PROTECT, the last",
     BOTH_FREEBSDS("EINVAL", "seed madvise()", "madvise(2)")) {
  return status(madvise(numbered(1), PAGE, MADV_PROTECT + 1));
}

RULE(madvise, no_sync, "MADV_NOSYNC of a shared file that was stored to, then msync",
     BOTH_FREEBSDS("the file has it", "seed madvise()", "madvise(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  require(madvise(at, PAGE, MADV_NOSYNC) == 0);
  require(msync(at, PAGE, MS_SYNC) == 0);
  return file_state(file, 0, 9);
}

RULE(madvise, auto_sync, "MADV_AUTOSYNC",
     BOTH_FREEBSDS("succeeds, reads 1", "seed madvise()", "madvise(2)")) {
  return advise(map_file(new_file(1), 1, READ_WRITE, MAP_SHARED), MADV_AUTOSYNC);
}

RULE(madvise, protect, "MADV_PROTECT, as the superuser",
     BOTH_FREEBSDS("succeeds", "seed madvise()", "madvise(2)")) {
  need_root();
  return status(madvise(NULL, 0, MADV_PROTECT));
}

RULE(madvise, protect_not_superuser, "MADV_PROTECT, not as the superuser",
     BOTH_FREEBSDS("EPERM", "seed madvise()", "madvise(2)")) {
  drop_root(0);
  return status(madvise(NULL, 0, MADV_PROTECT));
}

RULE(madvise, protect_looks_at_no_range,
     "MADV_PROTECT for a range that wraps around, as the superuser",
     BOTH_FREEBSDS("succeeds", "seed madvise()", AS_7)) {
  need_root();
  return status(madvise(numbered(1), -PAGE, MADV_PROTECT));
}

#else

#define BY_MEANING "by its meaning"

RULE(madvise, discard, "the host's MADV_DONTNEED of private memory: the data",
     EVERYWHERE("succeeds, reads 0", BY_MEANING, BY_MEANING, "madvise(2)")) {
  return advise(numbered(1), MADV_DONTNEED);
}

RULE(madvise, discard_private_file,
     "the host's MADV_DONTNEED of a private file that was stored to: the data",
     EVERYWHERE("succeeds, reads 1", BY_MEANING, BY_MEANING, "madvise(2)")) {
  byte* const at = map_file(new_file(1), 1, READ_WRITE, MAP_PRIVATE);
  *at = 9;
  return advise(at, MADV_DONTNEED);
}

RULE(madvise, discard_locked, "MADV_DONTNEED of locked memory, as the superuser",
     LINUX("EINVAL", "madvise(2)")) {
  need_root();
  byte* const at = numbered(1);
  require(mlock(at, PAGE) == 0);
  return status(madvise(at, PAGE, MADV_DONTNEED));
}

RULE(madvise, discard_around_a_hole,
     "MADV_DONTNEED of a range with a hole in its middle: the pages around it",
     LINUX("ENOMEM, reads 0, reads 0", "madvise(2)")) {
  byte* const at = with_hole(3, 1);
  const char* const result = status(madvise(at, 3 * PAGE, MADV_DONTNEED));
  return say("%s, %s, %s", result, load(at), load(at + 2 * PAGE));
}

RULE(madvise, dont_fork, "MADV_DONTFORK: a load in a child",
     EVERYWHERE("the child gets SIGSEGV", BY_MEANING, BY_MEANING, "madvise(2)")) {
  byte* const at = numbered(1);
  require(madvise(at, PAGE, MADV_DONTFORK) == 0);
  return child_load(at);
}

RULE(madvise, do_fork, "MADV_DONTFORK and then MADV_DOFORK: a load in a child",
     EVERYWHERE("the child reads 1", BY_MEANING, BY_MEANING, "madvise(2)")) {
  byte* const at = numbered(1);
  require(madvise(at, PAGE, MADV_DONTFORK) == 0);
  require(madvise(at, PAGE, MADV_DOFORK) == 0);
  return child_load(at);
}

RULE(madvise, do_fork_keeps_sharing, "the same with shared memory: a child stores, the parent",
     EVERYWHERE("reads 9", BY_MEANING, BY_MEANING, "madvise(2)")) {
  byte* const at = shared(1);
  require(madvise(at, PAGE, MADV_DONTFORK) == 0);
  require(madvise(at, PAGE, MADV_DOFORK) == 0);
  require(child_store(at, 9) == 0);
  return load(at);
}

RULE(madvise, wipe_on_fork, "MADV_WIPEONFORK: a load in a child, and in the parent",
     EVERYWHERE("the child reads 0, reads 1", BY_MEANING, BY_MEANING, "madvise(2)")) {
  byte* const at = numbered(1);
  require(madvise(at, PAGE, MADV_WIPEONFORK) == 0);
  return say("%s, %s", child_load(at), load(at));
}

RULE(madvise, keep_on_fork, "MADV_WIPEONFORK and then MADV_KEEPONFORK: a load in a child",
     EVERYWHERE("the child reads 1", BY_MEANING, BY_MEANING, "madvise(2)")) {
  byte* const at = numbered(1);
  require(madvise(at, PAGE, MADV_WIPEONFORK) == 0);
  require(madvise(at, PAGE, MADV_KEEPONFORK) == 0);
  return child_load(at);
}

RULE(madvise, wipe_shared_on_fork, "MADV_WIPEONFORK of shared memory",
     LINUX("EINVAL", "madvise(2)")) {
  return status(madvise(shared(1), PAGE, MADV_WIPEONFORK));
}

RULE(madvise, wipe_file_on_fork, "MADV_WIPEONFORK of a private file",
     LINUX("EINVAL", "madvise(2)")) {
  return status(madvise(map_file(new_file(1), 1, READ_WRITE, MAP_PRIVATE), PAGE, MADV_WIPEONFORK));
}

RULE(madvise, remove, "MADV_REMOVE of shared memory: the data",
     EVERYWHERE("succeeds, reads 0", BY_MEANING, BY_MEANING, "madvise(2)")) {
  return advise(shared(1), MADV_REMOVE);
}

RULE(madvise, remove_private, "MADV_REMOVE of private memory", LINUX("EINVAL", "madvise(2)")) {
  return status(madvise(numbered(1), PAGE, MADV_REMOVE));
}

RULE(madvise, remove_locked, "MADV_REMOVE of locked shared memory, as the superuser",
     LINUX("EINVAL", "madvise(2)")) {
  need_root();
  byte* const at = shared(1);
  require(mlock(at, PAGE) == 0);
  return status(madvise(at, PAGE, MADV_REMOVE));
}

RULE(madvise, remove_without_the_right,
     "MADV_REMOVE of a shared file that is open for reading only", LINUX("EACCES", "madvise(2)")) {
  const int file = open_again(new_file(1), O_RDONLY);
  return status(madvise(map_file(file, 1, PROT_READ, MAP_SHARED), PAGE, MADV_REMOVE));
}

RULE(madvise, populate_read, "MADV_POPULATE_READ of a file: the last page, never touched",
     EVERYWHERE("in core", BY_MEANING, BY_MEANING, "madvise(2)")) {
  byte* const at = map_file(new_file(8), 8, PROT_READ, MAP_SHARED);
  require(madvise(at, 8 * PAGE, MADV_POPULATE_READ) == 0);
  return core_state(at + 7 * PAGE);
}

RULE(madvise, populate_write, "MADV_POPULATE_WRITE of private memory: the last page, never touched",
     EVERYWHERE("in core", BY_MEANING, BY_MEANING, "madvise(2)")) {
  byte* const at = anonymous(8);
  require(madvise(at, 8 * PAGE, MADV_POPULATE_WRITE) == 0);
  return core_state(at + 7 * PAGE);
}

RULE(madvise, populate_write_read_only, "MADV_POPULATE_WRITE of memory mapped for reading",
     LINUX("EINVAL", KERNEL)) {
  byte* const at = mmap(NULL, PAGE, PROT_READ, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return status(madvise(at, PAGE, MADV_POPULATE_WRITE));
}

RULE(madvise, cold, "MADV_COLD: the data",
     EVERYWHERE("succeeds, reads 1", BY_MEANING, BY_MEANING, "madvise(2)")) {
  return advise(numbered(1), MADV_COLD);
}

RULE(madvise, page_out, "MADV_PAGEOUT: the data",
     EVERYWHERE("succeeds, reads 1", BY_MEANING, BY_MEANING, "madvise(2)")) {
  return advise(numbered(1), MADV_PAGEOUT);
}

#endif

// ---- posix_madvise ----

static const char* outcome_of(int error) { return error == 0 ? "succeeds" : error_name(error); }

RULE(posix_madvise, unknown, "advice that does not exist: the answer, and errno, which was 0",
     EVERYWHERE("EINVAL, 0", "seed madvise()", "posix_madvise(2)", "posix_madvise(3)")) {
  byte* const at = numbered(1);
  errno = 0;
  const int error = posix_madvise(at, PAGE, 99);
  return say("%s, %d", outcome_of(error), errno);
}

RULE(posix_madvise, dont_need, "POSIX_MADV_DONTNEED of private memory: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "posix_madvise(2)", "posix_madvise(3)")) {
  byte* const at = numbered(1);
  const int error = posix_madvise(at, PAGE, POSIX_MADV_DONTNEED);
  return say("%s, %s", outcome_of(error), load(at));
}

RULE(posix_madvise, will_need, "POSIX_MADV_WILLNEED: the data",
     EVERYWHERE("succeeds, reads 1", "seed madvise()", "posix_madvise(2)", "posix_madvise(3)")) {
  byte* const at = numbered(1);
  const int error = posix_madvise(at, PAGE, POSIX_MADV_WILLNEED);
  return say("%s, %s", outcome_of(error), load(at));
}

RULE(posix_madvise, wraps, "the range wraps around", FREEBSD_7("EINVAL", "seed madvise()"),
     FREEBSD_14("ENOMEM", "posix_madvise(2)"), LINUX("EINVAL", "posix_madvise(3)")) {
  return outcome_of(posix_madvise(numbered(1), -PAGE, POSIX_MADV_NORMAL));
}

RULE(posix_madvise, nothing_mapped, "a range where nothing is mapped",
     BOTH_FREEBSDS("succeeds", "seed madvise()", AS_7), LINUX("ENOMEM", "posix_madvise(3)")) {
  return outcome_of(posix_madvise(room(1), PAGE, POSIX_MADV_NORMAL));
}
