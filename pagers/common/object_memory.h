// ObjectMemory: the memfd that holds one object's pages, as a pager may use it.
//
// Programs map the same file and see a page from the moment it is in there, so every page is put
// there whole, by one write. The descriptor that came from the server has an offset that nobody
// else uses.
#pragma once

#include <cstdint>

#include "hal/address.h"
#include "hal/host_file.h"

namespace pager {

class ObjectMemory {
 public:
  ObjectMemory() = default;
  /// `file` may hold -1: a device has no memory here.
  explicit ObjectMemory(hal::SharedDescriptor file);

  int descriptor() const { return file_.get(); }

  /// The part of `pages` that lies inside the file; all of it without a file. Throws Failure.
  hal::PageRange clip(hal::PageRange pages) const;
  /// The first run of pages in `within` that are there; empty when none is. Without a file all are.
  hal::PageRange next_resident(hal::PageRange within) const;

  /// Puts zeroes there. Throws Failure.
  void fill_zero(hal::PageRange pages);
  /// Puts `pages.bytes()` bytes there. `data` should be locked in memory: the kernel may show the
  /// start of a page when it has to wait for the rest of the data. Throws Failure.
  void fill(hal::PageRange pages, const char* data);
  /// Reads `bytes` bytes from `offset` on. Throws Failure.
  void read(std::uint64_t offset, std::uint64_t bytes, char* data) const;

 private:
  hal::SharedDescriptor file_;
};

}  // namespace pager
