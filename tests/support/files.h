// Files and directories of tests.
#pragma once

#include <cstddef>
#include <string>

namespace support {

/// A directory that every user may enter; it goes with everything in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  /// In this directory instead of the one for temporary files.
  explicit TemporaryDirectory(const std::string& parent);
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

void write_file(const std::string& path, const std::string& data);
std::string read_file(const std::string& path);
/// `bytes` bytes, none of them zero, in which no two pages are alike: byte i is pattern_byte(i).
std::string pattern(std::size_t bytes);
/// The formula is also that of tests/programs/check.h.
constexpr unsigned char pattern_byte(std::size_t index) {
  return static_cast<unsigned char>(1 + (index * 31 + (index >> 12) * 17) % 255);
}

/// A block device whose content is the file at `path`.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& path);
  ~LoopDevice();
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace support
