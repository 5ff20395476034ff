#include "hal/linux/describe_file.h"

#include <cerrno>

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

namespace hal {
namespace {

constexpr std::size_t kProbeBytes = 4096;
constexpr long kPipeFs = 0x50495045;
// The minor of /dev/zero, whose major is 1 (Documentation/admin-guide/devices.txt).
constexpr std::uint64_t kZeroDevice = 5;

std::string path_of(int descriptor) {
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  char target[4096];
  const ssize_t length = readlink(link.c_str(), target, sizeof(target));
  return length > 0 ? std::string(target, static_cast<std::size_t>(length)) : std::string();
}

std::int64_t nanoseconds(const statx_timestamp& time) {
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

// How it begins. `fast`: what it is on has no disk to wait for.
void read_beginning(int descriptor, bool fast, FileAttributes& attributes) {
  const iovec all{attributes.beginning.data(), attributes.beginning.size()};
  const ssize_t got = preadv2(descriptor, &all, 1, 0, fast ? 0 : RWF_NOWAIT);
  if (got < static_cast<ssize_t>(all.iov_len)) attributes.beginning = {};
}

// Some regular files cannot be mapped (those of /proc and /sys among them); only the host knows.
int ask_host(int descriptor) {
  void* mapped = mmap(nullptr, kProbeBytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (mapped == MAP_FAILED) return errno;
  munmap(mapped, kProbeBytes);
  return 0;
}

}  // namespace

HostFile identify_file(const SharedDescriptor& descriptor) {
  HostFile file;
  const int flags = fcntl(descriptor.get(), F_GETFL);
  struct stat status {};
  if (flags >= 0 && (flags & O_PATH) == 0 && fstat(descriptor.get(), &status) == 0) {
    file.attributes.device = status.st_dev;
    file.attributes.inode = status.st_ino;
    file.attributes.writable = (flags & O_ACCMODE) != O_RDONLY;
  }
  return file;
}

HostFile describe_file(SharedDescriptor descriptor) {
  HostFile file;
  file.descriptor = descriptor;
  FileAttributes& attributes = file.attributes;
  const int fd = descriptor.get();

  const int flags = fcntl(fd, F_GETFL);
  struct statx status {};
  if (flags < 0 || (flags & O_PATH) != 0 ||
      statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status) != 0) {
    return file;
  }
  const int mode = flags & O_ACCMODE;
  attributes.readable = mode == O_RDONLY || mode == O_RDWR;
  attributes.writable = mode == O_WRONLY || mode == O_RDWR;
  attributes.device = makedev(status.stx_dev_major, status.stx_dev_minor);
  attributes.inode = status.stx_ino;
  attributes.bytes = status.stx_size;
  attributes.links = status.stx_nlink;
  attributes.raw_device = makedev(status.stx_rdev_major, status.stx_rdev_minor);
  attributes.modified_ns = nanoseconds(status.stx_mtime);
  attributes.changed_ns = nanoseconds(status.stx_ctime);
  attributes.immutable_or_append =
      (status.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
  attributes.path = path_of(fd);

  struct statfs file_system {};
  if (fstatfs(fd, &file_system) == 0) {
    attributes.kernel_object = attributes.path.starts_with("anon_inode:") ||
                               file_system.f_type == HUGETLBFS_MAGIC ||
                               file_system.f_type == SECRETMEM_MAGIC ||
                               file_system.f_type == DMA_BUF_MAGIC;
    attributes.no_execute = (static_cast<unsigned long>(file_system.f_flags) & ST_NOEXEC) != 0;
  }

  switch (status.stx_mode & S_IFMT) {
    case S_IFREG:
      attributes.kind = FileKind::regular;
      attributes.posix_shared_memory =
          file_system.f_type == TMPFS_MAGIC && attributes.path.starts_with("/dev/shm/");
      attributes.memfd = file_system.f_type == TMPFS_MAGIC && status.stx_nlink == 0 &&
                         attributes.path.starts_with("/memfd:");
      if (attributes.kernel_object) break;
      if (attributes.readable) {
        attributes.host_refusal = ask_host(fd);
        if (attributes.host_refusal == 0) {
          read_beginning(fd, file_system.f_type == TMPFS_MAGIC, attributes);
        }
      }
      if (attributes.writable && attributes.host_refusal == 0 && may_open_to_write(descriptor)) {
        if (auto own = opened_anew(descriptor, O_RDONLY)) file.descriptor = std::move(own);
      }
      break;
    case S_IFCHR:
      attributes.kind = status.stx_rdev_major == 1 && status.stx_rdev_minor == kZeroDevice
                            ? FileKind::anonymous_device
                            : FileKind::character_device;
      break;
    case S_IFBLK:
      attributes.kind = FileKind::block_device;
      break;
    case S_IFDIR:
      attributes.kind = FileKind::directory;
      break;
    case S_IFIFO:
      attributes.kind =
          file_system.f_type == kPipeFs ? FileKind::not_a_file : FileKind::fifo;
      break;
    default:
      break;
  }
  return file;
}

}  // namespace hal
