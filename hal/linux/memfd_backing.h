// MemfdBacking: the resident pages of one object, in a memfd.
//
// The pager writes pages into the memfd, programs map it, and the file itself says which pages are
// there. A page counts as resident when SEEK_DATA finds it. Space that fallocate() reserved does
// not count before somebody touched it, so pages are made zero by writing zeroes, which also keeps
// the kernel's fault-around working for them.
//
// An object costs this process one descriptor. Every other process gets a description of its own,
// because lseek() waits for a read() on the same description and a program's read() can wait for
// this server. The file has mode 0600: a program that was handed a read-only descriptor cannot open
// it again for writing through /proc unless it is the server's user.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "hal/backing.h"
#include "hal/host_file.h"

namespace hal {

class MemfdBacking final : public Backing {
 public:
  /// A new memfd of `pages` pages, none resident. `name` shows in /proc/PID/maps. Throws
  /// std::system_error (descriptors or memory used up).
  MemfdBacking(const std::string& name, std::uint64_t pages);

  /// Adopts a file that a pager owns and keeps resident, with the rights that `file` gives. Its size
  /// is what fstat() says, rounded down to pages. Throws std::system_error when `file` is no regular
  /// file that can be opened.
  explicit MemfdBacking(const SharedDescriptor& file);

  /// Throws std::system_error: no memory, or a file that is not ours to resize.
  void resize(std::uint64_t pages) override;
  std::uint64_t pages() const override { return pages_.load(std::memory_order_acquire); }

  /// Both look at [within] as far as the file goes. What they find may change meanwhile; the caller
  /// knows which pages nobody else works on.
  PageRange next_absent(PageRange within) const override;
  PageRange next_resident(PageRange within) const override;
  /// Counts allocated space, so pages that are only reserved are in the number too.
  std::uint64_t resident_pages() const override;

  /// Throws std::system_error.
  void discard(PageRange pages) override;
  /// The caller sees to it that nobody else fills these pages at the same time. Throws
  /// std::system_error (out of memory).
  void zero_fill(PageRange pages) override;
  void read(PageRange pages, std::byte* into) const override;
  void take(PageRange pages, std::byte* into) override;
  void put(std::uint64_t offset, std::span<const std::byte> bytes) override;
  void copy_to(PageRange pages, Backing& to, PageIndex at) const override;

  int descriptor() const override { return file_.get(); }
  SharedDescriptor reopen(bool writable) const override;

 private:
  PageRange clip(PageRange range) const;

  SharedDescriptor file_;  ///< never passed on
  bool writable_ = true;
  std::atomic<std::uint64_t> pages_ = 0;
};

class MemfdFactory final : public BackingFactory {
 public:
  /// Memfds get descriptor numbers below `descriptor_limit`; when those are used up, create() fails
  /// and what is left serves programs and pagers.
  explicit MemfdFactory(int descriptor_limit = std::numeric_limits<int>::max())
      : descriptor_limit_(descriptor_limit) {}
  std::shared_ptr<Backing> create(const std::string& name, std::uint64_t pages) override;

 private:
  const int descriptor_limit_;
};

}  // namespace hal
