// SimPageTable: a radix tree of four levels of 512 entries each, like x86-64's, from page numbers
// to frames.
//
// An entry is absent, present, or a mark: a touch is a bus error. Needs the lock of the SimMemory.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "hal/address.h"
#include "hal/sim/sim_memory.h"

namespace hal {

struct SimPage {
  SimFramePointer frame;
  bool owned = false;    ///< nobody else has this frame: a private mapping may store into it
  bool of_object = false;  ///< the frame is the object's: it goes when the object drops it
  bool written = false;  ///< stored to since tracking began or was last read
  bool failed = false;   ///< no frame: a touch is a bus error
  bool lazy = false;     ///< may be dropped unless it is stored to again

  bool absent() const { return !frame && !failed; }
};

class SimPageTable {
 public:
  static constexpr unsigned kLevels = 4;
  static constexpr unsigned kBitsPerLevel = 9;
  static constexpr std::size_t kEntries = std::size_t{1} << kBitsPerLevel;

  SimPageTable();
  ~SimPageTable();
  SimPageTable(const SimPageTable&) = delete;
  SimPageTable& operator=(const SimPageTable&) = delete;

  /// The page at the address, or nullptr when it is absent.
  SimPage* find(VirtualAddress address);
  /// The entry for the address, absent if it is new; for the caller to fill.
  SimPage& entry(VirtualAddress address);
  /// Drops what is in the range, and tables that became empty.
  void erase(VirtualRange range);
  /// Calls `visit` for every page of the range that is not absent, by address.
  void for_each(VirtualRange range, const std::function<void(VirtualAddress, SimPage&)>& visit);
  /// Tables in use, the root included.
  std::size_t table_count() const { return tables_; }

 private:
  struct Table;
  struct Leaf {
    std::array<SimPage, kEntries> pages;
  };

  using Number = std::uint64_t;  // of a page
  void erase(Table& table, unsigned level, Number base, Number first, Number end);
  void visit(Table& table, unsigned level, Number base, Number first, Number end,
             const std::function<void(VirtualAddress, SimPage&)>& sink);

  std::unique_ptr<Table> root_;
  std::size_t tables_ = 1;
};

}  // namespace hal
