#include "pagers/common/page_copier.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "pagers/common/failure.h"

namespace pager {

using hal::PageIndex;
using hal::PageRange;

namespace {

constexpr std::uint64_t kBufferBytes = 256 * 1024;
constexpr int kWantedPipeBytes = 1024 * 1024;

}  // namespace

PageCopier::~PageCopier() {
  close_pipe();
  if (buffer_ != nullptr) ::munmap(buffer_, kBufferBytes);
}

void PageCopier::copy(int file, PageRange pages, ObjectMemory& memory, const std::string& subject) {
  PageIndex copied = pages.first();
  if (splice_pages(file, pages, memory, subject, copied) == Result::refused)
    read_pages(file, PageRange::between(copied, pages.end()), memory, subject);
}

PageCopier::Result PageCopier::splice_pages(int file, PageRange pages, ObjectMemory& memory,
                                            const std::string& subject, PageIndex& copied) {
  if (!open_pipe()) return Result::refused;
  while (copied < pages.end()) {
    off_t from = static_cast<off_t>(copied.byte_offset());
    const std::uint64_t wanted =
        std::min(PageRange::between(copied, pages.end()).bytes(), pipe_bytes_);
    std::uint64_t held = 0;
    bool at_end = false;
    while (held < wanted) {
      const ssize_t got = ::splice(file, &from, pipe_[1], nullptr, wanted - held,
                                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno != EAGAIN && errno != EINVAL) {
        const int error = errno;
        close_pipe();
        throw Failure(error,
                      "read " + text_of_span(wanted, copied.byte_offset()) + " of " + subject);
      }
      if (got < 0) break;  // the pipe is full of small pieces, or the file cannot be spliced
      if (got == 0) {
        at_end = true;
        break;
      }
      held += static_cast<std::uint64_t>(got);
      // Whole pages can go on; part of a page must wait for the rest of it.
      if (held % hal::kPageSize == 0) break;
    }
    if (held == 0 && at_end) {
      memory.fill_zero(PageRange::between(copied, pages.end()));
      copied = pages.end();
      break;
    }
    if (held == 0 || (held % hal::kPageSize != 0 && !at_end)) {
      close_pipe();
      return Result::refused;
    }
    // The kernel zeroes what is left of the last page before it shows it.
    off_t to = static_cast<off_t>(copied.byte_offset());
    const PageIndex next = copied + hal::pages_for_bytes(held);
    while (held > 0) {
      const ssize_t put =
          ::splice(pipe_[0], nullptr, memory.descriptor(), &to, held, SPLICE_F_MOVE);
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) {
        const int error = put < 0 ? errno : EIO;
        close_pipe();
        throw Failure(error, "fill an object's memory with " +
                                 text_of_span(held, static_cast<std::uint64_t>(to)) + " of " +
                                 subject);
      }
      held -= static_cast<std::uint64_t>(put);
    }
    copied = next;
  }
  return Result::done;
}

void PageCopier::read_pages(int file, PageRange pages, ObjectMemory& memory,
                            const std::string& subject) {
  char* const data = buffer();
  while (!pages.empty()) {
    const PageRange piece(pages.first(), std::min(pages.count(), kBufferBytes >> hal::kPageShift));
    std::uint64_t held = 0;
    while (held < piece.bytes()) {
      const ssize_t got = ::pread(file, data + held, piece.bytes() - held,
                                  static_cast<off_t>(piece.byte_offset() + held));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0)
        throw Failure(
            errno, "read " + text_of_span(piece.bytes(), piece.byte_offset()) + " of " + subject);
      if (got == 0) break;
      held += static_cast<std::uint64_t>(got);
    }
    const PageRange with_data(piece.first(), hal::pages_for_bytes(held));
    std::memset(data + held, 0, with_data.bytes() - held);
    memory.fill(with_data, data);
    pages = PageRange::between(with_data.end(), pages.end());
    if (with_data != piece) break;
  }
  memory.fill_zero(pages);
}

bool PageCopier::open_pipe() {
  if (pipe_[0] >= 0) return true;
  if (::pipe2(pipe_, O_CLOEXEC) != 0) {
    pipe_[0] = pipe_[1] = -1;
    return false;
  }
  // The larger one may be more than this user is allowed; the default does as well.
  ::fcntl(pipe_[1], F_SETPIPE_SZ, kWantedPipeBytes);
  const int bytes = ::fcntl(pipe_[1], F_GETPIPE_SZ);
  pipe_bytes_ = bytes < static_cast<int>(hal::kPageSize)
                    ? hal::kPageSize
                    : static_cast<std::uint64_t>(bytes) & ~(hal::kPageSize - 1);
  return true;
}

void PageCopier::close_pipe() {
  for (int& end : pipe_) {
    if (end >= 0) ::close(end);
    end = -1;
  }
}

char* PageCopier::buffer() {
  if (buffer_ == nullptr) {
    void* const address = ::mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (address == MAP_FAILED)
      throw Failure(errno, "map a buffer of " + text_of_bytes(kBufferBytes));
    buffer_ = static_cast<char*>(address);
    // Without the right to lock, a page could be swapped out just while the kernel copies from it.
    ::mlock(buffer_, kBufferBytes);
  }
  return buffer_;
}

}  // namespace pager
