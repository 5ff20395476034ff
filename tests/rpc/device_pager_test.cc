#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#include "protocol/descriptor.h"
#include "support.h"
#include "tool_client.h"

using hal::PageIndex;
using hal::PageRange;
using vm::Error;
using vm::PagerKind;

namespace {

constexpr std::size_t kPage = hal::kPageSize;

std::string first_line_of(const std::string& command) {
  FILE* const pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  char line[256] = "";
  const bool read = std::fgets(line, sizeof line, pipe) != nullptr;
  const int status = ::pclose(pipe);
  if (!read || status != 0) return "";
  std::string text(line);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

TEST_CASE(
    "a framebuffer is a file to open, memory of the pager's to map, and gone with the pager") {
  test::Server server;
  auto pager =
      server.start_pager(PAGER_DEVICE, {"--framebuffer", "fb0:320x200", "--framebuffer=small:3x5"});
  const std::string path = server.socket() + ".fb/fb0";
  struct stat status;
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0666);
  CHECK(status.st_size == 320 * 4 * 200);
  REQUIRE(::stat((server.socket() + ".fb").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0755);

  const hal::HostFile file = test::host_file(path, O_RDWR);
  CHECK(server.service().pagers().claims(file.attributes));
  auto opened = server.open(PagerKind::device, path, O_RDWR);
  REQUIRE(opened);
  test::Object& object = opened.value();
  REQUIRE(object.answer.own_memory);
  CHECK(object.answer.bytes == 320 * 4 * 200);
  CHECK(object.memory->pages() == hal::pages_for_bytes(320 * 4 * 200));
  CHECK(object.memory->next_absent(PageRange(PageIndex(0), object.memory->pages())).empty());
  CHECK(object.sync() == Error::none);
  object.write(4096, "pixels");

  // A tool gets the same memory, to look at.
  {
    test::ToolClient tool(server.rpc_socket());
    auto request = tool.control().framebufferRequest();
    request.setName("fb0");
    auto answer = tool.wait(request.send());
    REQUIRE(answer.getFound());
    const auto framebuffer = answer.getFramebuffer();
    CHECK(framebuffer.getWidth() == 320);
    CHECK(framebuffer.getHeight() == 200);
    CHECK(framebuffer.getStride() == 320 * 4);
    const kj::AutoCloseFd memory = tool.wait(protocol::take_descriptor(framebuffer.getMemory()));
    char pixels[7] = "";
    REQUIRE(::pread(memory, pixels, 6, 4096) == 6);
    CHECK(std::string(pixels) == "pixels");
    CHECK(::pwrite(memory, pixels, 6, 0) == -1);

    auto other = tool.control().framebufferRequest();
    other.setName("fb1");
    CHECK_FALSE(tool.wait(other.send()).getFound());
  }

  pager->signal(SIGTERM);
  CHECK(pager->wait() == 0);
  CHECK(::stat(path.c_str(), &status) != 0);
  CHECK(::stat((server.socket() + ".fb").c_str(), &status) != 0);
  server.await_pagers(0);
  CHECK_FALSE(server.service().pagers().claims(file.attributes));
  // The memory outlives the pager.
  CHECK(object.read(4096, 6) == "pixels");
  CHECK(object.sync() == Error::none);
}

TEST_CASE("a killed device pager's framebuffer file is taken over by the next one") {
  test::Server server;
  auto first = server.start_pager(PAGER_DEVICE, {"--framebuffer", "fb0:32x32"});
  first->kill();
  server.await_pagers(0);
  const auto second = server.start_pager(PAGER_DEVICE, {"--framebuffer", "fb0:64x32"});
  const std::string path = server.socket() + ".fb/fb0";
  auto opened = server.open(PagerKind::device, path, O_RDWR);
  REQUIRE(opened);
  CHECK(opened.value().answer.bytes == 64 * 4 * 32);
}

TEST_CASE("two device pagers do not share a framebuffer directory") {
  test::Server server;
  const auto first = server.start_pager(PAGER_DEVICE, {"--framebuffer", "fb0:32x32"});
  test::Child second({PAGER_DEVICE, "--server", server.socket(), "--framebuffer", "fb1:32x32"});
  CHECK(second.wait() == 2);
  CHECK(second.errors().find("served by another pager") != std::string::npos);
}

TEST_CASE("a device needs a pager that is there now") {
  test::Server server;
  auto none = server.open(PagerKind::device, "/dev/zero", O_RDWR);
  REQUIRE_FALSE(none);
  CHECK(none.error() == Error::no_device);
  auto file = server.open(PagerKind::file, "/dev/zero", O_RDWR);
  REQUIRE_FALSE(file);
  CHECK(file.error() == Error::no_device);
}

TEST_CASE("a character device is mapped by the host where its driver allows it") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_DEVICE);
  auto zero = server.open(PagerKind::device, "/dev/zero", O_RDWR);
  REQUIRE(zero);
  CHECK(zero.value().answer.host_memory);
  auto null = server.open(PagerKind::device, "/dev/null", O_RDWR);
  REQUIRE_FALSE(null);
  CHECK(null.error() == Error::no_device);
}

TEST_CASE("a block device is paged in, written back and as large as it says") {
  test::Server server;
  const std::string image = server.directory() / "image";
  const std::string data = test::pattern(1024 * 1024);
  test::write_file(image, data);
  const std::string device = first_line_of("losetup -f --show " + image + " 2>/dev/null");
  if (device.empty()) {
    WARN("no loop device to be had here: block devices are not tested");
    return;
  }
  {
    const auto pager = server.start_pager(PAGER_DEVICE);
    auto opened = server.open(PagerKind::device, device, O_RDWR);
    REQUIRE(opened);
    test::Object& object = opened.value();
    CHECK(object.answer.bytes == data.size());
    CHECK_FALSE(object.answer.own_memory);
    object.memory->resize(hal::pages_for_bytes(data.size()));
    REQUIRE(object.page_in(0, 256) == Error::none);
    const bool same = object.read(0, data.size()) == data;
    CHECK(same);
    const std::string stored = test::pattern(3 * kPage, 2);
    object.write(17 * kPage, stored);
    REQUIRE(object.page_out(17, 3) == Error::none);
    REQUIRE(object.sync() == Error::none);
    CHECK(test::read_file(image).substr(17 * kPage, 3 * kPage) == stored);
  }
  CHECK(std::system(("losetup -d " + device).c_str()) == 0);
}
