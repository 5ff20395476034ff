#include <signal.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "support.h"

namespace {

bool is_one_line(const std::string& text) {
  return !text.empty() && text.back() == '\n' && std::count(text.begin(), text.end(), '\n') == 1;
}

}  // namespace

TEST_CASE("every pager explains its options") {
  for (const char* program : {PAGER_FILE, PAGER_ANON, PAGER_DEVICE}) {
    test::Child child({program, "--help"});
    CHECK(child.wait() == 0);
    CHECK(child.errors().empty());
    for (const char* option : {"--server=PATH", "--ready-fd=FD", "--log-level=LEVEL"})
      CHECK(child.output().find(option) != std::string::npos);
  }
  test::Child anonymous({PAGER_ANON, "--help"});
  anonymous.wait();
  CHECK(anonymous.output().find("--swap-dir=DIR") != std::string::npos);
  test::Child device({PAGER_DEVICE, "--help"});
  device.wait();
  CHECK(device.output().find("--framebuffer=NAME:WIDTHxHEIGHT") != std::string::npos);
}

TEST_CASE("bad options and paths are one line on stderr and status 2") {
  test::TemporaryDirectory directory;
  const std::string nowhere = directory / "s";
  const std::vector<std::vector<std::string>> commands = {
      {PAGER_FILE, "--no-such-option"},
      {PAGER_FILE, "argument"},
      {PAGER_FILE, "--server"},
      {PAGER_FILE, "--ready-fd=77"},
      {PAGER_FILE, "--ready-fd=x"},
      {PAGER_FILE, "--log-level=loud"},
      {PAGER_FILE, "--server", nowhere},
      {PAGER_FILE, "--server", directory / std::string(200, 'x')},
      {PAGER_ANON, "--server", nowhere, "--swap-dir", nowhere},
      {PAGER_DEVICE, "--framebuffer", "fb0"},
      {PAGER_DEVICE, "--framebuffer", "fb0:12"},
      {PAGER_DEVICE, "--framebuffer", "fb0:0x5"},
      {PAGER_DEVICE, "--framebuffer", "fb0:5x99999"},
      {PAGER_DEVICE, "--framebuffer", "fb0:5x5x5"},
      {PAGER_DEVICE, "--framebuffer", "a/b:5x5"},
      {PAGER_DEVICE, "--framebuffer", "..:5x5"},
      {PAGER_DEVICE, "--framebuffer", ":5x5"},
      {PAGER_DEVICE, "--framebuffer", "a:5x5", "--framebuffer", "a:5x5"},
      {PAGER_DEVICE, "--server", directory / "none/s", "--framebuffer", "a:5x5"},
  };
  for (const auto& command : commands) {
    test::Child child(command);
    CAPTURE(command);
    CHECK(child.wait() == 2);
    CAPTURE(child.errors());
    CHECK(is_one_line(child.errors()));
    CHECK(child.errors().rfind("pager-", 0) == 0);
  }
  test::Child child({PAGER_FILE, "--server", nowhere});
  child.wait();
  CHECK(child.errors() ==
        "pager-file: connect to " + nowhere + ".rpc: No such file or directory\n");
}

TEST_CASE("a pager ends with 0 at SIGTERM, at SIGINT and with its server") {
  auto server = std::make_unique<test::Server>();
  auto terminated = server->start_pager(PAGER_FILE);
  terminated->signal(SIGTERM);
  CHECK(terminated->wait() == 0);
  auto interrupted = server->start_pager(PAGER_ANON);
  interrupted->signal(SIGINT);
  CHECK(interrupted->wait() == 0);
  auto left = server->start_pager(PAGER_DEVICE, {"--framebuffer", "fb0:8x8"});
  server.reset();
  CHECK(left->wait() == 0);
  CHECK(left->errors().find("ended") != std::string::npos);
}
