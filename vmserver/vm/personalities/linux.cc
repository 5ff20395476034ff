// linux: the host's own rules: mmap(2), munmap(2), mprotect(2), msync(2), madvise(2), mincore(2),
// mlock(2) of the Linux manual pages, in the order of the kernel's functions.
#include "vmserver/vm/personality.h"

namespace vm {
namespace {

constexpr Rule kMmap[] = {
    {Check::offset_misaligned, Error::invalid},
    {Check::bad_descriptor, Error::bad_descriptor},
    {Check::length_zero, Error::invalid},
    {Check::length_too_long, Error::no_memory},
    {Check::too_many_entries, Error::no_memory},
    {Check::fixed_outside, Error::no_memory},
    {Check::fixed_misaligned, Error::invalid},
    {Check::offset_overflows, Error::overflow},
    {Check::no_type, Error::invalid},
    {Check::validated_anonymous, Error::invalid},
    {Check::flags_unknown_validated, Error::not_supported},
    {Check::synchronous, Error::not_supported},
    {Check::stack_of_file, Error::invalid},
    {Check::shared_write_not_writable, Error::access},
    {Check::shared_append_only, Error::access},
    {Check::not_readable, Error::access},
    {Check::execute_on_noexec, Error::not_permitted},
    {Check::not_a_file, Error::no_device},
    {Check::not_mappable, Error::no_device},
    {Check::host_refuses, kErrorOfHost},
    {Check::policy_denies, Error::access},
    {Check::over_address_space, Error::no_memory},
};

constexpr Rule kMunmap[] = {
    {Check::address_misaligned, Error::invalid},
    {Check::range_wraps, Error::invalid},
    {Check::range_outside, Error::invalid},
    {Check::length_zero, Error::invalid},
};

constexpr Rule kMprotect[] = {
    {Check::grows_both_ways, Error::invalid},
    {Check::address_misaligned, Error::invalid},
    {Check::length_zero, Error::none},
    {Check::range_wraps, Error::no_memory},
    {Check::protection_unknown, Error::invalid},
};

constexpr Rule kMinherit[] = {
    {Check::range_wraps, Error::invalid},
    {Check::inheritance_unknown, Error::invalid},
};

constexpr Rule kMsync[] = {
    {Check::flags_unknown, Error::invalid},
    {Check::address_misaligned, Error::invalid},
    {Check::range_wraps, Error::no_memory},
    {Check::range_empty, Error::none},
    {Check::invalidate_wired, Error::busy},
};

constexpr Rule kMadvise[] = {
    {Check::advice_unknown, Error::invalid},
    {Check::address_misaligned, Error::invalid},
    {Check::range_wraps, Error::invalid},
    {Check::range_empty, Error::none},
};

constexpr Rule kMincore[] = {
    {Check::address_misaligned, Error::invalid},
    {Check::range_wraps, Error::no_memory},
    {Check::range_outside, Error::no_memory},
    {Check::range_empty, Error::none},
};

constexpr Rule kMlock[] = {
    {Check::flags_unknown, Error::invalid},
    {Check::no_right_to_lock, Error::not_permitted},
    {Check::range_wraps, Error::invalid},
    {Check::over_user_lock_limit, Error::no_memory},
    {Check::range_empty, Error::none},
};

constexpr Rule kMunlock[] = {
    {Check::range_wraps, Error::invalid},
    {Check::range_empty, Error::none},
    {Check::range_has_hole, Error::no_memory},
};

constexpr Rule kMlockall[] = {
    {Check::flags_unknown, Error::invalid},
    {Check::no_right_to_lock, Error::not_permitted},
};

constexpr Rule kMlockallCurrent[] = {
    {Check::over_user_lock_limit, Error::no_memory},
};

}  // namespace

constexpr Personality kLinux = {
    .name = "linux",
    .freebsd_numbers = FreebsdNumbers::of_14,
    .mmap = {.checks = kMmap,
             .checks_after_unmapping = {},
             .hints_avoid_the_heap = false,
             .hints_round_down = true,
             .devices_are_the_hosts = true,
             .zero_device_is_unlimited = false,
             .growth = Growth::below,
             .stack_guard_pages = 256,  // stack_guard_gap
             .occupied = Error::exists,
             .heeds_locked = true,
             .overcommits = false,  // the host decides
             .wiring_failed = Error::again},
    .munmap = kMunmap,
    .mprotect = {.checks = kMprotect,
                 .holes = {.error = Error::no_memory, .goes_on = false},
                 .stops_at_refusal = true},
    .minherit = kMinherit,
    .msync = {.checks = kMsync,
              .holes = {.error = Error::no_memory, .goes_on = true},
              .nothing_is_the_entry = false},
    .madvise = {.checks = kMadvise,
                .holes = {.error = Error::no_memory, .goes_on = true},
                .strict = true},
    .mincore = {.checks = kMincore, .tells_before_hole = true, .looks_elsewhere = true},
    .mlock = {.checks = kMlock, .all_or_nothing = false},
    .munlock = kMunlock,
    .mlockall = {.checks = kMlockall, .checks_of_current = kMlockallCurrent, .cannot_wire = Error::none},
    .munlockall = {},
    .sbrk_error = Error::none,
    .sstk_error = Error::not_supported,
};

}  // namespace vm
