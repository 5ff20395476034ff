// FailingDisk: a file system on a block device that fails on demand: a loop device whose image lies in
// a tmpfs that can be filled up. Writes to blocks that the image has lost then fail.
#pragma once

#include <memory>
#include <string>

#include "tests/support/files.h"

namespace support {

class FailingDisk {
 public:
  FailingDisk();
  ~FailingDisk();
  FailingDisk(const FailingDisk&) = delete;
  FailingDisk& operator=(const FailingDisk&) = delete;

  /// A path on it.
  std::string operator/(const std::string& name) const { return disk() + "/" + name; }

  /// From now on nothing that is written to this file reaches the disk, until heal().
  void fail(const std::string& path);
  void heal();
  /// A byte of the file as the disk has it, past the host's cache.
  static unsigned byte(const std::string& path, std::size_t offset);

 private:
  std::string memory() const { return directory_ / "memory"; }
  std::string disk() const { return directory_ / "disk"; }

  TemporaryDirectory directory_;
  std::unique_ptr<LoopDevice> device_;
};

}  // namespace support
