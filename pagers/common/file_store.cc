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

namespace pager {

using hal::PageRange;

namespace {

constexpr std::uint64_t kPieceBytes = 1024 * 1024;
/// RWF_NOAPPEND of Linux 6.9: the offset counts although the file was opened with O_APPEND.
constexpr int kNoAppend = 0x20;

}  // namespace

// Through a description of our own: an error of the disk is told once to each, and the program's
// fsync() and ours must not take it from one another.
FileStore::FileStore(const ObjectInfo& info, const hal::SharedDescriptor& content,
                     PageCopier& copier)
    : subject_(text_of_inode(info.device, info.inode)), copier_(copier), bytes_(info.bytes) {
  if (!content) throw Failure(EBADF, "open " + subject_ + " without a descriptor");
  struct stat status;
  if (::fstat(content.get(), &status) != 0) throw Failure(errno, "fstat of " + subject_);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
    throw Failure(ENODEV, "open " + subject_ + ", neither a regular file nor a block device");
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
  const PageRange content(hal::PageIndex(0), hal::pages_for_bytes(content_bytes()));
  const PageRange with_data = pages.intersect(content);
  if (!with_data.empty()) copier_.copy(readable_.get(), with_data, memory, subject_);
  memory.fill_zero(PageRange::between(std::max(pages.first(), content.end()), pages.end()));
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
