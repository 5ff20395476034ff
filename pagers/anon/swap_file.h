// SwapFile: where pages of anonymous memory wait. A file without a name, in slots of one page.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "hal/host_file.h"

namespace pager {

/// `count` slots from `first` on.
struct SlotRun {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

class SwapFile {
 public:
  /// In the directory `directory`, gone with this process. Throws std::system_error.
  explicit SwapFile(const std::string& directory);

  // Any thread.

  /// `count` slots in as few runs as the free ones allow.
  std::vector<SlotRun> allocate(std::uint64_t count);
  /// Gives slots back, and their disk space to the file system.
  void release(SlotRun run);
  /// `run.count` pages from or to `data`. Throw Failure.
  void write(SlotRun run, const char* data);
  void read(SlotRun run, char* data) const;
  /// Slots in use.
  std::uint64_t used() const;

 private:
  hal::SharedDescriptor file_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> free_;  ///< guarded by mutex_; first slot -> count
  std::uint64_t end_ = 0;   ///< guarded by mutex_; slots from here on were never used
  std::uint64_t used_ = 0;  ///< guarded by mutex_
};

}  // namespace pager
