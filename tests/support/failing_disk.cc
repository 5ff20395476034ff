#include "tests/support/failing_disk.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tests/support/process.h"
#include "tools/unique_fd.h"

namespace support {
namespace {

constexpr std::size_t kImageBytes = std::size_t{16} << 20;
constexpr std::size_t kPage = 4096;

struct Extent {
  off_t start;
  off_t bytes;
};

/// Where the file lies on its device.
std::vector<Extent> extents_of(const std::string& path) {
  constexpr unsigned kMost = 64;
  const tools::UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(file.get() >= 0);
  std::vector<std::byte> memory(sizeof(fiemap) + kMost * sizeof(fiemap_extent));
  auto* const map = reinterpret_cast<fiemap*>(memory.data());
  map->fm_length = ~0ull;
  map->fm_flags = FIEMAP_FLAG_SYNC;
  map->fm_extent_count = kMost;
  REQUIRE(ioctl(file.get(), FS_IOC_FIEMAP, map) == 0);
  std::vector<Extent> extents;
  for (unsigned i = 0; i < map->fm_mapped_extents; ++i) {
    const fiemap_extent& extent = map->fm_extents[i];
    extents.push_back({static_cast<off_t>(extent.fe_physical), static_cast<off_t>(extent.fe_length)});
  }
  REQUIRE_FALSE(extents.empty());
  return extents;
}

}  // namespace

FailingDisk::FailingDisk() {
  REQUIRE(mkdir(memory().c_str(), 0755) == 0);
  REQUIRE(mkdir(disk().c_str(), 0755) == 0);
  REQUIRE(mount("memory", memory().c_str(), "tmpfs", 0, "size=24m") == 0);
  // All of the image is there, so that what the file system keeps for itself does not fail.
  write_file(memory() + "/image", std::string(kImageBytes, '\0'));
  device_ = std::make_unique<LoopDevice>(memory() + "/image");
  Command format;
  format.arguments = {"/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E",
                      "nodiscard,lazy_itable_init=0", device_->path()};
  REQUIRE(run(format).text() == "status 0");
  REQUIRE(mount(device_->path().c_str(), disk().c_str(), "ext4", 0, "") == 0);
}

FailingDisk::~FailingDisk() {
  unlink((memory() + "/filler").c_str());
  umount(disk().c_str());
  device_.reset();
  umount(memory().c_str());
}

void FailingDisk::fail(const std::string& path) {
  const std::vector<Extent> extents = extents_of(path);
  const tools::UniqueFd image(open((memory() + "/image").c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(image.get() >= 0);
  for (const Extent& extent : extents) {
    REQUIRE(fallocate(image.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, extent.start,
                      extent.bytes) == 0);
  }
  const tools::UniqueFd filler(
      open((memory() + "/filler").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(filler.get() >= 0);
  const std::vector<char> zeroes(kPage);
  while (write(filler.get(), zeroes.data(), zeroes.size()) > 0) continue;
  REQUIRE(errno == ENOSPC);
}

void FailingDisk::heal() { REQUIRE(unlink((memory() + "/filler").c_str()) == 0); }

unsigned FailingDisk::byte(const std::string& path, std::size_t offset) {
  const tools::UniqueFd file(open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  REQUIRE(file.get() >= 0);
  const std::unique_ptr<void, decltype(&std::free)> page(std::aligned_alloc(kPage, kPage),
                                                         &std::free);
  REQUIRE(pread(file.get(), page.get(), kPage, static_cast<off_t>(offset / kPage * kPage)) ==
          static_cast<ssize_t>(kPage));
  return static_cast<const unsigned char*>(page.get())[offset % kPage];
}

}  // namespace support
