// freebsd-7: the seed, vm_mmap.c as of FreeBSD 7, check by check.
#include "vmserver/vm/personality.h"

namespace vm {
namespace {

// mmap(), in its order; then the part of vm_mmap() before it takes away what was there.
constexpr Rule kMmap[] = {
    {Check::length_negative, Error::invalid},
    {Check::anonymous_with_descriptor, Error::invalid},
    {Check::stack_with_descriptor, Error::invalid},
    {Check::stack_not_read_write, Error::invalid},
    {Check::fixed_remainder, Error::invalid},
    {Check::fixed_outside, Error::invalid},
    {Check::bad_descriptor, Error::bad_descriptor},
    {Check::not_a_file, Error::no_device},
    {Check::read_not_readable, Error::access},
    {Check::shared_write_not_writable, Error::access},
    {Check::too_many_entries, Error::no_memory},
    {Check::range_empty, Error::none},
    {Check::over_address_space, Error::no_memory},
};

// vm_mmap_vnode() and vm_mmap_cdev(); the pager has no page at such offsets; vm_map_find().
constexpr Rule kMmapAfterUnmapping[] = {
    {Check::device_write_not_writable, Error::access},
    {Check::device_private, Error::invalid},
    {Check::not_mappable, Error::invalid},
    {Check::host_refuses, kErrorOfHost},
    {Check::policy_denies, Error::access},
    {Check::shared_write_immutable, Error::not_permitted},
    {Check::offset_negative, Error::invalid},
    {Check::offset_overflows, Error::invalid},
    {Check::execute_on_noexec, Error::access},
};

constexpr Rule kMunmap[] = {
    {Check::length_zero, Error::invalid},
    {Check::range_wraps, Error::invalid},
    {Check::range_outside, Error::invalid},
    {Check::range_has_hole, Error::invalid},
};

constexpr Rule kMprotect[] = {
    {Check::range_wraps, Error::invalid},
};

constexpr Rule kMinherit[] = {
    {Check::range_wraps, Error::invalid},
    {Check::inheritance_unknown, Error::invalid},
    {Check::inheritance_zero, Error::invalid},
};

constexpr Rule kMsync[] = {
    {Check::range_wraps, Error::invalid},
    {Check::async_and_invalidate, Error::invalid},
    {Check::range_has_hole, Error::invalid},
    {Check::invalidate_wired, Error::busy},
};

constexpr Rule kMadvise[] = {
    {Check::advice_unknown, Error::invalid},
    {Check::range_wraps, Error::invalid},
    {Check::range_outside, Error::invalid},
};

constexpr Rule kMincore[] = {
    {Check::range_wraps, Error::no_memory},
    {Check::range_outside, Error::no_memory},
    {Check::range_has_hole, Error::no_memory},
};

constexpr Rule kMlock[] = {
    {Check::not_superuser, Error::not_permitted}, {Check::range_wraps, Error::invalid},
    {Check::over_machine, Error::no_memory},      {Check::over_lock_limit, Error::no_memory},
    {Check::over_machine_total, Error::again},    {Check::range_has_hole, Error::no_memory},
};

constexpr Rule kMunlock[] = {
    {Check::not_superuser, Error::not_permitted},
    {Check::range_wraps, Error::invalid},
    {Check::range_has_hole, Error::no_memory},
};

constexpr Rule kMlockall[] = {
    {Check::flags_unknown, Error::invalid},
    {Check::not_superuser, Error::not_permitted},
};

constexpr Rule kMunlockall[] = {
    {Check::not_superuser, Error::not_permitted},
};

}  // namespace

constexpr Personality kFreebsd7 = {
    .name = "freebsd-7",
    .freebsd_numbers = FreebsdNumbers::of_7,
    .mmap = {.checks = kMmap,
             .checks_after_unmapping = kMmapAfterUnmapping,
             .hints_avoid_the_heap = true,
             .hints_round_down = false,
             .devices_are_the_hosts = false,
             .zero_device_is_unlimited = true,
             .growth = Growth::within,
             .stack_guard_pages = 0,
             .occupied = Error::exists,
             .heeds_locked = false,
             .overcommits = true,  // vm.overcommit
             .wiring_failed = Error::none},
    .munmap = kMunmap,
    .mprotect = {.checks = kMprotect, .holes = {}, .stops_at_refusal = false},
    .minherit = kMinherit,
    .msync = {.checks = kMsync, .holes = {}, .nothing_is_the_entry = true},
    .madvise = {.checks = kMadvise, .holes = {}, .strict = false},
    .mincore = {.checks = kMincore, .tells_before_hole = false, .looks_elsewhere = true},
    .mlock = {.checks = kMlock, .all_or_nothing = true},
    .munlock = kMunlock,
    .mlockall = {.checks = kMlockall, .checks_of_current = {}, .cannot_wire = Error::again},
    .munlockall = kMunlockall,
    .sbrk_error = Error::not_supported,
    .sstk_error = Error::not_supported,
};

}  // namespace vm
