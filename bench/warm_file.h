// Files and orders of pages to measure with.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "bench/fail.h"

namespace bench {

/// Page numbers in an order that nobody foresees, the same in every round.
inline std::vector<std::size_t> shuffled_pages(std::size_t pages, std::size_t count) {
  std::vector<std::size_t> order(pages);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(20240607));
  order.resize(std::min(count, pages));
  return order;
}

/// A file that the kernel has in its cache and that nobody has mapped yet.
class WarmFile {
 public:
  explicit WarmFile(std::size_t bytes) {
    std::string path = (std::filesystem::temp_directory_path() / "first-touch-XXXXXX").string();
    descriptor_ = ::mkostemp(path.data(), O_CLOEXEC);
    if (descriptor_ < 0) fail("make " + path);
    ::unlink(path.c_str());
    std::vector<char> block(std::size_t{1} << 20);
    std::iota(block.begin(), block.end(), char{1});
    for (std::size_t at = 0; at < bytes;) {
      const ssize_t done = ::write(descriptor_, block.data(), std::min(block.size(), bytes - at));
      if (done < 0) fail("write " + path);
      at += static_cast<std::size_t>(done);
    }
    // Written back now, so that it is not while something is measured.
    if (::fsync(descriptor_) != 0) fail("sync " + path);
  }
  ~WarmFile() { ::close(descriptor_); }
  WarmFile(const WarmFile&) = delete;
  WarmFile& operator=(const WarmFile&) = delete;

  int descriptor() const { return descriptor_; }

  /// Out of the kernel's cache: the next read comes from the disk.
  void cool() const {
    if (::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED) != 0) fail("drop the cache of a file");
  }

 private:
  int descriptor_ = -1;
};

}  // namespace bench
