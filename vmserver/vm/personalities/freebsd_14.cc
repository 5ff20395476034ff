// freebsd-14: what FreeBSD 14's manual pages say: mmap(2), munmap(2), mprotect(2), minherit(2),
// msync(2), madvise(2), mincore(2), mlock(2), mlockall(2). Where the pages leave the order open it is
// that of the seed.
#include "vmserver/vm/personality.h"

namespace vm {
namespace {

constexpr Rule kMmap[] = {
    {Check::protection_unknown, Error::invalid},
    {Check::protection_over_given_maximum, Error::not_supported},
    {Check::length_zero, Error::invalid},
    {Check::anonymous_with_descriptor, Error::invalid},
    {Check::anonymous_with_offset, Error::invalid},
    {Check::stack_with_descriptor, Error::invalid},
    {Check::stack_not_read_write, Error::invalid},
    {Check::stack_within_guard, Error::invalid},
    {Check::flags_unknown, Error::invalid},
    {Check::exclusive_not_fixed, Error::invalid},
    {Check::both_types, Error::invalid},
    {Check::guard_with_anything, Error::invalid},
    {Check::length_too_long, Error::no_memory},
    {Check::bad_alignment, Error::invalid},
    {Check::fixed_misaligned, Error::invalid},
    {Check::fixed_remainder, Error::invalid},
    {Check::fixed_at_page_zero, Error::invalid},
    {Check::fixed_outside, Error::invalid},
    {Check::fixed_over_2g, Error::invalid},
    {Check::bad_descriptor, Error::bad_descriptor},
    {Check::no_type_nor_anonymous, Error::invalid},
    {Check::not_a_file, Error::no_device},
    {Check::not_mappable, Error::no_device},
    {Check::execute_on_noexec, Error::access},
    {Check::read_not_readable, Error::access},
    {Check::shared_write_not_writable, Error::access},
    {Check::offset_negative, Error::invalid},
    {Check::offset_overflows, Error::invalid},
    {Check::too_many_entries, Error::no_memory},
    {Check::device_write_not_writable, Error::access},
    {Check::device_private, Error::invalid},
    {Check::host_refuses, kErrorOfHost},
    {Check::policy_denies, Error::access},
    {Check::shared_write_immutable, Error::not_permitted},
    {Check::over_address_space, Error::no_memory},
};

constexpr Rule kMunmap[] = {
    {Check::address_misaligned, Error::invalid},
    {Check::length_zero, Error::invalid},
    {Check::range_wraps, Error::invalid},
    {Check::range_outside, Error::invalid},
};

constexpr Rule kMprotect[] = {
    {Check::protection_unknown, Error::invalid},
    {Check::protection_over_given_maximum, Error::not_supported},
    {Check::range_wraps, Error::invalid},
};

constexpr Rule kMinherit[] = {
    {Check::range_wraps, Error::invalid},
    {Check::inheritance_unknown, Error::invalid},
};

constexpr Rule kMsync[] = {
    {Check::address_misaligned, Error::invalid},
    {Check::range_wraps, Error::invalid},
    {Check::async_and_invalidate, Error::invalid},
    {Check::range_has_hole, Error::no_memory},
    {Check::invalidate_wired, Error::busy},
};

constexpr Rule kMadvise[] = {
    {Check::advice_unknown, Error::invalid},
    {Check::range_wraps, Error::no_memory},
    {Check::range_outside, Error::no_memory},
};

constexpr Rule kMincore[] = {
    {Check::range_wraps, Error::no_memory},
    {Check::range_outside, Error::no_memory},
    {Check::range_has_hole, Error::no_memory},
};

constexpr Rule kMlock[] = {
    {Check::range_wraps, Error::invalid},
    {Check::over_machine, Error::again},
    {Check::over_lock_limit, Error::no_memory},
    {Check::over_machine_total, Error::again},
    {Check::range_empty, Error::none},
    {Check::range_has_hole, Error::no_memory},
};

constexpr Rule kMunlock[] = {
    {Check::range_wraps, Error::invalid},
    {Check::range_empty, Error::none},
    {Check::range_has_hole, Error::no_memory},
};

constexpr Rule kMlockall[] = {
    {Check::flags_unknown, Error::invalid},
};

constexpr Rule kMlockallCurrent[] = {
    {Check::over_machine_total, Error::no_memory},
    {Check::over_lock_limit, Error::no_memory},
};

}  // namespace

constexpr Personality kFreebsd14 = {
    .name = "freebsd-14",
    .freebsd_numbers = FreebsdNumbers::of_14,
    .mmap = {.checks = kMmap,
             .checks_after_unmapping = {},
             .hints_avoid_the_heap = true,
             .hints_round_down = false,
             .devices_are_the_hosts = false,
             .zero_device_is_unlimited = true,
             .growth = Growth::within,
             .stack_guard_pages = 1,  // security.bsd.stack_guard_page
             .occupied = Error::invalid,
             .heeds_locked = false,
             .overcommits = true,  // vm.overcommit
             .wiring_failed = Error::no_memory},
    .munmap = kMunmap,
    .mprotect = {.checks = kMprotect, .holes = {}, .stops_at_refusal = false},
    .minherit = kMinherit,
    .msync = {.checks = kMsync, .holes = {}, .nothing_is_the_entry = true},
    .madvise = {.checks = kMadvise, .holes = {}, .strict = false},
    .mincore = {.checks = kMincore, .tells_before_hole = false, .looks_elsewhere = false},
    .mlock = {.checks = kMlock, .all_or_nothing = true},
    .munlock = kMunlock,
    .mlockall = {.checks = kMlockall, .checks_of_current = kMlockallCurrent, .cannot_wire = Error::again},
    .munlockall = {},
    .sbrk_error = Error::none,
    .sstk_error = Error::not_supported,
};

}  // namespace vm
