// SectorMap: which sectors of one swap file are free.
//
// The file is looked at in blocks of 64 KiB, each with a bit for every sector: 2 bytes of memory
// for a page of swap, however it is cut up. Blocks with free sectors are in lists by their longest
// free run, so that a run is found without a search. A block that becomes free as a whole is set
// apart until its disk space was given back (next_emptied()), because it must not be written to
// meanwhile. A free run that crosses the border of two blocks counts, for finding it, by its part
// in each.
//
// Not guarded: its owner holds a lock around every call.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "pagers/anon/swap_file.h"

namespace pager {

class SectorMap {
 public:
  static constexpr std::uint64_t kBlockSectors = 128;
  /// The most sectors that a map can have; 256 TiB.
  static constexpr std::uint64_t kMostSectors =
      (std::uint64_t{1} << 32) * kBlockSectors - kBlockSectors;

  /// `limit`: how many sectors there are.
  explicit SectorMap(std::uint64_t limit);

  /// A run of `least` to `wanted` free sectors, an empty one when there is none. `least` is at most
  /// kBlockSectors and at most `wanted`. Small runs come out of blocks that are in use already, the
  /// others from blocks that are free, and those that were never used come last.
  SectorRun find(std::uint64_t wanted, std::uint64_t least) const;
  /// Makes room for taking so many sectors in at most so many runs. Throws std::bad_alloc.
  void reserve(std::uint64_t sectors, std::uint64_t runs);
  /// Marks free sectors as used. Throws only where reserve() was not called for them.
  void take(SectorRun run);
  /// Marks used sectors as free.
  void release(SectorRun run);

  /// Whole blocks that became free since they were last given out by this function; empty when
  /// there are no more. They are not found before offer() brings them back.
  SectorRun next_emptied();
  void offer(SectorRun blocks);
  /// Whether sectors are free that find() does not give, because next_emptied() gave them out.
  bool holds_back() const { return held_ > 0; }

  std::uint64_t used() const { return used_; }
  std::uint64_t free() const { return limit_ - used_; }

 private:
  using Index = std::uint32_t;  ///< of a block
  static constexpr Index kNoBlock = ~Index{0};

  /// The lists. A block with a longest free run of up to 7 sectors is in the list of that number,
  /// so that whoever needs so many finds exactly them; from 8 on each list has twice the length.
  static constexpr std::uint8_t kFull = 0;  ///< no list
  static constexpr std::uint8_t kEight = 8;
  static constexpr std::uint8_t kEmpty = 12;
  static constexpr std::uint8_t kEmptied = 13;  ///< empty, and its disk space not given back
  static constexpr std::uint8_t kLists = 14;
  static constexpr std::uint8_t kHeld = 14;  ///< no list: whoever called next_emptied() has it

  struct Block {
    std::array<std::uint64_t, 2> used{};  ///< a bit for each sector
    Index next = kNoBlock;
    Index previous = kNoBlock;
    std::uint8_t list = kFull;
  };

  static std::uint8_t list_of(std::uint64_t longest);
  static SectorRun next_run(const Block& block, std::uint64_t from);
  static SectorRun longest_run(const Block& block);
  bool is_free(std::uint64_t block) const;
  SectorRun find_in_used_block(std::uint64_t wanted) const;
  SectorRun find_blocks(std::uint64_t wanted) const;
  SectorRun find_longest(std::uint64_t wanted, std::uint64_t least) const;
  SectorRun extended(SectorRun run, std::uint64_t wanted) const;
  void grow(std::uint64_t end);
  void mark(SectorRun run, bool used);
  void move(Index index, std::uint8_t list);

  std::uint64_t limit_;
  std::uint64_t used_ = 0;
  std::uint64_t held_ = 0;     ///< blocks
  std::vector<Block> blocks_;  ///< those behind were never used
  std::array<Index, kLists> heads_;
};

}  // namespace pager
