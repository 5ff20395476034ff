// Mappings of regular files and of devices, through the real shim, server and pagers.
#include <png.h>
#include <signal.h>

#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

#include "tests/support/server.h"
#include "tools/unique_fd.h"

using support::pattern;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

std::string result_of(const std::string& one, std::size_t bytes = 64 * kPage) {
  ServerUnderTest server;
  return server.run({"file_mapping", one, server.file("f", pattern(bytes))}).text();
}

/// What `store_and_end` leaves in a file that held the pattern.
std::string inverted(std::size_t bytes) {
  std::string data = pattern(bytes);
  for (char& c : data) c = static_cast<char>(~c);
  return data;
}

struct Picture {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::vector<std::uint8_t> pixels;  // red, green, blue
};

Picture read_png(const std::string& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  INFO(path);
  REQUIRE(png_image_begin_read_from_file(&image, path.c_str()) != 0);
  image.format = PNG_FORMAT_RGB;
  Picture picture{image.width, image.height, {}};
  picture.pixels.resize(PNG_IMAGE_SIZE(image));
  REQUIRE(png_image_finish_read(&image, nullptr, picture.pixels.data(), 0, nullptr) != 0);
  return picture;
}

}  // namespace

TEST_CASE("a private mapping of a file that is only readable shows it") {
  CHECK(result_of("read_private") == kOk);
}

TEST_CASE("a shared mapping of a file that is only readable shows it and takes no store") {
  CHECK(result_of("read_shared") == kOk);
}

TEST_CASE("stores to a private mapping stay with it") { CHECK(result_of("write_private") == kOk); }

TEST_CASE("stores to a shared mapping are in the file after msync and after munmap") {
  CHECK(result_of("write_shared") == kOk);
  CHECK(result_of("write_shared", 2000 * kPage + 77) == kOk);
}

TEST_CASE("msync writes the range that it was asked for") {
  CHECK(result_of("part_synced") == kOk);
}

TEST_CASE("a mapping begins at its offset") { CHECK(result_of("offsets") == kOk); }

TEST_CASE("freebsd-7: an unaligned offset gives the address of that byte") {
  CHECK(result_of("unaligned_offset") == kOk);
}

TEST_CASE("the last page is zero behind the end of the file, and pages past it are SIGBUS") {
  CHECK(result_of("tail", 5 * kPage + 1000) == kOk);
}

TEST_CASE("a file that has grown is mapped to its new end") { CHECK(result_of("grown") == kOk); }

TEST_CASE("a file without a name is mapped like others") { CHECK(result_of("unlinked") == kOk); }

TEST_CASE("a file goes where MAP_FIXED says") { CHECK(result_of("fixed") == kOk); }

TEST_CASE("the descriptor's open mode decides what a mapping may do") {
  CHECK(result_of("rights") == kOk);
}

TEST_CASE("pipes, sockets, directories and closed descriptors are refused with the exact errno") {
  CHECK(result_of("other_descriptors") == kOk);
}

// write(2) sets a file's times when it begins, and its data comes later.
TEST_CASE("a file that is mapped while somebody writes to it shows what was written") {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  ServerUnderTest server;
  const std::string path = server.file("f", "");
  REQUIRE(truncate(path.c_str(), kBytes) == 0);
  const tools::UniqueFd file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(file.get() >= 0);
  for (char letter = 'a'; letter < 'f'; ++letter) {
    const std::string data(kBytes, letter);
    ssize_t written = 0;
    std::thread writer([&] { written = pwrite(file.get(), data.data(), kBytes, 0); });
    char first = 0;
    const bool begun = support::eventually(
        [&] { return pread(file.get(), &first, 1, 0) == 1 && first == letter; });
    const std::string outcome =
        server.run({"file_mapping", "ends_with", path, std::string(1, letter)}).text();
    writer.join();
    REQUIRE(begun);
    REQUIRE(written == static_cast<ssize_t>(kBytes));
    CHECK(outcome == kOk);
  }
}

TEST_CASE("a program that was written through a mapping can be executed as soon as that is gone") {
  CHECK(result_of("written_and_executed") == kOk);
}

TEST_CASE("a program that was mapped can be executed while the pager does nothing") {
  ServerUnderTest server;
  const std::string path = server.file("f", "");
  server.pager("file").freeze();
  CHECK(server.run({"file_mapping", "mapped_and_executed", path}).text() == kOk);
  server.pager("file").thaw();
}

TEST_CASE("a memfd and its mapping are one") { CHECK(result_of("memory_files") == kOk); }

