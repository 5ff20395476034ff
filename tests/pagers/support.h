// What the tests of pagers' parts share: swap files, an object's memory, pages of each kind.
#pragma once

#include <string>

#include "pagers/anon/swap_file.h"
#include "pagers/common/object_memory.h"
#include "tests/support/files.h"
#include "tests/vm/test_random.h"

namespace test {

inline constexpr std::size_t kPage = hal::kPageSize;

/// A directory for swap files.
class Directory : public support::TemporaryDirectory {
 public:
  /// A swap file of so many pages in here.
  pager::SwapFile swap(std::uint64_t pages, const std::string& name = "swap") const;
};

/// The memory of one object. Without Catch, so that threads may use it.
class Memory {
 public:
  explicit Memory(std::uint64_t pages);
  pager::ObjectMemory& get() { return memory_; }
  /// Whole pages.
  void write(std::uint64_t page, const std::string& data);
  std::string read(std::uint64_t page, std::uint64_t count = 1) const;
  /// Makes pages absent.
  void drop(std::uint64_t page, std::uint64_t count);
  std::uint64_t pages() const { return pages_; }

 private:
  std::uint64_t pages_;
  pager::ObjectMemory memory_;
};

hal::PageRange range(std::uint64_t first, std::uint64_t count);
std::string zero_page();
/// Comes out at half a page or less, and at more than nothing.
std::string compressible_page(Random& random);
std::string random_page(Random& random);
/// One of the three.
std::string any_page(Random& random);
/// Of what a file takes on its file system.
std::uint64_t allocated_bytes(const pager::SwapFile& file);

}  // namespace test
