// StoredPages: where the pages of one anonymous object lie in the swap space.
//
// Pages are kept in chunks of 128, 8 bytes each, and chunks without a page in them go: 8.5 bytes a
// page where they lie dense, about 1 KiB for a page all alone.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "hal/address.h"
#include "pagers/anon/swap_space.h"

namespace pager {

/// Where one page lies, in 8 bytes.
class StoredPage {
 public:
  /// A page that was never stored: it is zero.
  constexpr StoredPage() = default;
  /// A page whose content is gone: a write that replaced it failed.
  static constexpr StoredPage lost() { return StoredPage(kLost); }
  /// A page that was stored and is zero, where that is to be known.
  static constexpr StoredPage zero() { return StoredPage(kZero); }
  /// `bytes`: what it is long, 1 to a page. At that it is stored as it is, else compressed.
  static constexpr StoredPage at(const SwapRun& run, std::uint64_t bytes) {
    return StoredPage(run.sectors.first << kSectorShift | bytes << kBytesShift | run.file);
  }

  /// As one number, 0 for a page that is not known; and back.
  constexpr std::uint64_t bits() const { return bits_; }
  static constexpr StoredPage of_bits(std::uint64_t bits) { return StoredPage(bits); }

  constexpr bool is_known() const { return bits_ != 0; }
  constexpr bool is_lost() const { return bits_ == kLost; }
  constexpr bool is_stored() const { return bytes() != 0; }
  constexpr bool is_compressed() const { return bytes() < hal::kPageSize; }
  constexpr std::uint64_t bytes() const { return bits_ >> kBytesShift & kBytesMask; }
  constexpr SwapRun run() const {
    return {static_cast<std::uint8_t>(bits_), {bits_ >> kSectorShift, sectors_for_bytes(bytes())}};
  }

 private:
  // 8 bits for the file, 13 for the bytes, 43 for the sector.
  static constexpr unsigned kBytesShift = 8;
  static constexpr std::uint64_t kBytesMask = (1 << 13) - 1;
  static constexpr unsigned kSectorShift = kBytesShift + 13;
  static constexpr std::uint64_t kLost = 1;  ///< of no bytes
  static constexpr std::uint64_t kZero = 2;
  static_assert(SectorMap::kMostSectors < std::uint64_t{1} << (64 - kSectorShift));

  constexpr explicit StoredPage(std::uint64_t bits) : bits_(bits) {}

  std::uint64_t bits_ = 0;
};

class StoredPages {
 public:
  StoredPage get(hal::PageIndex page) const;
  /// The first page from `from` on that is known; `end` when there is none before.
  hal::PageIndex next_known(hal::PageIndex from, hal::PageIndex end) const;

  /// Makes room for what is to be known of this page, until the next exchange() of it. Throws
  /// std::bad_alloc.
  void reserve(hal::PageIndex page);
  /// Gives what was known before. Does not throw for a page that was reserved, nor when it forgets.
  StoredPage exchange(hal::PageIndex page, StoredPage now);

 private:
  static constexpr std::uint64_t kChunkPages = 128;
  struct Chunk {
    std::array<StoredPage, kChunkPages> pages;
    std::uint64_t known = 0;
  };

  std::map<std::uint64_t, Chunk> chunks_;  ///< by the first page / kChunkPages
};

}  // namespace pager
