// SwapSpace: all swap files of this pager together, and which of their sectors are free.
//
// What is to be written out is a sequence of pieces (pages, or what compression leaves of them).
// They are placed in clusters of successive sectors, and where there are several files these take
// turns, a cluster each. Freed sectors can be given out again at once. Where 64 KiB of a file have
// become free as a whole, their disk space goes back to the file system; meanwhile they are set
// apart, and whoever finds nothing else waits for that.
//
// Every function may be called from any thread; none holds the lock while it reads, writes or
// punches.
#pragma once

#include <bitset>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pagers/anon/sector_map.h"
#include "pagers/anon/swap_file.h"

namespace pager {

/// Where something lies in the swap space.
struct SwapRun {
  std::uint8_t file = 0;
  SectorRun sectors;

  /// Whether `other` lies right behind.
  bool joins(const SwapRun& other) const {
    return file == other.file && sectors.end() == other.sectors.first;
  }
  friend bool operator==(const SwapRun&, const SwapRun&) = default;
};

class SwapSpace {
 public:
  static constexpr std::size_t kMostFiles = 256;
  /// What one file gets before it is the next one's turn.
  static constexpr std::uint64_t kClusterSectors = 256 * 1024 / kSectorBytes;
  using FileSet = std::bitset<kMostFiles>;

  /// 1 to kMostFiles files.
  explicit SwapSpace(std::vector<SwapFile> files);

  /// Room for pieces of `sizes` sectors (1 to kPageSectors each), a run for each of them, in files
  /// that are not in `avoid`; nothing when there is not room for all.
  std::optional<std::vector<SwapRun>> allocate(std::span<const std::uint8_t> sizes,
                                               const FileSet& avoid = {});
  /// The same, with the room that releasing `instead` makes. That is released only on success.
  std::optional<std::vector<SwapRun>> exchange(std::span<const SwapRun> instead,
                                               std::span<const std::uint8_t> sizes,
                                               const FileSet& avoid = {});
  void release(std::span<const SwapRun> runs);

  /// To or from `data`. Throw Failure.
  void write(const SwapRun& run, const char* data);
  void read(const SwapRun& run, char* data) const;
  /// The same of what the host has in memory; false when it has not, and then `data` is anything.
  bool read_cached(const SwapRun& run, char* data) const;

  // Where the files outlive this process (swap_index.h): the first kHeaderSectors of each are not
  // given out then.
  static constexpr std::uint64_t kHeaderSectors = 8;

  std::size_t files() const { return files_.size(); }
  const SwapFile& file(std::size_t number) const { return files_[number]; }
  /// Whether there is such a place, behind the headers.
  bool holds(const SwapRun& run) const;
  /// What is in use from the start, before anything is allocated: the headers and `runs`. Throws
  /// std::runtime_error when two of them overlap.
  void adopt(std::vector<SwapRun> runs);
  /// Nothing is in use any more but the headers; disk space goes back.
  void clear();
  /// Writes `bytes` bytes at byte `offset` of the run. Throws Failure.
  void write_part(const SwapRun& run, std::uint64_t offset, const void* data, std::uint64_t bytes);

  struct Usage {
    std::uint64_t sectors = 0;
    std::optional<std::uint64_t> limit;  ///< sectors; nothing when the file system is the limit
  };
  Usage usage() const;
  /// "the swap is full (512 of 512 pages in use)"
  std::string text_when_full() const;

 private:
  std::optional<std::vector<SwapRun>> place_or_wait(std::unique_lock<std::mutex>& lock,
                                                    std::span<const SwapRun> instead,
                                                    std::span<const std::uint8_t> sizes,
                                                    const FileSet& avoid);
  bool place(std::span<const std::uint8_t> sizes, const FileSet& avoid, std::vector<SwapRun>& runs);
  SwapRun find_in_turn(std::uint64_t wanted, std::uint64_t least, const FileSet& avoid);
  void punch(std::unique_lock<std::mutex>& lock);

  std::vector<SwapFile> files_;
  mutable std::mutex mutex_;
  std::condition_variable offered_;  ///< what was held back is there again
  std::vector<SectorMap> maps_;      ///< guarded by mutex_; one for each file
  std::size_t turn_ = 0;             ///< guarded by mutex_; the file to ask first
};

}  // namespace pager
