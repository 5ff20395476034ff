// Personality: whose rules the calls follow.
//
// A personality is data: for every call the checks it makes, in their order, each with the error
// that it gives, and a few decisions beside. A call runs its checks (vm/calls/checks.h) and then
// acts; nothing anywhere asks for a personality's name. Numbers are a different matter: see vm/abi.h.
//
// A new personality is one file in vm/personalities and one line in personality.cc. A new check is
// one line in Check, one case in the function that answers it, and its place in the tables.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "vmserver/vm/abi.h"
#include "vmserver/vm/result.h"

namespace vm {

/// What a call may find wrong with its arguments.
enum class Check : std::uint8_t {
  // Any range, and mmap's length.
  length_zero,
  length_negative,     ///< as a signed number
  length_too_long,     ///< longer than any address space, or so after rounding
  address_misaligned,
  range_wraps,
  range_empty,         ///< after rounding
  range_outside,       ///< not within the lowest and the highest address that can be mapped
  range_has_hole,
  // mmap
  offset_misaligned,
  offset_negative,     ///< of a file
  offset_overflows,    ///< the last page has a number that no file has
  protection_unknown,
  protection_over_given_maximum,  ///< PROT_MAX() with less than is asked for
  flags_unknown,
  flags_unknown_validated,  ///< the same, where the caller asked for it to be checked
  synchronous,
  both_types,          ///< MAP_SHARED and MAP_PRIVATE
  no_type_nor_anonymous,
  no_type,
  validated_anonymous,
  exclusive_not_fixed,
  guard_with_anything,
  anonymous_with_descriptor,
  anonymous_with_offset,
  stack_with_descriptor,
  stack_not_read_write,
  stack_within_guard,  ///< not longer than the guard below it
  stack_of_file,
  bad_alignment,
  fixed_remainder,     ///< address and offset differ in their place in the page
  fixed_misaligned,
  fixed_outside,
  fixed_at_page_zero,
  fixed_over_2g,
  bad_descriptor,
  not_a_file,          ///< a pipe, a socket: nothing with a name
  not_mappable,        ///< neither a regular file nor a device
  host_refuses,        ///< a regular file that the host itself cannot map
  not_readable,
  read_not_readable,   ///< PROT_READ of what is not open for reading
  shared_write_not_writable,
  shared_append_only,  ///< the file may only be appended to, and is open for writing
  shared_write_immutable,
  execute_on_noexec,
  device_write_not_writable,
  device_private,
  policy_denies,
  too_many_entries,
  over_address_space,  ///< RLIMIT_AS
  // mprotect
  grows_both_ways,
  // minherit
  inheritance_unknown,
  inheritance_zero,
  // msync
  async_and_invalidate,
  invalidate_wired,
  // madvise
  advice_unknown,
  // mlock and its kin
  not_superuser,
  no_right_to_lock,    ///< not the superuser, and RLIMIT_MEMLOCK is 0
  over_machine,        ///< more than may ever be wired
  over_lock_limit,     ///< RLIMIT_MEMLOCK, for everybody
  over_user_lock_limit,  ///< RLIMIT_MEMLOCK, except for the superuser
  over_machine_total,  ///< more than may be wired with what is
};

/// In a table: whatever errno the host gives.
inline constexpr Error kErrorOfHost{-1};

struct Rule {
  Check check;
  /// Error::none ends the call there, and well.
  Error error;
};
using Rules = std::span<const Rule>;

/// How a mapping that grows down does so.
enum class Growth : std::uint8_t {
  within,  ///< FreeBSD: it begins small, at the top of what was asked for, and grows to that
  below,   ///< the host: all of it is there, and it may grow into what is free below
};

/// What a call that finds a hole does.
struct Holes {
  /// Error::none: passes over it.
  Error error = Error::none;
  /// With an error: what lies behind the hole is still done.
  bool goes_on = false;
};

struct Personality {
  const char* name;
  FreebsdNumbers freebsd_numbers;

  struct Mmap {
    Rules checks;
    /// MAP_FIXED takes away what was there before these are made, even if one then fails.
    Rules checks_after_unmapping;
    /// A hint from the program's text to its data plus RLIMIT_DATA moves behind that.
    bool hints_avoid_the_heap;
    bool hints_round_down;           ///< to their page; otherwise to the next
    bool devices_are_the_hosts;      ///< except those of pagers
    bool zero_device_is_unlimited;   ///< /dev/zero gives every protection, whatever its descriptor
    Growth growth;
    std::uint32_t stack_guard_pages;  ///< the lowest pages of a stack stay out of reach
    Error occupied;                   ///< something is where nothing may be replaced
    bool heeds_locked;                ///< MAP_LOCKED wires
    bool overcommits;                 ///< private memory is given out without asking whether it is there
    /// What a mapping fails with that cannot be wired; Error::none: it stays, not wired.
    Error wiring_failed;
  } mmap;

  Rules munmap;
  struct Mprotect {
    Rules checks;
    Holes holes;
    bool stops_at_refusal;  ///< what lies before a range that refuses has changed
  } mprotect;
  Rules minherit;
  struct Msync {
    Rules checks;
    Holes holes;
    bool nothing_is_the_entry;  ///< length 0 means the whole entry at the address
  } msync;
  struct Madvise {
    Rules checks;
    Holes holes;
    bool strict;  ///< advice that does not fit an entry is an error
  } madvise;
  struct Mincore {
    Rules checks;
    bool tells_before_hole;  ///< the vector is filled up to it
    bool looks_elsewhere;    ///< pages that are there count though this program has not mapped them
  } mincore;
  struct Mlock {
    Rules checks;
    bool all_or_nothing;  ///< a hole leaves what lies before it as it was
  } mlock;
  Rules munlock;
  struct Mlockall {
    Rules checks;
    Rules checks_of_current;  ///< with MCL_CURRENT
    Error cannot_wire;  ///< something that is mapped; Error::none: that stays as it is
  } mlockall;
  Rules munlockall;
  /// Error::none: the break moves, at the host.
  Error sbrk_error;
  Error sstk_error;
};

extern const Personality kFreebsd7;
extern const Personality kFreebsd14;
extern const Personality kLinux;

/// nullptr when there is none of that name.
const Personality* find_personality(std::string_view name);
/// The names, separated by ", ".
const char* personality_names();

}  // namespace vm