TEST_CASE("what only the kernel can map is the host's: perf events, io_uring, secret memory") {
  CHECK(result_of("kernel_objects") == kOk);
}

TEST_CASE("what a program stored is in the file once it has ended by itself") {
  ServerUnderTest server;
  constexpr std::size_t kBytes = 300 * kPage + 123;
  for (const std::string how : {"return", "exit", "_exit", "exec"}) {
    INFO(how);
    const std::string path = server.file("f", pattern(kBytes));
    CHECK(server.run({"file_mapping", "store_and_end", path, how}).text() == kOk);
    // No waiting here: the parent's wait has returned.
    CHECK((support::read_file(path) == inverted(kBytes)));
  }
}

TEST_CASE("what a program stored is in the file some time after it was killed") {
  ServerUnderTest server;
  constexpr std::size_t kBytes = 300 * kPage + 123;
  for (const std::string how : {"abort", "kill"}) {
    const std::string path = server.file("f", pattern(kBytes));
    server.run({"file_mapping", "store_and_end", path, how});
    INFO(how);
    CHECK(support::eventually([&] { return support::read_file(path) == inverted(kBytes); }));
  }
}

TEST_CASE("a block device is mapped and written back") {
  ServerUnderTest server;
  const std::string path = server.file("disk", pattern(1 << 20));
  const support::LoopDevice device(path);
  CHECK(server.run({"device", "block", device.path()}).text() == kOk);
  CHECK(server.statistics().pageins >= 64);
}

TEST_CASE("a framebuffer that a program draws into is saved as a picture") {
  ServerUnderTest server({.device_options = {"--framebuffer", "fb0:64x48"}});
  const std::string device = server.socket() + ".fb/fb0";
  CHECK(server.run({"device", "framebuffer", device, "64", "48"}).text() == kOk);

  support::Command save;
  const std::string path = server.directory() / "x.png";
  save.arguments = {
      support::vmctl_path(), "--socket", server.socket(), "framebuffer", "fb0", "-o", path};
  CHECK(support::run(save).text() == kOk);
  const Picture picture = read_png(path);
  REQUIRE(picture.width == 64);
  REQUIRE(picture.height == 48);
  bool same = true;
  for (std::uint32_t y = 0; y < 48; ++y) {
    for (std::uint32_t x = 0; x < 64; ++x) {
      const std::uint8_t* pixel = &picture.pixels[(y * 64 + x) * 3];
      same = same && pixel[0] == x && pixel[1] == y && pixel[2] == x + y;
    }
  }
  CHECK(same);
}

TEST_CASE("a framebuffer shows to one program what another has drawn") {
  ServerUnderTest server({.device_options = {"--framebuffer", "fb0:64x48"}});
  const std::string device = server.socket() + ".fb/fb0";
  CHECK(server.run({"device", "framebuffer", device, "64", "48"}).text() == kOk);
  CHECK(server.run({"device", "framebuffer_shows", device, "64", "48"}).text() == kOk);
}

TEST_CASE("renames, links, holes, sparse and large files, mounts and memory files are as on the host") {
  const std::string kind = GENERATE("disk", "tmpfs", "overlay");
  INFO(kind);
  ServerUnderTest server;
  const support::TemporaryDirectory memory("/dev/shm");
  const auto run = [&](bool served) {
    const std::string name = served ? "served" : "native";
    const std::string path = (kind == "disk" ? server.directory() : memory) / name;
    REQUIRE(mkdir(path.c_str(), 0755) == 0);
    std::string where = path;
    if (kind == "overlay") {
      for (const char* part : {"/lower", "/upper", "/work", "/merged"}) {
        REQUIRE(mkdir((path + part).c_str(), 0755) == 0);
      }
      where = path + "/merged";
      const std::string parts =
          "lowerdir=" + path + "/lower,upperdir=" + path + "/upper,workdir=" + path + "/work";
      REQUIRE(mount("overlay", where.c_str(), "overlay", 0, parts.c_str()) == 0);
    }
    support::Command command = server.command({"kinds_of_files", where});
    if (!served) command.environment = support::plain_environment();
    const support::Outcome outcome = support::run(command);
    // The server lets go of the files of a program within a second of its end.
    if (kind == "overlay") {
      CHECK(support::eventually([&] { return umount(where.c_str()) == 0; }, std::chrono::seconds(1)));
    }
    CHECK(outcome.text() == "status 0");
    return outcome.output;
  };
  const std::string native = run(false);
  CHECK(native.size() > 400);
  CHECK(run(true) == native);
}
