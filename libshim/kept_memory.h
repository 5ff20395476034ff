// KeptMemory: what of the lease stays mapped after the program has unmapped it, and what the next mapping
// there is given without a fault.
//
// Memory that is mapped, used and unmapped over and over (a buffer of a function) costs a mapping, a
// registration and two tables of pages each time. So what the program unmaps last is guarded instead
// (MADV_GUARD_INSTALL: its pages are gone, and whoever touches it has the error of one who touches nothing),
// and unguarded when it is mapped again, with the few pages that were touched the last times.
//
// Only memory comes back of which it is certain that nobody has done anything to it but use it, and that
// the server has no fault under way that could put pages there: it takes a guard for no page at all. The
// server counts its faults for that (protocol/note_ring.h).
//
// A plain data structure of fixed size. Changing it needs the session's lock.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace shim {

/// Faults of the program's as the server counts them. All numbers are modulo 2^32.
struct FaultCount {
  uint32_t begun = 0;
  uint32_t ended = 0;  ///< read before `begun`: where both are the same, none was under way at that time
  uint64_t last = 0;   ///< where the last one was
};

class KeptMemory {
 public:
  /// Larger mappings are not kept: who maps them fills them.
  static constexpr uint64_t kMostBytes = uint64_t{64} * 4096;
  /// Of all together.
  static constexpr uint64_t kMostKept = 4 * kMostBytes;
  /// Nor are those of which more pages are touched.
  static constexpr unsigned kMostTouched = 4;
  /// So often a mapping of a size has to be unmapped as it was mapped before it is kept; twice as often each
  /// time that it was in vain, up to the second.
  static constexpr unsigned kReturns = 8;
  static constexpr unsigned kMostReturns = 512;

  /// Pages of a mapping, from its start on.
  using Pages = uint64_t;

  /// A mapping of the lease has been made, by any means. `faults`: as of before it was.
  void mapped(uint64_t start, uint64_t bytes, bool reserves, const FaultCount& faults);
  /// Something else than its use is about to be done to memory.
  void change(uint64_t start, uint64_t bytes);
  void change_all() { untouched_ = {}; }

  /// The last mapping in the lease is about to be unmapped. Whether it is to be kept.
  bool returns(uint64_t start, uint64_t bytes, const FaultCount& faults);
  /// It has been guarded, and the server been told. False when it has to be unmapped after all: a fault
  /// may have filled it meanwhile.
  bool keep(uint64_t start, uint64_t bytes, const FaultCount& faults);

  /// Whether a mapping can be made of what is kept; which pages to bring.
  bool offers(uint64_t start, uint64_t bytes, bool reserves, Pages& pages) const;
  /// It is about to be.
  void take(uint64_t start, uint64_t bytes);

  /// What is guarded, from `start` to `end`; nothing: both 0.
  uint64_t start() const { return start_; }
  uint64_t end() const { return end_; }
  /// It has been unmapped.
  void let_go();

 private:
  struct Range {
    uint64_t start = 0;
    uint64_t end = 0;
  };
  struct Size {
    uint64_t bytes = 0;
    uint64_t taken = 0;     // the start of the one that was made of what was kept; 0: none
    Pages pages = 0;        // touched in such mappings so far
    unsigned returned = 0;  // up to `needed`
    unsigned needed = kReturns;
  };
  static constexpr size_t kSizes = 4;

  Size* find(uint64_t bytes);
  const Size* find(uint64_t bytes) const { return const_cast<KeptMemory*>(this)->find(bytes); }
  bool nothing_since(const FaultCount& faults) const { return quiet_ && faults.begun == since_; }
  static void failed(Size& size, uint64_t start, const FaultCount& faults);

  Range untouched_;        // mapped one after the other since, up to the lease, and only used
  uint32_t since_ = 0;     // so many faults had begun by then
  bool quiet_ = false;     // and all of them had ended
  bool reserves_ = false;  // what is in there
  uint64_t start_ = 0;
  uint64_t end_ = 0;
  Size sizes_[kSizes];
  size_t next_ = 0;  // where the next new one goes
};

}  // namespace shim
