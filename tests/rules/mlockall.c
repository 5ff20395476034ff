// mlockall and munlockall
#include <sys/resource.h>

#include "observe.h"
#include "rule.h"

RULE(mlockall, nothing, "0",
     EVERYWHERE("EINVAL", "seed mlockall()", "mlockall(2)", "mlockall(2)")) {
  return status(mlockall(0));
}

RULE(mlockall, unknown, "a bit that means nothing",
     EVERYWHERE("EINVAL", "seed mlockall()", "mlockall(2)", "mlockall(2)")) {
  return status(mlockall(MCL_CURRENT | 0x100));
}

RULE(mlockall, unknown_not_superuser, "a bit that means nothing, not as the superuser",
     EVERYWHERE("EINVAL", "seed mlockall()", "mlockall(2)", "mlockall(2)")) {
  drop_root(MIB);
  return status(mlockall(MCL_CURRENT | 0x100));
}

RULE(mlockall, not_superuser, "MCL_FUTURE, not as the superuser",
     FREEBSD_7("EPERM", "seed mlockall()"), FREEBSD_14("succeeds", "mlockall(2)"),
     LINUX("succeeds", "mlockall(2)")) {
  drop_root(MIB);
  return status(mlockall(MCL_FUTURE));
}

RULE(mlockall, current_not_superuser_over_the_limit,
     "MCL_CURRENT over RLIMIT_MEMLOCK, not as the superuser", FREEBSD_7("EPERM", "seed mlockall()"),
     FREEBSD_14("ENOMEM", "mlockall(2)"), LINUX("ENOMEM", "mlockall(2)")) {
  drop_root(4 * PAGE);
  return status(mlockall(MCL_CURRENT));
}

RULE(mlockall, current_over_the_limit, "MCL_CURRENT over RLIMIT_MEMLOCK, as the superuser",
     FREEBSD_7("succeeds", "seed mlockall()"), FREEBSD_14("ENOMEM", "mlockall(2)"),
     LINUX("succeeds", "mlockall(2)")) {
  need_root();
  set_limit(RLIMIT_MEMLOCK, 4 * PAGE);
  return status(mlockall(MCL_CURRENT));
}

// The superuser of a container need not have the right to more.
static void may_lock_everything(void) {
  need_root();
  const struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  (void)setrlimit(RLIMIT_MEMLOCK, &unlimited);
}

RULE(mlockall, current, "MCL_CURRENT, as the superuser: a page mapped before, and one mapped after",
     EVERYWHERE("is locked, is not locked", "seed mlockall()", "mlockall(2)", "mlockall(2)")) {
  may_lock_everything();
  byte* const before = numbered(1);
  require(mlockall(MCL_CURRENT) == 0);
  const byte* const after = map_file(new_file(1), 1, PROT_READ, MAP_SHARED);
  return say("%s, %s", lock_state(before), lock_state(after));
}

RULE(mlockall, current_brings_pages_in, "MCL_CURRENT, as the superuser: memory never touched",
     EVERYWHERE("in core", "seed mlockall()", "mlockall(2)", "mlockall(2)")) {
  may_lock_everything();
  byte* const at = anonymous(8);
  require(mlockall(MCL_CURRENT) == 0);
  return core_state(at + 7 * PAGE);
}

RULE(mlockall, holes, "MCL_CURRENT with holes in the address space, as the superuser",
     EVERYWHERE("succeeds", "seed mlockall()", "mlockall(2)", "mlockall(2)")) {
  may_lock_everything();
  (void)with_hole(3, 1);
  return status(mlockall(MCL_CURRENT));
}

RULE(mlockall, current_fails, "MCL_CURRENT with a page behind the end of a file, as the superuser",
     BOTH_FREEBSDS("EAGAIN", "seed mlockall()", "mlockall(2)"), LINUX("succeeds", KERNEL)) {
  may_lock_everything();
  (void)map_file(new_file(1), 2, PROT_READ, MAP_SHARED);
  return status(mlockall(MCL_CURRENT));
}

RULE(mlockall, future, "MCL_FUTURE, as the superuser: a page mapped before, and one mapped after",
     EVERYWHERE("is not locked, is locked", "seed vm_mmap()", "mlockall(2)", "mlockall(2)")) {
  may_lock_everything();
  byte* const before = map_file(new_file(1), 1, PROT_READ, MAP_SHARED);
  require(mlockall(MCL_FUTURE) == 0);
  const byte* const after = anonymous(1);
  return say("%s, %s", lock_state(before), lock_state(after));
}

RULE(mlockall, future_file, "MCL_FUTURE, as the superuser: a file mapped after",
     EVERYWHERE("is locked", "seed vm_mmap()", "mlockall(2)", "mlockall(2)")) {
  may_lock_everything();
  require(mlockall(MCL_FUTURE) == 0);
  return lock_state(map_file(new_file(1), 1, PROT_READ, MAP_SHARED));
}

RULE(mlockall, future_brings_pages_in, "MCL_FUTURE, as the superuser: memory mapped after",
     EVERYWHERE("in core", "seed vm_mmap()", "mlockall(2)", "mlockall(2)")) {
  may_lock_everything();
  require(mlockall(MCL_FUTURE) == 0);
  return core_state(anonymous(8) + 7 * PAGE);
}

static const char* map_and_tell(byte* at) {
  (void)at;
  return lock_state(anonymous(1));
}

RULE(mlockall, future_and_fork, "MCL_FUTURE and a fork, as the superuser: what the child maps",
     LINUX("is not locked", "mlockall(2)")) {
  may_lock_everything();
  require(mlockall(MCL_FUTURE) == 0);
  return in_child(map_and_tell, NULL);
}

RULE(munlockall, superuser,
     "MCL_CURRENT | MCL_FUTURE, then munlockall, as the superuser: a page mapped between",
     EVERYWHERE("succeeds, is not locked", "seed munlockall()", "mlockall(2)", "mlockall(2)")) {
  may_lock_everything();
  require(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
  const byte* const at = anonymous(1);
  const char* const result = status(munlockall());
  return say("%s, %s", result, lock_state(at));
}

RULE(munlockall, ends_the_future, "the same: a page mapped after",
     EVERYWHERE("is not locked", "seed munlockall()", "mlockall(2)", "mlockall(2)")) {
  may_lock_everything();
  require(mlockall(MCL_FUTURE) == 0 && munlockall() == 0);
  return lock_state(anonymous(1));
}

RULE(munlockall, not_superuser, "not as the superuser", FREEBSD_7("EPERM", "seed munlockall()"),
     FREEBSD_14("succeeds", "mlockall(2)"), LINUX("succeeds", "mlockall(2)")) {
  drop_root(MIB);
  return status(munlockall());
}

RULE(munlockall, nothing_locked, "nothing was locked, as the superuser",
     EVERYWHERE("succeeds", "seed munlockall()", "mlockall(2)", "mlockall(2)")) {
  need_root();
  return status(munlockall());
}

#ifndef RULES_FREEBSD_NUMBERS

RULE(mlockall, on_fault_alone, "MCL_ONFAULT alone", LINUX("EINVAL", "mlockall(2)")) {
  return status(mlockall(MCL_ONFAULT));
}

RULE(mlockall, on_fault, "MCL_CURRENT | MCL_ONFAULT, as the superuser: memory never touched",
     LINUX("succeeds, not in core", "mlockall(2)")) {
  may_lock_everything();
  const byte* const at = anonymous(1);
  const char* const result = status(mlockall(MCL_CURRENT | MCL_ONFAULT));
  return say("%s, %s", result, core_state(at));
}

#endif
