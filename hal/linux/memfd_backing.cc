#include "hal/linux/memfd_backing.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>
#include <utility>
#include <vector>

#include "hal/linux/resident_pages.h"

namespace hal {
namespace {

/// MFD_EXEC of Linux 6.3, not yet in every libc: mappings of the file may be executable, whatever
/// vm.memfd_noexec says about files that do not ask.
constexpr unsigned kMemfdExecutable = 0x10;

constexpr std::uint64_t kMostPages =
    pages_for_bytes(std::numeric_limits<off_t>::max()) - 1;  // what off_t can address

constexpr std::uint64_t kZeroBytes = 64 * 1024;
const char kZeroes[kZeroBytes] = {};

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

std::string text(PageRange range) {
  return std::to_string(range.count()) + " pages at page " + std::to_string(range.first().value());
}

SharedDescriptor open_again(int file, int access) {
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  const int fd = ::open(path.c_str(), access | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail(errno, "open of an object's memory through " + path);
  return SharedDescriptor(fd);
}

off_t offset_of(PageIndex page) { return static_cast<off_t>(page.byte_offset()); }

}  // namespace

MemfdBacking::MemfdBacking(const std::string& name, std::uint64_t pages) {
  const int fd = ::memfd_create(name.c_str(), MFD_CLOEXEC | kMemfdExecutable);
  if (fd < 0) fail(errno, "memfd_create for " + name);
  file_ = SharedDescriptor(fd);
  if (::fchmod(fd, 0600) != 0) fail(errno, "fchmod of the memfd of " + name);
  resize(pages);
}

MemfdBacking::MemfdBacking(const SharedDescriptor& file) {
  const int flags = ::fcntl(file.get(), F_GETFL);
  if (flags < 0) fail(errno, "look at a pager's memory");
  writable_ = (flags & O_ACCMODE) == O_RDWR;
  file_ = open_again(file.get(), writable_ ? O_RDWR : O_RDONLY);
  struct stat status;
  if (::fstat(file_.get(), &status) != 0) fail(errno, "fstat of a pager's memory");
  if (!S_ISREG(status.st_mode)) fail(EINVAL, "use of a pager's memory that is no regular file");
  pages_ = static_cast<std::uint64_t>(status.st_size) >> kPageShift;
}

SharedDescriptor MemfdBacking::reopen(bool writable) const {
  return open_again(file_.get(), writable && writable_ ? O_RDWR : O_RDONLY);
}

void MemfdBacking::resize(std::uint64_t pages) {
  if (pages > kMostPages) fail(EFBIG, "resize of an object to " + std::to_string(pages) + " pages");
  if (::ftruncate(file_.get(), static_cast<off_t>(bytes_from_pages(pages))) != 0)
    fail(errno, "resize of an object's memory to " + std::to_string(pages) + " pages");
  pages_.store(pages, std::memory_order_release);
}

PageRange MemfdBacking::clip(PageRange range) const {
  const PageIndex end(std::min(range.end().value(), pages()));
  return PageRange::between(std::min(range.first(), end), end);
}

PageRange MemfdBacking::next_absent(PageRange within) const {
  return first_run(file_.get(), clip(within), Presence::absent);
}

PageRange MemfdBacking::next_resident(PageRange within) const {
  return first_run(file_.get(), clip(within), Presence::resident);
}

std::uint64_t MemfdBacking::resident_pages() const {
  struct stat status;
  if (::fstat(file_.get(), &status) != 0) fail(errno, "fstat of an object's memory");
  constexpr std::uint64_t kBlocksPerPage = kPageSize / 512;  // st_blocks counts 512 bytes
  return static_cast<std::uint64_t>(status.st_blocks) / kBlocksPerPage;
}

void MemfdBacking::discard(PageRange pages) {
  pages = clip(pages);
  if (pages.empty()) return;
  if (::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_of(pages.first()),
                  static_cast<off_t>(pages.bytes())) != 0)
    fail(errno, "drop of " + text(pages) + " of an object's memory");
}

void MemfdBacking::zero_fill(PageRange pages) {
  pages = clip(pages);
  while (!pages.empty()) {
    const PageRange absent = next_absent(pages);
    if (absent.empty()) return;
    std::uint64_t at = absent.byte_offset();
    const std::uint64_t end = absent.end().byte_offset();
    while (at < end) {
      const ssize_t written =
          ::pwrite(file_.get(), kZeroes, std::min(kZeroBytes, end - at), static_cast<off_t>(at));
      if (written <= 0) {
        if (written < 0 && errno == EINTR) continue;
        fail(written < 0 ? errno : ENOSPC, "fill with zeroes of " + text(absent));
      }
      at += static_cast<std::uint64_t>(written);
    }
    pages = PageRange::between(absent.end(), pages.end());
  }
}

void MemfdBacking::read(PageRange pages, std::byte* into) const {
  for (std::uint64_t done = 0; done < pages.bytes();) {
    const ssize_t got = ::pread(file_.get(), into + done, pages.bytes() - done,
                                static_cast<off_t>(pages.byte_offset() + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail(got < 0 ? errno : ENXIO, "read of " + text(pages) + " of an object's memory");
    done += static_cast<std::uint64_t>(got);
  }
}

// A pipe takes references to the pages, not copies of them. Once they are out of the file nobody can
// store to them any more, and then the pipe tells what they hold.
void MemfdBacking::take(PageRange pages, std::byte* into) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail(errno, "pipe for " + text(pages));
  const SharedDescriptor out(ends[0]);
  const SharedDescriptor in(ends[1]);
  while (!pages.empty()) {
    constexpr std::uint64_t kPipePages = 16;  // what every pipe holds
    PageRange piece(pages.first(), std::min(pages.count(), kPipePages));
    loff_t from = static_cast<loff_t>(piece.byte_offset());
    const ssize_t held = ::splice(file_.get(), &from, in.get(), nullptr, piece.bytes(), 0);
    if (held < 0 && errno == EINTR) continue;
    if (held < static_cast<ssize_t>(kPageSize) || held % static_cast<ssize_t>(kPageSize) != 0)
      fail(held < 0 ? errno : ENXIO, "take of " + text(piece) + " of an object's memory");
    piece = PageRange(piece.first(), static_cast<std::uint64_t>(held) >> kPageShift);
    discard(piece);
    for (std::uint64_t done = 0; done < piece.bytes();) {
      const ssize_t got = ::read(out.get(), into + done, piece.bytes() - done);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) fail(got < 0 ? errno : EIO, "read of " + text(piece) + " that were taken");
      done += static_cast<std::uint64_t>(got);
    }
    into += piece.bytes();
    pages = PageRange::between(piece.end(), pages.end());
  }
}

void MemfdBacking::put(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      fail(written < 0 ? errno : ENOSPC,
           "write to an object's memory at byte " + std::to_string(offset));
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void MemfdBacking::copy_to(PageRange pages, Backing& to, PageIndex at) const {
  constexpr std::uint64_t kCopyBytes = 256 << 10;
  std::vector<std::byte> buffer(kCopyBytes);
  PageRange rest = clip(pages);
  for (PageRange run = next_resident(rest); !run.empty(); run = next_resident(rest)) {
    std::uint64_t from = run.byte_offset();
    std::uint64_t into = (at + (run.first() - pages.first())).byte_offset();
    while (from < run.end().byte_offset()) {
      const std::uint64_t bytes = std::min(kCopyBytes, run.end().byte_offset() - from);
      const ssize_t got = ::pread(file_.get(), buffer.data(), bytes, static_cast<off_t>(from));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;  // cut off meanwhile: nothing is left to copy there
      const ssize_t put =
          ::pwrite(to.descriptor(), buffer.data(), static_cast<std::size_t>(got),
                   static_cast<off_t>(into));
      if (put < 0 && errno == EINTR) continue;
      if (put <= 0) fail(put < 0 ? errno : ENOSPC, "copy of " + text(run) + " of an object's memory");
      from += static_cast<std::uint64_t>(put);
      into += static_cast<std::uint64_t>(put);
    }
    rest = PageRange::between(run.end(), rest.end());
  }
}

std::shared_ptr<Backing> MemfdFactory::create(const std::string& name, std::uint64_t pages) {
  auto backing = std::make_shared<MemfdBacking>(name, pages);
  if (backing->descriptor() >= descriptor_limit_) {
    fail(ENFILE, "memory for " + name + ": " + std::to_string(descriptor_limit_) +
                     " descriptors are in use");
  }
  return backing;
}

}  // namespace hal
