#include "hal/host_file.h"

#include <cerrno>
#include <ctime>
#include <limits>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace hal {

SharedDescriptor::SharedDescriptor(int fd)
    : fd_(new int(fd), [](const int* held) {
        if (*held >= 0) ::close(*held);
        delete held;
      }) {}

bool FileStamp::settled(std::int64_t now_ns) const {
  // Most file systems take the time of the last timer tick, at least 100 of which make a second.
  // Some know whole seconds only, or two of them (FAT).
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::int64_t tick = changed_ns % kSecond == 0 ? 2 * kSecond : kSecond / 50;
  return now_ns - changed_ns > tick || changed_ns - now_ns > tick;
}

std::optional<FileStamp> stamp_of(int descriptor) {
  struct stat status {};
  if (descriptor < 0 || fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) return {};
  const auto nanoseconds = [](const timespec& time) {
    return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
  };
  return FileStamp{nanoseconds(status.st_mtim), nanoseconds(status.st_ctim),
                   static_cast<std::uint64_t>(status.st_size)};
}

namespace {

// Tells a kernel that has multigrain timestamps by what it does: changes that come faster than the
// clock ticks all show.
bool kernel_has_multigrain_timestamps() {
  constexpr int kChanges = 8;
  const SharedDescriptor file(memfd_create("timestamps", MFD_CLOEXEC));
  std::optional<FileStamp> last = stamp_of(file.get());
  for (int i = 0; i < kChanges && last; ++i) {
    if (pwrite(file.get(), "x", 1, 0) != 1) return false;
    const std::optional<FileStamp> next = stamp_of(file.get());
    if (!next || next->changed_ns == last->changed_ns) return false;
    last = next;
  }
  return last.has_value();
}

}  // namespace

bool stamps_are_exact(int descriptor) {
  static const bool kernel = kernel_has_multigrain_timestamps();
  struct statfs status {};
  if (!kernel || fstatfs(descriptor, &status) != 0) return false;
  switch (status.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
      return true;
    default:
      return false;
  }
}

bool await_writes(int descriptor) {
  struct statfs status {};
  if (fstatfs(descriptor, &status) != 0 ||
      (status.f_type != EXT4_SUPER_MAGIC && status.f_type != TMPFS_MAGIC)) {
    return false;
  }
  // These hold the inode's lock while they write, and take it to look for data (ext4_llseek(),
  // shmem_file_llseek()). Behind the end there is none, so that the position stays, which may be a
  // program's.
  return lseek(descriptor, std::numeric_limits<off_t>::max(), SEEK_DATA) < 0 && errno == ENXIO;
}

bool is_local(int descriptor) {
  struct statfs status {};
  if (fstatfs(descriptor, &status) != 0) return false;
  switch (status.f_type) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    // Of what is local, in all but name: what containers' files are on.
    case OVERLAYFS_SUPER_MAGIC:
      return true;
    default:
      return false;
  }
}

std::int64_t realtime_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

SharedDescriptor opened_anew(const SharedDescriptor& file, int flags) {
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  return SharedDescriptor(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK));
}

bool may_open_to_write(const SharedDescriptor& file) {
  return ::faccessat(file.get(), "", W_OK, AT_EMPTY_PATH | AT_EACCESS) == 0;
}

std::uint64_t HostFile::current_bytes() const {
  struct stat status {};
  if (!descriptor || fstat(descriptor.get(), &status) != 0) return attributes.bytes;
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace hal
