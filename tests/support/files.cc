#include "tests/support/files.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/eventually.h"

namespace support {

TemporaryDirectory::TemporaryDirectory()
    : TemporaryDirectory(std::filesystem::temp_directory_path().string()) {}

TemporaryDirectory::TemporaryDirectory(const std::string& parent) {
  std::string path = parent + "/vm-test-XXXXXX";
  REQUIRE(mkdtemp(path.data()) != nullptr);
  REQUIRE(chmod(path.c_str(), 0755) == 0);
  path_ = path;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, const std::string& data) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << data;
  file.close();
  REQUIRE(file.good());
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream data;
  data << file.rdbuf();
  return data.str();
}

std::string pattern(std::size_t bytes) {
  std::string data(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<char>(pattern_byte(i));
  return data;
}

LoopDevice::LoopDevice(const std::string& path) {
  const int backing = open(path.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(backing >= 0);
  const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  REQUIRE(control >= 0);
  // Somebody else may take the number that was found free.
  const bool bound = eventually([&] {
    const int number = ioctl(control, LOOP_CTL_GET_FREE);
    if (number < 0) return false;
    path_ = "/dev/loop" + std::to_string(number);
    mknod(path_.c_str(), S_IFBLK | 0600, static_cast<dev_t>(7 << 8 | number));
    descriptor_ = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    if (descriptor_ >= 0 && ioctl(descriptor_, LOOP_SET_FD, backing) == 0) return true;
    if (descriptor_ >= 0) close(descriptor_);
    descriptor_ = -1;
    return false;
  });
  close(control);
  close(backing);
  REQUIRE(bound);
}

LoopDevice::~LoopDevice() {
  if (descriptor_ < 0) return;
  ioctl(descriptor_, LOOP_CLR_FD);
  close(descriptor_);
}

}  // namespace support
