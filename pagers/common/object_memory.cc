#include "pagers/common/object_memory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "hal/linux/resident_pages.h"
#include "pagers/common/failure.h"

namespace pager {

using hal::PageIndex;
using hal::PageRange;

namespace {

constexpr std::uint64_t kZeroBytes = 64 * 1024;
const char kZeroes[kZeroBytes] = {};

void write_all(int fd, const char* data, std::uint64_t bytes, std::uint64_t offset) {
  while (bytes > 0) {
    const ssize_t written = ::pwrite(fd, data, bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      throw Failure(written < 0 ? errno : ENOSPC,
                    "fill " + text_of_span(bytes, offset) + " of an object's memory");
    data += written;
    offset += static_cast<std::uint64_t>(written);
    bytes -= static_cast<std::uint64_t>(written);
  }
}

}  // namespace

ObjectMemory::ObjectMemory(hal::SharedDescriptor file) : file_(std::move(file)) {}

PageRange ObjectMemory::clip(PageRange pages) const {
  if (!file_) return pages;
  struct stat status;
  if (::fstat(file_.get(), &status) != 0) throw Failure(errno, "fstat of an object's memory");
  const PageIndex end(static_cast<std::uint64_t>(status.st_size) >> hal::kPageShift);
  return PageRange::between(std::min(pages.first(), end), std::min(pages.end(), end));
}

PageRange ObjectMemory::next_resident(PageRange within) const {
  if (within.empty() || !file_) return within;
  try {
    return hal::first_run(file_.get(), within, hal::Presence::resident);
  } catch (const std::system_error& error) {
    throw Failure(error.code().value(), "look for pages in an object's memory");
  }
}

void ObjectMemory::fill_zero(PageRange pages) {
  std::uint64_t offset = pages.byte_offset();
  const std::uint64_t end = pages.end().byte_offset();
  for (; offset < end; offset += std::min(kZeroBytes, end - offset))
    write_all(file_.get(), kZeroes, std::min(kZeroBytes, end - offset), offset);
}

void ObjectMemory::fill(PageRange pages, const char* data) {
  write_all(file_.get(), data, pages.bytes(), pages.byte_offset());
}

void ObjectMemory::read(std::uint64_t offset, std::uint64_t bytes, char* data) const {
  while (bytes > 0) {
    const ssize_t got = ::pread(file_.get(), data, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw Failure(got < 0 ? errno : ENODATA,
                    "read " + text_of_span(bytes, offset) + " of an object's memory");
    data += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
}

}  // namespace pager
