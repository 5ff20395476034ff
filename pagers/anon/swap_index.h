// SwapIndex: which page of which object lies where, written into the swap files beside the pages,
// so that a pager which is started after this one ended finds them again (--keep), however it
// ended.
//
// What is in the files (numbers in the host's byte order):
//
//   file        4 KiB at its start: FileHeader, which file of which set this is. In the first file
//               it says also which server's content the set holds, the set's epoch, and where the
//               first directory is. The rest of each file is given out by the SwapSpace: to pages,
//               and to blocks of 4 KiB of 256 slots each.
//   slot        16 bytes: a value (8), nothing (4), a checksum (4): CRC-32C of the epoch, of where
//               the slot belongs (two numbers, below), and of the value. All zero: an empty slot.
//   directory   slot 0: where the next directory is; the others: where pages' blocks are.
//               They belong to (the directory's place, their number).
//   block       slots 0 and 1: the object and which block of it this is, belonging to (the block's
//               place, their number); both are empty in a block that is free. The others, one for
//               each of 254 successive pages of the object: where the page is (StoredPage::bits),
//               that it is zero, or that it is lost; belonging to (the object, the page).
//
// A slot that is neither empty nor right is lost: whoever asks for that page gets EIO. It is never
// taken for what it says, and never for a page that was not written.
//
// The order in which things are written makes the files right after every single write, so it does
// not matter where the process is killed:
//   - a page's sectors are written before the slot that leads to them;
//   - the slot that leads to a page's older sectors is overwritten before others get these;
//   - a block is written, empty, before the directory leads to it, a directory likewise;
//   - content of another server ends with one write of the first header, which changes the epoch:
//     no slot that was written before fits any more.
// What was written before the kill is in the host's page cache, or on its way to the disk, and is
// read from there: nothing needs to be durable. When the host goes down the programs go with it,
// and so nobody ever asks for what the files hold then.
//
// Any thread, except where it says otherwise. mutex_ is a leaf and not held across I/O. growth_ is
// held while a block is added, which is once for 254 pages; only those wait who need a block, too.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "pagers/anon/stored_pages.h"
#include "pagers/anon/swap_space.h"
#include "pagers/common/pager.h"

namespace pager {

class SwapIndex {
 public:
  /// Reads what the files of `swap` hold. Before anything else is done with it. Throws
  /// std::runtime_error for files that must not be used: one that is something else, not all files
  /// of a set, not in their order, cut short.
  explicit SwapIndex(SwapSpace& swap);

  /// What is kept of that object. Nothing when it was never written to here; the first call for a
  /// server forgets what there is of another one. The object is the caller's until give_back() or
  /// forget(). Throws Failure. One thread.
  std::optional<StoredPages> take(const ServerId& server, std::uint64_t object);
  /// Ends take(); what is kept stays.
  void give_back(std::uint64_t object, StoredPages stored);
  /// Ends take(): from now on nothing of the object is kept, and its sectors can be released.
  /// Throws Failure; then its sectors must stay.
  void forget(std::uint64_t object);
  /// Forgets all objects that nobody has taken. One thread.
  void forget_untaken();

  struct Change {
    hal::PageIndex page;
    StoredPage now;
  };
  /// Makes room for record() of these, which are in the order of pages. Throws Failure, ENOSPC when
  /// the swap is full; then nothing has changed.
  void prepare(std::uint64_t object, std::span<const Change> changes);
  /// Writes them down. Throws Failure; then it is open which were.
  void record(std::uint64_t object, std::span<const Change> changes);

 private:
  static constexpr std::uint64_t kSlots = 256;
  static constexpr std::uint64_t kHeaderSlots = 2;  ///< of a block
  static constexpr std::uint64_t kBlockPages = kSlots - kHeaderSlots;

  struct Slot {
    std::uint64_t value = 0;
    std::uint32_t nothing = 0;
    std::uint32_t check = 0;
  };
  using Block = std::array<Slot, kSlots>;
  using Id = std::array<std::uint64_t, 2>;
  struct FileHeader;

  struct Object {
    bool taken = false;
    std::map<std::uint64_t, SwapRun> blocks;  ///< by page / kBlockPages
    StoredPages stored;                       ///< while it is not taken
  };

  static SwapRun header_of(std::size_t file);
  static std::uint64_t place_of(const SwapRun& block);
  Slot slot(std::uint64_t one, std::uint64_t two, std::uint64_t value) const;
  bool is_right(const Slot& slot, std::uint64_t one, std::uint64_t two) const;
  std::optional<SwapRun> block_at(const Slot& slot, std::uint64_t one, std::uint64_t two) const;

  void check_held(const SwapRun& run) const;
  std::optional<FileHeader> read_header(std::size_t file) const;
  void write_header(std::size_t file) const;
  void check_files();
  void read_content();
  void read_block(const SwapRun& place, std::vector<SwapRun>& used);
  void begin_anew(const ServerId& server);

  void add_block(std::uint64_t object, std::uint64_t number);
  SwapRun allocate();
  void list(const SwapRun& block);
  std::optional<SwapRun> find(std::uint64_t object, std::uint64_t number) const;
  void free_blocks(const std::map<std::uint64_t, SwapRun>& blocks);

  SwapSpace& swap_;
  Id set_{};                ///< says that the files belong together
  ServerId server_{};       ///< whose content it is; zero for nobody's. Of the thread of take()
  Id epoch_{};              ///< the same
  std::uint64_t root_ = 0;  ///< place_of() the first directory, 0 for none; growth_

  std::mutex growth_;
  std::optional<SwapRun> directory_;  ///< growth_; the last one
  std::uint64_t listed_ = 0;          ///< growth_; slots of it that are in use, without slot 0

  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, Object> objects_;  ///< mutex_
  std::vector<SwapRun> free_;                          ///< mutex_; blocks that are listed
};

}  // namespace pager
