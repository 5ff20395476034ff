// FileBoard: which files programs have mapped, for every program to see (protocol/file_board.h).
//
// Thread-safe; a leaf among the locks.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "protocol/file_board.h"

namespace vm {

class FileBoard {
 public:
  FileBoard() : shown_(&own_) {}
  FileBoard(const FileBoard&) = delete;
  FileBoard& operator=(const FileBoard&) = delete;

  /// Shows it there from now on: zeroes, and for as long as files come and go. Before any is on it.
  void show_at(protocol::FileBoard& page) { shown_ = &page; }
  const protocol::FileBoard& shown() const { return *shown_; }

  /// As often as a file comes on, it goes off.
  void set_mapped(std::uint64_t device, std::uint64_t inode, bool on);
  void set_stored(std::uint64_t device, std::uint64_t inode, bool on);

 private:
  using Counts = std::array<std::uint32_t, protocol::kBoardBits>;
  static void set(protocol::FileFilter& filter, Counts& counts, std::uint32_t bit, bool on);

  std::mutex lock_;
  protocol::FileBoard own_{};
  protocol::FileBoard* shown_;
  Counts mapped_{};  // lock_; files with that bit
  Counts stored_{};  // lock_
};

}  // namespace vm
