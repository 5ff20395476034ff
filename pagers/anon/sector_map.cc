#include "pagers/anon/sector_map.h"

#include <algorithm>
#include <bit>

namespace pager {
namespace {

constexpr std::uint64_t kWordBits = 64;
/// How many blocks of a list are looked at where not all of them need to fit.
constexpr unsigned kLooks = 8;

}  // namespace

SectorMap::SectorMap(std::uint64_t limit) : limit_(std::min(limit, kMostSectors)) {
  heads_.fill(kNoBlock);
}

std::uint8_t SectorMap::list_of(std::uint64_t longest) {
  if (longest < 8) return static_cast<std::uint8_t>(longest);
  return static_cast<std::uint8_t>(kEight + std::bit_width(longest) - std::bit_width(8u));
}

/// The first free run that begins at or behind `from`, counted from the block's start.
SectorRun SectorMap::next_run(const Block& block, std::uint64_t from) {
  const auto next = [&](std::uint64_t at, bool used) {
    while (at < kBlockSectors) {
      const std::uint64_t word = block.used[at / kWordBits];
      const std::uint64_t bits = (used ? word : ~word) >> at % kWordBits;
      if (bits != 0) return at + static_cast<std::uint64_t>(std::countr_zero(bits));
      at = (at / kWordBits + 1) * kWordBits;
    }
    return kBlockSectors;
  };
  const std::uint64_t first = next(from, false);
  return {first, next(first, true) - first};
}

SectorRun SectorMap::longest_run(const Block& block) {
  SectorRun longest;
  for (SectorRun run = next_run(block, 0); !run.empty(); run = next_run(block, run.end()))
    if (run.count > longest.count) longest = run;
  return longest;
}

bool SectorMap::is_free(std::uint64_t block) const {
  return block < blocks_.size() &&
         (blocks_[block].list == kEmpty || blocks_[block].list == kEmptied);
}

SectorRun SectorMap::find(std::uint64_t wanted, std::uint64_t least) const {
  SectorRun run;
  if (wanted < kBlockSectors) run = find_in_used_block(wanted);
  if (run.empty()) run = find_blocks(wanted);
  if (run.empty()) {
    const std::uint64_t never_used = blocks_.size() * kBlockSectors;
    if (never_used < limit_ && limit_ - never_used >= least)
      run = {never_used, std::min(wanted, limit_ - never_used)};
  }
  return run.empty() ? find_longest(wanted, least) : run;
}

/// A run of exactly `wanted` sectors in a block that is partly used.
SectorRun SectorMap::find_in_used_block(std::uint64_t wanted) const {
  for (std::uint8_t list = list_of(wanted); list < kEmpty; ++list) {
    Index index = heads_[list];
    for (unsigned looks = 0; index != kNoBlock && looks < kLooks; ++looks) {
      const Block& block = blocks_[index];
      for (SectorRun run = next_run(block, 0); !run.empty(); run = next_run(block, run.end()))
        if (run.count >= wanted) return {index * kBlockSectors + run.first, wanted};
      index = block.next;
    }
  }
  return {};
}

/// Free blocks in a row, at least one.
SectorRun SectorMap::find_blocks(std::uint64_t wanted) const {
  const Index index = heads_[kEmpty] != kNoBlock ? heads_[kEmpty] : heads_[kEmptied];
  if (index == kNoBlock) return {};
  std::uint64_t first = index;
  std::uint64_t end = first + 1;
  while ((end - first) * kBlockSectors < wanted && is_free(end)) ++end;
  while ((end - first) * kBlockSectors < wanted && first > 0 && is_free(first - 1)) --first;
  return {first * kBlockSectors, std::min(wanted, (end - first) * kBlockSectors)};
}

/// The longest run that can be had without a search.
SectorRun SectorMap::find_longest(std::uint64_t wanted, std::uint64_t least) const {
  SectorRun longest;
  for (std::uint8_t list = kEmpty - 1; list > kFull && longest.empty(); --list) {
    Index index = heads_[list];
    for (unsigned looks = 0; index != kNoBlock && looks < kLooks; ++looks) {
      SectorRun run = longest_run(blocks_[index]);
      run.first += index * kBlockSectors;
      run = extended(run, wanted);
      if (run.count > longest.count) longest = run;
      index = blocks_[index].next;
    }
  }
  longest.count = std::min(longest.count, wanted);
  return longest.count >= least ? longest : SectorRun{};
}

/// With what is free beside it in the blocks on both sides.
SectorRun SectorMap::extended(SectorRun run, std::uint64_t wanted) const {
  while (run.count < wanted && run.end() % kBlockSectors == 0 &&
         run.end() / kBlockSectors < blocks_.size()) {
    const Block& behind = blocks_[run.end() / kBlockSectors];
    const SectorRun more = next_run(behind, 0);
    if (behind.list == kHeld || more.first != 0 || more.empty()) break;
    run.count += more.count;
  }
  if (run.count < wanted && run.first % kBlockSectors == 0 && run.first > 0) {
    const Block& before = blocks_[run.first / kBlockSectors - 1];
    const std::uint64_t free =
        before.list == kHeld ? 0 : static_cast<std::uint64_t>(std::countl_zero(before.used[1]));
    run = {run.first - free, run.count + free};
  }
  return run;
}

void SectorMap::grow(std::uint64_t end) {
  while (blocks_.size() * kBlockSectors < end) {
    const auto index = static_cast<Index>(blocks_.size());
    blocks_.emplace_back();
    const std::uint64_t first = index * kBlockSectors;
    if (limit_ - first < kBlockSectors) {
      for (std::uint64_t bit = limit_ - first; bit < kBlockSectors; ++bit)
        blocks_[index].used[bit / kWordBits] |= std::uint64_t{1} << bit % kWordBits;
    }
    move(index, list_of(longest_run(blocks_[index]).count));
  }
}

void SectorMap::reserve(std::uint64_t sectors, std::uint64_t runs) {
  const std::size_t needed = blocks_.size() + sectors / kBlockSectors + runs;
  if (needed > blocks_.capacity()) blocks_.reserve(std::max(needed, 2 * blocks_.capacity()));
}

void SectorMap::take(SectorRun run) {
  grow(run.end());
  mark(run, true);
  used_ += run.count;
}

void SectorMap::release(SectorRun run) {
  mark(run, false);
  used_ -= run.count;
}

void SectorMap::mark(SectorRun run, bool used) {
  while (!run.empty()) {
    const auto index = static_cast<Index>(run.first / kBlockSectors);
    Block& block = blocks_[index];
    const std::uint64_t end = std::min(run.end(), (index + std::uint64_t{1}) * kBlockSectors);
    while (run.first < end) {
      const std::uint64_t bit = run.first % kWordBits;
      const std::uint64_t count = std::min(end - run.first, kWordBits - bit);
      const std::uint64_t mask = (~std::uint64_t{0} >> (kWordBits - count)) << bit;
      std::uint64_t& word = block.used[run.first % kBlockSectors / kWordBits];
      word = used ? word | mask : word & ~mask;
      run = {run.first + count, run.count - count};
    }
    const std::uint8_t list = list_of(longest_run(block).count);
    move(index, list == kEmpty ? kEmptied : list);
  }
}

void SectorMap::move(Index index, std::uint8_t list) {
  Block& block = blocks_[index];
  if (block.list == list) return;
  if (block.list != kFull && block.list != kHeld) {
    if (block.previous == kNoBlock) {
      heads_[block.list] = block.next;
    } else {
      blocks_[block.previous].next = block.next;
    }
    if (block.next != kNoBlock) blocks_[block.next].previous = block.previous;
  }
  block.list = list;
  block.previous = block.next = kNoBlock;
  if (list == kFull || list == kHeld) return;
  block.next = heads_[list];
  if (block.next != kNoBlock) blocks_[block.next].previous = index;
  heads_[list] = index;
}

SectorRun SectorMap::next_emptied() {
  if (heads_[kEmptied] == kNoBlock) return {};
  const auto emptied = [&](std::uint64_t block) {
    return block < blocks_.size() && blocks_[block].list == kEmptied;
  };
  std::uint64_t first = heads_[kEmptied];
  std::uint64_t end = first + 1;
  while (first > 0 && emptied(first - 1)) --first;
  while (emptied(end)) ++end;
  for (std::uint64_t block = first; block < end; ++block) move(static_cast<Index>(block), kHeld);
  held_ += end - first;
  return {first * kBlockSectors, (end - first) * kBlockSectors};
}

void SectorMap::offer(SectorRun blocks) {
  // The first block is to be used first.
  for (std::uint64_t at = blocks.end(); at > blocks.first; at -= kBlockSectors)
    move(static_cast<Index>(at / kBlockSectors - 1), kEmpty);
  held_ -= blocks.count / kBlockSectors;
}

}  // namespace pager
