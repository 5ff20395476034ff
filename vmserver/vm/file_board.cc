#include "vmserver/vm/file_board.h"

#include <atomic>

namespace vm {

void FileBoard::set_mapped(std::uint64_t device, std::uint64_t inode, bool on) {
  const std::lock_guard guard(lock_);
  set(shown_->mapped, mapped_, protocol::board_bit(device, inode), on);
}

void FileBoard::set_stored(std::uint64_t device, std::uint64_t inode, bool on) {
  const std::lock_guard guard(lock_);
  set(shown_->stored, stored_, protocol::board_bit(device, inode), on);
}

void FileBoard::set(protocol::FileFilter& filter, Counts& counts, std::uint32_t bit, bool on) {
  const std::atomic_ref files(filter.files);
  const std::atomic_ref word(filter.bits[bit / 64]);
  const std::uint64_t mask = std::uint64_t{1} << bit % 64;
  // Programs look at the number first.
  if (on) {
    if (counts[bit]++ == 0) word.fetch_or(mask);
    ++files;
  } else {
    --files;
    if (--counts[bit] == 0) word.fetch_and(~mask);
  }
}

}  // namespace vm
