// PrivateMemory: which ranges are plain private memory.
//
// Known are the last few such mappings that were made (malloc's heaps, threads' stacks), as far as no
// call since has made anything else of them. What is in here is the program's own anonymous memory to the
// server, whatever the program did; what is not may be that as well.
//
// A plain data structure of fixed size. Changing it needs the session's lock.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "protocol/trap_frame.h"

namespace shim {

class PrivateMemory {
 public:
  /// Whether the range is page-aligned, not empty, and all of it known. What another thread changes
  /// meanwhile counts as it was or as it is.
  bool contains(uint64_t start, uint64_t bytes) const;
  /// A call is about to be made: what it may make something else of is forgotten.
  void before(const protocol::TrapRequest& request);
  /// A call has succeeded with this value: what was mapped by it is known, where it is plain.
  void after(const protocol::TrapRequest& request, uint64_t value);
  /// Pages that have been mapped, or unmapped.
  void add(uint64_t start, uint64_t bytes) { add(Range{start, start + bytes}); }
  void forget(uint64_t start, uint64_t bytes);

 private:
  struct Range {
    uint64_t start;
    uint64_t end;  // not above start: nothing
  };
  static constexpr size_t kMost = 64;

  /// Another thread may look or fork in the middle: what it sees of it until then is nothing.
  static void put(Range& slot, Range range);
  void add(Range range);

  Range ranges_[kMost] = {};
  size_t next_ = 0;  // where the next one goes, over what is there, when all are in use
};

}  // namespace shim
