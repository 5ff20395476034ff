// The arguments of calls after translation: what they mean, no longer whose numbers they were.
#pragma once

#include <cstdint>
#include <optional>

#include "hal/plan.h"
#include "hal/protection.h"

namespace vm {

/// mmap's flags by meaning.
struct MapFlags {
  bool shared = false;
  bool is_private = false;  ///< MAP_PRIVATE or MAP_COPY
  bool validated = false;   ///< shared, and unknown flags are to be refused (the host's)
  bool fixed = false;
  bool no_replace = false;  ///< do not take away what is there
  bool anonymous = false;
  bool stack = false;  ///< grows down
  bool thread_stack = false;  ///< all of it is there from the start (the host's MAP_STACK)
  bool guard = false;  ///< not memory: room that is kept
  bool no_sync = false;
  bool no_core = false;
  bool low = false;             ///< in the first 2 GiB
  bool prefault = false;        ///< enter what is resident
  bool populate = false;        ///< bring in everything
  bool locked = false;          ///< wire it
  bool no_reserve = false;      ///< more than there is may be mapped
  bool synchronous = false;     ///< stores are durable at once: no file here can do that
  std::uint8_t alignment = 0;   ///< logarithm of the boundary; 0: pages will do
  bool bad_alignment = false;   ///< a boundary that no address has
  bool unknown = false;         ///< a flag that these numbers do not have
  /// Asks for something that only the host can give (huge pages): leave it there.
  bool host_only = false;
};

/// A protection argument by meaning.
struct ProtectionArgument {
  hal::Protection value;
  std::optional<hal::Protection> maximum;  ///< FreeBSD's PROT_MAX()
  bool unknown = false;                    ///< a bit that these numbers do not have
  bool grows_down = false;  ///< the host's: from the start of the mapping that grows down
  bool grows_up = false;
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
  discard_locked,  ///< the same of wired memory, too
  remove,          ///< punch a hole into the object
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
  bool unknown = false;  ///< a bit that these numbers do not have, or two that exclude each other
};

/// mlockall's flags by meaning.
struct LockAllFlags {
  bool current = false;
  bool future = false;
  bool on_fault = false;  ///< the host's: wire pages as they are touched
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
