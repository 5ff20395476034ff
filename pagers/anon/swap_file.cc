#include "pagers/anon/swap_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "pagers/common/failure.h"

namespace pager {
namespace {

[[noreturn]] void fail(const std::string& tried) {
  throw std::system_error(errno, std::generic_category(), tried);
}

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw std::runtime_error("swap " + path + ": " + why);
}

/// For file systems without O_TMPFILE: a file that loses its name at once.
int open_and_unlink(const std::string& directory) {
  std::string path = directory + "/vmserver-swap-XXXXXX";
  const int fd = ::mkostemp(path.data(), O_CLOEXEC);  // mode 0600
  if (fd >= 0) ::unlink(path.c_str());
  return fd;
}

/// -1 with EEXIST when something has that name. A file that was there before would not do: somebody
/// may have it open already, or reach it by another name.
int create(const std::string& path) {
  return ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

/// What is there already, locked.
hal::SharedDescriptor open_existing(const std::string& path) {
  // O_EXCL means something for block devices only: nobody has it mounted, as swap, or open so.
  // O_NONBLOCK and O_NOCTTY: what it is comes out only afterwards.
  const int fd =
      ::open(path.c_str(), O_RDWR | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 && errno == ELOOP) refuse(path, "is a symbolic link");
  if (fd < 0 && errno == EBUSY) refuse(path, "is in use");
  if (fd < 0 && (errno == EISDIR || errno == ENXIO || errno == ENODEV))
    refuse(path, "is neither a regular file nor a block device");
  if (fd < 0) fail("swap " + path + ": open");
  const hal::SharedDescriptor file(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) refuse(path, "is in use: somebody has locked it");
    fail("swap " + path + ": lock");
  }
  return file;
}

}  // namespace

SwapFile::SwapFile(hal::SharedDescriptor file, std::string name,
                   std::optional<std::uint64_t> limit_bytes, bool punches)
    : file_(std::move(file)), name_(std::move(name)), punches_(punches) {
  if (limit_bytes) limit_sectors_ = (*limit_bytes >> hal::kPageShift) * kPageSectors;
}

SwapFile SwapFile::in_directory(const std::string& directory) {
  int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) fd = open_and_unlink(directory);
  if (fd < 0) fail("create a swap file in " + directory);
  return SwapFile(hal::SharedDescriptor(fd), "in " + directory, std::nullopt, true);
}

SwapFile SwapFile::of_device(const hal::SharedDescriptor& device, const std::string& path,
                             std::optional<std::uint64_t> bytes) {
  std::uint64_t device_bytes = 0;
  if (::ioctl(device.get(), BLKGETSIZE64, &device_bytes) != 0)
    fail("swap " + path + ": ask for the device's size");
  if (device_bytes < hal::kPageSize) refuse(path, "the device is smaller than a page");
  if (bytes && *bytes > device_bytes)
    refuse(path, "the device has only " + text_of_bytes(device_bytes));
  return SwapFile(device, path, bytes.value_or(device_bytes), false);
}

SwapFile SwapFile::keep(const std::string& path, std::optional<std::uint64_t> bytes) {
  if (bytes && *bytes < hal::kPageSize) refuse(path, "the size is less than a page");
  hal::SharedDescriptor file;
  if (const int fd = create(path); fd >= 0) {
    file = hal::SharedDescriptor(fd);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) refuse(path, "is in use: somebody has locked it");
  } else if (errno == EEXIST) {
    file = open_existing(path);
  } else {
    fail("swap " + path + ": create");
  }
  struct stat status;
  if (::fstat(file.get(), &status) != 0) fail("swap " + path + ": fstat");
  if (S_ISBLK(status.st_mode)) return of_device(file, path, bytes);
  if (!S_ISREG(status.st_mode)) refuse(path, "is neither a regular file nor a block device");
  if (status.st_uid != ::geteuid()) refuse(path, "belongs to another user");
  if ((status.st_mode & 077) != 0 && ::fchmod(file.get(), 0600) != 0)
    fail("swap " + path + ": make it mode 0600");
  SwapFile kept(file, path, bytes, true);
  kept.bytes_found_ = static_cast<std::uint64_t>(status.st_size);
  return kept;
}

SwapFile SwapFile::open(const std::string& path, std::optional<std::uint64_t> bytes) {
  if (bytes && *bytes < hal::kPageSize) refuse(path, "the size is less than a page");
  int fd = create(path);
  if (fd < 0 && errno == EEXIST) {
    const hal::SharedDescriptor found = open_existing(path);
    struct stat status;
    if (::fstat(found.get(), &status) != 0) fail("swap " + path + ": fstat");
    if (S_ISBLK(status.st_mode)) return of_device(found, path, bytes);
    if (!S_ISREG(status.st_mode)) refuse(path, "is neither a regular file nor a block device");
    if (status.st_size > 0 && status.st_uid != ::geteuid())
      refuse(path, "has content and belongs to another user");
    if (::unlink(path.c_str()) != 0) fail("swap " + path + ": remove what was there");
    fd = create(path);
  }
  if (fd < 0) fail("swap " + path + ": create");
  SwapFile file(hal::SharedDescriptor(fd), path, bytes, true);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) refuse(path, "is in use: somebody has locked it");
  if (::unlink(path.c_str()) != 0) fail("swap " + path + ": take its name away");
  return file;
}

void SwapFile::write(SectorRun run, const char* data) {
  write_bytes(bytes_from_sectors(run.first), bytes_from_sectors(run.count), data);
}

void SwapFile::write_bytes(std::uint64_t offset, std::uint64_t bytes, const char* data) {
  while (bytes > 0) {
    const ssize_t written = ::pwrite(file_.get(), data, bytes, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      throw Failure(written < 0 ? errno : ENOSPC,
                    "write " + text_of_span(bytes, offset) + " of the swap file " + name_);
    data += written;
    offset += static_cast<std::uint64_t>(written);
    bytes -= static_cast<std::uint64_t>(written);
  }
}

void SwapFile::read(SectorRun run, char* data) const {
  std::uint64_t offset = bytes_from_sectors(run.first);
  std::uint64_t bytes = bytes_from_sectors(run.count);
  while (bytes > 0) {
    const ssize_t got = ::pread(file_.get(), data, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw Failure(got < 0 ? errno : EIO,
                    "read " + text_of_span(bytes, offset) + " of the swap file " + name_);
    data += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
}

bool SwapFile::read_cached(SectorRun run, char* data) const {
  const iovec all{data, bytes_from_sectors(run.count)};
  ssize_t got = 0;
  do {
    got = ::preadv2(file_.get(), &all, 1, static_cast<off_t>(bytes_from_sectors(run.first)),
                    RWF_NOWAIT);
  } while (got < 0 && errno == EINTR);
  // Where a file system cannot say, nor is there a disk behind it as a rule (tmpfs).
  if (got < 0 && errno == EOPNOTSUPP) {
    read(run, data);
    return true;
  }
  return got == static_cast<ssize_t>(all.iov_len);
}

void SwapFile::punch(SectorRun run) {
  ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              static_cast<off_t>(bytes_from_sectors(run.first)),
              static_cast<off_t>(bytes_from_sectors(run.count)));
}

}  // namespace pager
