// Personality: whose rules the calls follow.
//
// One table per personality, one row per decision that systems take differently. A call reads its
// rows at the top and does not ask for the personality's name anywhere. Numbers are a different
// matter: see vm/abi.h.
#pragma once

#include <string_view>

#include "vmserver/vm/result.h"

namespace vm {

struct Personality {
  const char* name;

  // mmap
  bool mmap_of_nothing_succeeds;    ///< length 0 maps nothing and is no error
  bool mmap_offset_may_be_unaligned;
  bool mmap_anonymous_needs_no_descriptor;  ///< MAP_ANON with a descriptor other than -1: EINVAL
  bool device_mappings_are_shared_only;     ///< MAP_PRIVATE of a device: EINVAL
  /// A hint from the program's text to its data plus RLIMIT_DATA moves behind that.
  bool hints_avoid_the_heap;
  // munmap
  bool munmap_refuses_holes;
  // mlock and its kin
  bool wiring_needs_superuser;
  // sbrk, sstk
  Error sbrk_error;
  Error sstk_error;
};

/// nullptr when there is none of that name.
const Personality* find_personality(std::string_view name);
/// The names, separated by ", ".
const char* personality_names();

}  // namespace vm
