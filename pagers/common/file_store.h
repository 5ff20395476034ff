// FileStore: an object whose content is a regular file or a block device, reached through the
// descriptors that the server handed over.
#pragma once

#include <cstdint>
#include <string>

#include "pagers/common/pager.h"

namespace pager {

class FileStore final : public PagedStore {
 public:
  /// Throws Failure.
  FileStore(const ObjectInfo& info, const hal::SharedDescriptor& content);

  /// Size of the content now, in bytes. Throws Failure.
  std::uint64_t content_bytes() const;

  void page_in(hal::PageRange pages, ObjectMemory& memory) override;
  /// False where the host has not all of it in its cache, or it is much.
  bool page_in_at_once(hal::PageRange pages, ObjectMemory& memory) override;
  bool waits_for_disk_only() const override { return local_; }
  void page_out(hal::PageRange pages, ObjectMemory& memory) override;
  std::optional<hal::FileStamp> stamp() const override;
  void sync() override;
  void resize(std::uint64_t bytes) override { bytes_ = bytes; }
  void grant(hal::SharedDescriptor content) override;

 private:
  /// How the descriptor was opened: the access mode and O_APPEND. Throws Failure.
  int mode_of(const hal::SharedDescriptor& content) const;
  /// What to write through, for one page-out. Throws Failure.
  hal::SharedDescriptor writer() const;
  /// Some descriptor of the file, to ask what it is like.
  int any() const {
    return readable_ ? readable_.get() : place_ ? place_.get() : writable_.get();
  }
  /// Those of `pages` that the content has now. Throws Failure.
  hal::PageRange with_data(hal::PageRange pages) const;
  /// Fills `data` from the file, and what of `pages` is behind it with zeroes.
  void fill(hal::PageRange pages, hal::PageRange data, ObjectMemory& memory);
  void write_all(int file, const char* data, std::uint64_t bytes, std::uint64_t offset);

  std::string subject_;  ///< "inode 8:1/1234"
  bool local_ = false;
  // What changes these has the store to itself.
  hal::SharedDescriptor readable_;  ///< may only read, or is the program's own
  /// The file, to be opened for writing whenever there is something to write: nobody can execute a
  /// file that somebody has open for that, and a mapping may outlive all of its descriptors.
  hal::SharedDescriptor place_;
  hal::SharedDescriptor writable_;  ///< the program's own, where the file cannot be opened again
  bool writable_appends_ = false;   ///< and that appends
  std::uint64_t bytes_;            ///< what the server last said
};

}  // namespace pager
