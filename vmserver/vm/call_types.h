// The arguments of calls after translation: what they mean, no longer whose numbers they were.
#pragma once

#include <cstdint>

#include "hal/plan.h"
#include "hal/protection.h"

namespace vm {

/// mmap's flags by meaning.
struct MapFlags {
  bool shared = false;
  bool is_private = false;  ///< MAP_PRIVATE or MAP_COPY
  bool fixed = false;
  bool no_replace = false;  ///< fixed, but fail with EEXIST where something is
  bool anonymous = false;
  bool stack = false;  ///< grows down
  bool no_sync = false;
  bool no_core = false;
  /// Asks for something that only the host can give (huge pages, the low 2 GiB): leave it there.
  bool host_only = false;
};

/// madvise's advice by meaning.
enum class Advice : std::uint8_t {
  normal,
  random,
  sequential,
  will_need,
  deactivate,  ///< FreeBSD's MADV_DONTNEED: not needed soon, data stays
  free,        ///< data may be dropped
  no_sync,
  auto_sync,
  no_core,
  core,
  protect,  ///< FreeBSD's MADV_PROTECT: spare this program when memory runs short
  // Only hosts' programs ask for the following.
  discard,  ///< Linux's MADV_DONTNEED: data goes, the next touch finds what a new mapping would
  remove,   ///< punch a hole into the object
  inherit_none,
  inherit_copy,
  inherit_zero,
  ignore,   ///< known, and without meaning here
  host,     ///< the host's alone: carried out there
  unknown
};

/// msync's flags by meaning.
struct SyncFlags {
  bool asynchronous = false;
  bool invalidate = false;
};

/// mlockall's flags by meaning.
struct LockAllFlags {
  bool current = false;
  bool future = false;
  bool unknown = false;
};

/// minherit's argument; `valid` is false for a number that is none of them.
struct InheritArgument {
  bool valid = false;
  hal::Inherit value = hal::Inherit::copy;
};

/// mincore's answer for one page.
struct CoreBits {
  bool in_core = false;
  bool referenced = false;
  bool modified = false;
  bool referenced_other = false;
  bool modified_other = false;
};

}  // namespace vm
