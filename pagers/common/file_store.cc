#include "pagers/common/file_store.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "pagers/common/failure.h"
#include "pagers/common/page_copier.h"

namespace pager {

using hal::PageRange;

namespace {

constexpr std::uint64_t kPieceBytes = 1024 * 1024;
/// RWF_NOAPPEND of Linux 6.9: the offset counts although the file was opened with O_APPEND.
constexpr int kNoAppend = 0x20;
/// Larger page-ins are worth a thread of their own.
constexpr std::uint64_t kMostAtOnce = 64;

PageCopier& copier() {
  static thread_local PageCopier copier;
  return copier;
}

/// Whether the host has this page of a file in its cache. False, too, where it does not tell.
bool is_cached(int file, hal::PageIndex page) {
  char byte = 0;
  const iovec piece{&byte, 1};
  return ::preadv2(file, &piece, 1, static_cast<off_t>(page.byte_offset()), RWF_NOWAIT) >= 0;
}

/// The same of all pages, going by the first and the last: what is in between came with them.
bool are_cached(int file, PageRange pages) {
  return is_cached(file, pages.first()) && is_cached(file, pages.first() + (pages.count() - 1));
}

}  // namespace

// Through a description of our own: an error of the disk is told once to each, and the program's
// fsync() and ours must not take it from one another.
FileStore::FileStore(const ObjectInfo& info, const hal::SharedDescriptor& content)
    : subject_(text_of_inode(info.device, info.inode)),
      bytes_(info.bytes) {
  if (!content) throw Failure(EBADF, "open " + subject_ + " without a descriptor");
  struct stat status;
  if (::fstat(content.get(), &status) != 0) throw Failure(errno, "fstat of " + subject_);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
    throw Failure(ENODEV, "open " + subject_ + ", neither a regular file nor a block device");
  local_ = S_ISREG(status.st_mode) && hal::is_local(content.get());
  if ((mode_of(content) & O_ACCMODE) != O_WRONLY) {
    const hal::SharedDescriptor own = hal::opened_anew(content, O_RDONLY);
    readable_ = own ? own : content;
  }
  if (info.writable) grant(content);
}

int FileStore::mode_of(const hal::SharedDescriptor& content) const {
  const int flags = ::fcntl(content.get(), F_GETFL);
  if (flags < 0) throw Failure(errno, "look at a descriptor of " + subject_);
  if ((flags & O_PATH) != 0) throw Failure(EBADF, "use a descriptor of " + subject_);
  return flags & (O_ACCMODE | O_APPEND);
}

void FileStore::grant(hal::SharedDescriptor content) {
  const int mode = mode_of(content);
  if (hal::may_open_to_write(content)) {
    place_ = hal::opened_anew(content, O_PATH);
    if (!place_) throw Failure(errno, "open " + subject_ + " anew");
    writable_ = hal::SharedDescriptor();
  } else if ((mode & O_ACCMODE) != O_RDONLY) {
    writable_ = content;
    writable_appends_ = (mode & O_APPEND) != 0;
  } else {
    throw Failure(errno, "open " + subject_ + " for writing, which its program may");
  }
}

hal::SharedDescriptor FileStore::writer() const {
  if (writable_) return writable_;
  hal::SharedDescriptor file = hal::opened_anew(place_, O_WRONLY);
  if (!file) throw Failure(errno, "open " + subject_ + " for writing");
  return file;
}

std::uint64_t FileStore::content_bytes() const {
  const int fd = any();
  struct stat status;
  if (::fstat(fd, &status) != 0) throw Failure(errno, "fstat of " + subject_);
  if (!S_ISBLK(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  std::uint64_t bytes = 0;
  if (::ioctl(fd, BLKGETSIZE64, &bytes) != 0)
    throw Failure(errno, "ask for the size of " + subject_);
  return bytes;
}

void FileStore::page_in(PageRange pages, ObjectMemory& memory) {
  if (!readable_)
    throw Failure(EACCES, "read " + text_of_span(pages.bytes(), pages.byte_offset()) + " of " +
                              subject_ + " through a descriptor that may only write");
  const PageRange data = with_data(pages);
  // All of it is asked for before any of it is waited for: the host's own read-ahead is a sixteenth of
  // this, and takes the windows of one walk, which several threads may copy at once, for several.
  if (data.count() > kMostAtOnce && !are_cached(readable_.get(), data)) {
    ::posix_fadvise(readable_.get(), static_cast<off_t>(data.byte_offset()),
                    static_cast<off_t>(data.bytes()), POSIX_FADV_WILLNEED);
  }
  fill(pages, data, memory);
}

bool FileStore::page_in_at_once(PageRange pages, ObjectMemory& memory) {
  if (!readable_ || pages.count() > kMostAtOnce) return false;
  const PageRange data = with_data(pages);
  if (!data.empty() && !are_cached(readable_.get(), data)) return false;
  fill(pages, data, memory);
  return true;
}

void FileStore::fill(PageRange pages, PageRange data, ObjectMemory& memory) {
  if (!data.empty()) copier().copy(readable_.get(), data, memory, subject_);
  memory.fill_zero(PageRange::between(std::max(pages.first(), data.end()), pages.end()));
}

PageRange FileStore::with_data(PageRange pages) const {
  const PageRange content(hal::PageIndex(0), hal::pages_for_bytes(content_bytes()));
  return pages.intersect(content);
}

void FileStore::page_out(PageRange pages, ObjectMemory& memory) {
  if (!writable_ && !place_)
    throw Failure(EACCES, "write " + text_of_span(pages.bytes(), pages.byte_offset()) + " of " +
                              subject_ + " through a descriptor that may only read");
  const hal::SharedDescriptor file = writer();
  // A file that somebody cut short stays short, as it does under the kernel's own mappings.
  const std::uint64_t limit = std::min(bytes_, content_bytes());
  std::vector<char> data(std::min(pages.bytes(), kPieceBytes));
  for (PageRange rest = pages; !rest.empty();) {
    // A page that is not there has nothing to say about the content.
    const PageRange run = memory.next_resident(rest);
    if (run.empty()) break;
    rest = PageRange::between(run.end(), rest.end());
    const std::uint64_t end = std::min(run.end().byte_offset(), limit);
    for (std::uint64_t at = run.byte_offset(); at < end;) {
      const std::uint64_t piece = std::min(end - at, kPieceBytes);
      memory.read(at, piece, data.data());
      write_all(file.get(), data.data(), piece, at);
      at += piece;
    }
  }
}

void FileStore::write_all(int file, const char* data, std::uint64_t bytes, std::uint64_t offset) {
  while (bytes > 0) {
    const iovec piece{const_cast<char*>(data), bytes};
    const ssize_t written =
        writable_appends_
            ? ::pwritev2(file, &piece, 1, static_cast<off_t>(offset), kNoAppend)
            : ::pwrite(file, data, bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      throw Failure(written < 0 ? errno : EIO,
                    "write " + text_of_span(bytes, offset) + " of " + subject_);
    data += written;
    offset += static_cast<std::uint64_t>(written);
    bytes -= static_cast<std::uint64_t>(written);
  }
}

std::optional<hal::FileStamp> FileStore::stamp() const {
  return hal::stamp_of(any());
}

void FileStore::sync() {
  // Through one that was there before anything was written, so that no error has passed by unseen.
  const hal::SharedDescriptor file = readable_ ? readable_ : writer();
  if (::fsync(file.get()) == 0) return;
  if (errno == EROFS || errno == EINVAL) return;  // nothing there that could be made durable
  throw Failure(errno, "fsync of " + subject_);
}

}  // namespace pager
