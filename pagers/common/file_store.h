// FileStore: an object whose content is a regular file or a block device, reached through the
// descriptors that programs handed over.
#pragma once

#include <cstdint>
#include <string>

#include "pagers/common/page_copier.h"
#include "pagers/common/pager.h"

namespace pager {

class FileStore final : public PagedStore {
 public:
  /// `copier` is shared by the stores of one event loop. Throws Failure.
  FileStore(const ObjectInfo& info, const hal::SharedDescriptor& content, PageCopier& copier);

  /// Size of the content now, in bytes. Throws Failure.
  std::uint64_t content_bytes() const;

  void page_in(hal::PageRange pages, ObjectMemory& memory) override;
  void page_out(hal::PageRange pages, ObjectMemory& memory) override;
  std::optional<hal::FileStamp> stamp() const override;
  void sync() override;
  void resize(std::uint64_t bytes) override { bytes_ = bytes; }
  void grant(hal::SharedDescriptor content) override;

 private:
  void write_all(const char* data, std::uint64_t bytes, std::uint64_t offset);

  std::string subject_;  ///< "inode 8:1/1234"
  PageCopier& copier_;
  // The frame carries out one request of an object after the other, so these need no lock.
  hal::SharedDescriptor readable_;
  hal::SharedDescriptor writable_;
  bool writable_appends_ = false;  ///< opened with O_APPEND and not to be had without
  std::uint64_t bytes_;            ///< what the server last said
};

}  // namespace pager
