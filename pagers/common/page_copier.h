// PageCopier: brings pages of a file into an object's memory, each page in one step.
//
// The pages go from the page cache through a pipe into the memory (splice), without passing through
// this process. Where the file system cannot do that, they are read into a buffer that is locked in
// memory and written from there.
//
// Not for several threads at once.
#pragma once

#include <cstdint>
#include <string>

#include "hal/address.h"
#include "pagers/common/object_memory.h"

namespace pager {

class PageCopier {
 public:
  PageCopier() = default;
  ~PageCopier();
  PageCopier(const PageCopier&) = delete;
  PageCopier& operator=(const PageCopier&) = delete;

  /// Fills `pages` of `memory` with what `file` has at the same offset; zeroes past its end.
  /// `subject` names the file in failures. Throws Failure.
  void copy(int file, hal::PageRange pages, ObjectMemory& memory, const std::string& subject);

 private:
  enum class Result { done, refused };

  Result splice_pages(int file, hal::PageRange pages, ObjectMemory& memory,
                      const std::string& subject, hal::PageIndex& copied);
  void read_pages(int file, hal::PageRange pages, ObjectMemory& memory, const std::string& subject);
  bool open_pipe();
  void close_pipe();
  char* buffer();

  int pipe_[2] = {-1, -1};
  std::uint64_t pipe_bytes_ = 0;
  char* buffer_ = nullptr;
};

}  // namespace pager
