#include "pagers/anon/swap_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "pagers/common/failure.h"
#include "tests/pagers/support.h"

using Catch::Matchers::Contains;
using pager::SwapFile;

namespace {

bool exists(const std::string& path) {
  struct stat status;
  return ::lstat(path.c_str(), &status) == 0;
}

}  // namespace

TEST_CASE("a swap file is its owner's alone and has no name") {
  const test::Directory directory;
  const std::string path = directory / "swap";
  SECTION("where there was none") {}
  SECTION("where there was one that others could read") {
    support::write_file(path, "old");
    REQUIRE(::chmod(path.c_str(), 0644) == 0);
  }
  const SwapFile file = SwapFile::open(path, 10000);
  CHECK_FALSE(exists(path));
  struct stat status;
  REQUIRE(::fstat(file.descriptor(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  CHECK(status.st_nlink == 0);
  CHECK(status.st_size == 0);
  CHECK(file.limit_sectors() == 16u);  // whole pages
  CHECK_FALSE(SwapFile::open(path, std::nullopt).limit_sectors());
}

TEST_CASE("who has a replaced file open, or knows it by another name, sees nothing of the swap") {
  const test::Directory directory;
  support::write_file(directory / "swap", "old");
  const hal::SharedDescriptor open(::open((directory / "swap").c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(::link((directory / "swap").c_str(), (directory / "other").c_str()) == 0);
  SwapFile file = SwapFile::open(directory / "swap", 8192);
  const std::string data(512, 'n');
  file.write({0, 1}, data.data());
  char byte = 0;
  REQUIRE(::pread(open.get(), &byte, 1, 0) == 1);
  CHECK(byte == 'o');
  CHECK(exists(directory / "other"));
}

TEST_CASE("what is no file of one's own is refused as swap and stays as it is") {
  const test::Directory directory;
  const std::string path = directory / "swap";
  const auto refusal = [&](std::optional<std::uint64_t> bytes = 8192) -> std::string {
    try {
      SwapFile::open(path, bytes);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  SECTION("a symbolic link") {
    support::write_file(directory / "target", "");
    REQUIRE(::symlink((directory / "target").c_str(), path.c_str()) == 0);
    CHECK_THAT(refusal(), Contains(path) && Contains("symbolic link"));
  }
  SECTION("a directory") {
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    CHECK_THAT(refusal(), Contains(path) && Contains("neither a regular file nor a block device"));
  }
  SECTION("a FIFO") {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    CHECK_THAT(refusal(), Contains(path) && Contains("neither a regular file nor a block device"));
  }
  SECTION("a file that somebody has locked") {
    support::write_file(path, "");
    const hal::SharedDescriptor other(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(::flock(other.get(), LOCK_EX | LOCK_NB) == 0);
    CHECK_THAT(refusal(), Contains(path) && Contains("in use"));
  }
  SECTION("a file with content of another user's") {
    if (::geteuid() != 0) return;
    support::write_file(path, "theirs");
    REQUIRE(::chown(path.c_str(), 12345, 12345) == 0);
    CHECK_THAT(refusal(), Contains(path) && Contains("another user"));
  }
  SECTION("in a size of less than a page") {
    support::write_file(path, "");
    CHECK_THAT(refusal(4095), Contains(path) && Contains("less than a page"));
  }
  CHECK(exists(path));
}

TEST_CASE("a block device is swap in its own size or less, for one pager at a time") {
  if (::geteuid() != 0) return;
  const test::Directory directory;
  support::write_file(directory / "image", std::string(64 * test::kPage + 512, 'i'));
  const support::LoopDevice device(directory / "image");
  {
    SwapFile file = SwapFile::open(device.path(), std::nullopt);
    CHECK(file.limit_sectors() == 64u * 8);
    const std::string data(8192, 'd');
    std::string back(8192, '\0');
    file.write({48, 16}, data.data());
    file.read({48, 16}, back.data());
    CHECK(back == data);
    CHECK_THROWS_WITH(SwapFile::open(device.path(), std::nullopt), Contains("is in use"));
  }
  CHECK(SwapFile::open(device.path(), 10 * test::kPage).limit_sectors() == 10u * 8);
  CHECK_THROWS_WITH(SwapFile::open(device.path(), 1 << 20), Contains("the device has only"));
  CHECK(exists(device.path()));
}

TEST_CASE("a swap file that cannot be made is named") {
  const test::Directory directory;
  CHECK_THROWS_WITH(SwapFile::open(directory / "no/swap", std::nullopt),
                    Contains(directory / "no/swap") && Contains("No such file"));
  CHECK_THROWS_WITH(SwapFile::in_directory(directory / "no"), Contains(directory / "no"));
}

TEST_CASE("a read that fails names the swap file") {
  const test::Directory directory;
  const SwapFile file = directory.swap(16);
  char sector[512];
  CHECK_THROWS_WITH(file.read({8, 1}, sector),
                    "read 512 bytes at 4 KiB of the swap file " + (directory / "swap") + ": EIO");
}
