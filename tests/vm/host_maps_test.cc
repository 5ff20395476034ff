#include <catch2/catch.hpp>

#include <cstdio>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "hal/linux/host_maps.h"

using hal::parse_maps_line;
using hal::Protection;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

// A file with this text, gone when the test ends.
class TextFile {
 public:
  explicit TextFile(const std::string& text) : file_(std::tmpfile()) {
    REQUIRE(file_ != nullptr);
    REQUIRE(std::fwrite(text.data(), 1, text.size(), file_) == text.size());
    REQUIRE(std::fflush(file_) == 0);
  }
  ~TextFile() { std::fclose(file_); }
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;
  int descriptor() const { return ::fileno(file_); }

 private:
  std::FILE* file_;
};

const VirtualRange kAll(VirtualAddress(0), VirtualAddress(~std::uint64_t{0}));

}  // namespace

TEST_CASE("a line of /proc/PID/maps with a path", "[host_maps]") {
  const auto mapping = parse_maps_line(
      "7f1c8a000000-7f1c8a021000 r-xp 00002000 08:01 1234567                    /usr/lib/a b.so");
  REQUIRE(mapping);
  CHECK(mapping->range ==
        VirtualRange(VirtualAddress(0x7f1c8a000000), VirtualAddress(0x7f1c8a021000)));
  CHECK(mapping->protection == (Protection::read() | Protection::execute()));
  CHECK_FALSE(mapping->shared);
  CHECK(mapping->offset == 0x2000);
  CHECK(mapping->device == 0x801);
  CHECK(mapping->inode == 1234567);
  CHECK(mapping->path == "/usr/lib/a b.so");
}

TEST_CASE("a line of anonymous memory has no path", "[host_maps]") {
  for (const char* line : {"00400000-00401000 rw-p 00000000 00:00 0",
                           "00400000-00401000 rw-p 00000000 00:00 0 "}) {
    const auto mapping = parse_maps_line(line);
    REQUIRE(mapping);
    CHECK(mapping->path.empty());
    CHECK(mapping->inode == 0);
    CHECK(mapping->protection == (Protection::read() | Protection::write()));
  }
}

TEST_CASE("a shared line and one without any right", "[host_maps]") {
  CHECK(parse_maps_line("1000-2000 rw-s 00000000 00:05 9 /dev/zero (deleted)")->shared);
  CHECK(parse_maps_line("1000-2000 ---p 00000000 00:00 0")->protection == Protection::none());
}

TEST_CASE("what is no line of maps is refused", "[host_maps]") {
  for (const char* line :
       {"", "garbage", "1000", "1000-", "1000-2000", "1000-2000 ", "1000-2000 rw",
        "1000-2000 rw-p", "1000-2000 rw-pX00000000 00:00 0", "1000-2000 rw-p 0000zz 00:00 0",
        "1000-2000 rw-p 00000000 0000 0", "1000-2000 rw-p 00000000 00:00 x",
        "1000 2000 rw-p 00000000 00:00 0", "1000-1ffffffffffffffff0 rw-p 00000000 00:00 0"}) {
    CAPTURE(line);
    CHECK_FALSE(parse_maps_line(line));
  }
}

TEST_CASE("only mappings that overlap the range are read, across block borders", "[host_maps]") {
  std::string text;
  constexpr std::uint64_t kLines = 1000;  // some 60 KiB: several reads
  for (std::uint64_t i = 0; i < kLines; ++i) {
    char line[128];
    std::snprintf(line, sizeof(line), "%08lx-%08lx r--p 00000000 00:00 %-30lu /x%lu\n",
                  static_cast<unsigned long>(0x100000 + i * 0x2000),
                  static_cast<unsigned long>(0x101000 + i * 0x2000),
                  static_cast<unsigned long>(i), static_cast<unsigned long>(i));
    text += line;
  }
  const TextFile file(text);
  const auto all = hal::read_host_mappings(file.descriptor(), kAll);
  REQUIRE(all.size() == kLines);
  for (std::uint64_t i = 0; i < kLines; ++i) CHECK(all[i].inode == i);

  const VirtualRange some(VirtualAddress(0x100000 + 500 * 0x2000 + 0x800),
                          VirtualAddress(0x100000 + 502 * 0x2000 + 1));
  const auto part = hal::read_host_mappings(file.descriptor(), some);
  REQUIRE(part.size() == 3);
  CHECK(part.front().inode == 500);
  CHECK(part.back().inode == 502);
}

TEST_CASE("this process's own maps hold its stack, and the offset is left alone", "[host_maps]") {
  const int descriptor = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  REQUIRE(descriptor >= 0);
  const int local = 0;
  const VirtualAddress here(reinterpret_cast<std::uint64_t>(&local));
  for (int i = 0; i < 2; ++i) {
    const auto found = hal::read_host_mappings(descriptor, VirtualRange(here, here + 1));
    REQUIRE(found.size() == 1);
    CHECK(found[0].protection.writable());
  }
  ::close(descriptor);
}

TEST_CASE("maps that cannot be read throw", "[host_maps]") {
  CHECK_THROWS_AS(hal::read_host_mappings(-1, kAll), std::system_error);
}
