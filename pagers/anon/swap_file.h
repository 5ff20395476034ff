// SwapFile: one file or block device where pages of anonymous memory wait, read and written in
// sectors of 512 bytes. Which sectors are whose is not its business (swap_space.h).
//
// What waits there is its owner's alone and ends with this process: a file is made anew with mode
// 0600 and loses its name before anything is written to it. On a block device the data stays after
// the end, readable by whoever may read the device. One that is to be kept has mode 0600, too, and
// its name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "hal/address.h"
#include "hal/host_file.h"

namespace pager {

inline constexpr std::uint64_t kSectorBytes = 512;
inline constexpr std::uint64_t kPageSectors = hal::kPageSize / kSectorBytes;

constexpr std::uint64_t bytes_from_sectors(std::uint64_t sectors) { return sectors * kSectorBytes; }
constexpr std::uint64_t sectors_for_bytes(std::uint64_t bytes) {
  return bytes / kSectorBytes + (bytes % kSectorBytes != 0 ? 1 : 0);
}

/// `count` sectors from `first` on, in one file.
struct SectorRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;

  std::uint64_t end() const { return first + count; }
  bool empty() const { return count == 0; }
  friend bool operator==(const SectorRun&, const SectorRun&) = default;
};

class SwapFile {
 public:
  /// A file without a name in `directory`, which grows as needed. Throws std::system_error.
  static SwapFile in_directory(const std::string& directory);
  /// The block device at `path`, or a new file there that loses its name at once; a regular file
  /// that was there is removed. `bytes` is how much of it to use at most: without, a device is used
  /// as a whole, and a file grows as needed. Throws std::system_error, and std::runtime_error for
  /// what must not be used: a symbolic link, another kind of file, one that somebody has locked or
  /// mounted, a file with content that is not this user's.
  static SwapFile open(const std::string& path, std::optional<std::uint64_t> bytes);

  /// The same, but a file keeps its name, and one that is there already is used as it is: this
  /// user's alone, whatever is in it.
  static SwapFile keep(const std::string& path, std::optional<std::uint64_t> bytes);

  /// How long the file was when it was opened; nothing for a device.
  std::optional<std::uint64_t> bytes_found() const { return bytes_found_; }
  const std::string& name() const { return name_; }
  /// In whole pages; nothing when only the file system says when it is full.
  std::optional<std::uint64_t> limit_sectors() const { return limit_sectors_; }
  /// Whether punch() gives anything back.
  bool punches() const { return punches_; }
  int descriptor() const { return file_.get(); }

  // Any thread.

  /// `run.count` sectors from or to `data`. Throw Failure; ENOSPC when the file system is full.
  void write(SectorRun run, const char* data);
  void read(SectorRun run, char* data) const;
  /// The same of what the host has in memory; false when it has not, and then `data` is anything.
  bool read_cached(SectorRun run, char* data) const;
  void write_bytes(std::uint64_t offset, std::uint64_t bytes, const char* data);
  /// Gives disk space back to the file system. Where that cannot, the space stays taken.
  void punch(SectorRun run);

 private:
  static SwapFile of_device(const hal::SharedDescriptor& device, const std::string& path,
                            std::optional<std::uint64_t> bytes);
  SwapFile(hal::SharedDescriptor file, std::string name, std::optional<std::uint64_t> limit_bytes,
           bool punches);

  hal::SharedDescriptor file_;
  std::string name_;  ///< for messages
  std::optional<std::uint64_t> limit_sectors_;
  bool punches_;
  std::optional<std::uint64_t> bytes_found_;
};

}  // namespace pager
