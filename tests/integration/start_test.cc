// How the server starts, ends, and answers bad options.
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>

#include "tests/support/server.h"

using support::Command;
using support::Outcome;
using support::pattern;
using support::Process;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

bool is_one_line(const std::string& text) {
  return !text.empty() && text.back() == '\n' && std::count(text.begin(), text.end(), '\n') == 1;
}

Outcome run_server(std::vector<std::string> options) {
  Command command;
  command.arguments = {support::server_path()};
  command.arguments.insert(command.arguments.end(), options.begin(), options.end());
  return support::run(command);
}

void check_refused(const Outcome& outcome) {
  INFO(outcome.text());
  CHECK(outcome.status == 2);
  CHECK(is_one_line(outcome.errors));
  CHECK(outcome.errors.starts_with("vmserver: "));
}

void leave_stale_socket(const std::string& path, int type) {
  const tools::UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof(address.sun_path));
  std::memcpy(address.sun_path, path.c_str(), path.size());
  REQUIRE(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
}

}  // namespace

TEST_CASE("a second server on a live socket says so and ends with 2") {
  ServerUnderTest server;
  check_refused(run_server({"--socket", server.socket()}));
  CHECK(server.run({"anonymous", "private_memory"}).text() == kOk);
}

TEST_CASE("a socket that a dead server left is replaced") {
  ServerUnderTest server;
  server.kill();
  CHECK(std::filesystem::exists(server.socket()));
  server.start_server();
  for (const std::string kind : {"anon", "file"}) server.start_pager(kind);
  CHECK(server.run({"anonymous", "shared_memory"}).text() == kOk);
}

TEST_CASE("something else at the socket's path is left alone") {
  const support::TemporaryDirectory directory;
  const std::string path = directory / "file";
  support::write_file(path, "mine");
  check_refused(run_server({"--socket", path}));
  CHECK(support::read_file(path) == "mine");
}

TEST_CASE("SIGTERM and SIGINT write what was stored and remove both sockets") {
  for (const int signal : {SIGTERM, SIGINT}) {
    ServerUnderTest server;
    const std::string path = server.file("f", pattern(64 * kPage));
    Process program = server.start({"ends", "waits", path});
    program.await_output("waiting");
    CHECK(support::read_file(path)[0] == static_cast<char>(support::pattern_byte(0)));
    server.process().signal(signal);
    const Outcome outcome = server.process().wait();
    INFO(outcome.errors);
    CHECK(outcome.status == 0);
    CHECK(support::read_file(path)[0] == '\xee');
    CHECK_FALSE(std::filesystem::exists(server.socket()));
    CHECK_FALSE(std::filesystem::exists(server.rpc_socket()));
    CHECK(program.wait().status == 126);
  }
}

TEST_CASE("bad options are one line and 2") {
  for (const std::vector<std::string>& options :
       std::vector<std::vector<std::string>>{{"--no-such-option"},
                                             {"--socket"},
                                             {"--memory", "lots"},
                                             {"--memory", "0"},
                                             {"--personality", "freebsd-1"},
                                             {"--log-level", "loud"},
                                             {"--socket-mode", "rw"},
                                             {"--socket-mode", "7777"},
                                             {"--ready-fd", "x"},
                                             {"stray"}}) {
    INFO(options.front());
    check_refused(run_server(options));
  }
}

TEST_CASE("a path that cannot be used is one line and 2") {
  const support::TemporaryDirectory directory;
  check_refused(run_server({"--socket", directory / "none/s"}));
  check_refused(run_server({"--socket", directory.path()}));
  check_refused(run_server({"--socket", ""}));
  check_refused(run_server({"--socket", "/" + std::string(200, 'x')}));
}

TEST_CASE("a server that may not open /dev/userfaultfd says so in one line") {
  const support::TemporaryDirectory directory;
  REQUIRE(chmod(directory.path().c_str(), 0777) == 0);
  Command command;
  command.arguments = {support::server_path(), "--socket", directory / "s"};
  command.user = 65534;
  const Outcome outcome = support::run(command);
  check_refused(outcome);
  CHECK(outcome.errors.find("/dev/userfaultfd") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(directory / "s"));
}

TEST_CASE("--help mentions every option") {
  const Outcome outcome = run_server({"--help"});
  CHECK(outcome.status == 0);
  CHECK(outcome.errors.empty());
  for (const std::string option : {"--socket", "--socket-mode", "--memory", "--personality",
                                   "--log-level", "--ready-fd", "--help", "--version"}) {
    INFO(option);
    CHECK(outcome.output.find(option) != std::string::npos);
  }
}

TEST_CASE("the sockets have the modes that were asked for") {
  ServerUnderTest closed;
  ServerUnderTest open({.options = {"--socket-mode", "0666"}});
  const auto mode = [](const std::string& path) {
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    return status.st_mode & 0777;
  };
  CHECK(mode(closed.socket()) == 0600);
  CHECK(mode(closed.rpc_socket()) == 0600);
  CHECK(mode(open.socket()) == 0666);
  CHECK(mode(open.rpc_socket()) == 0600);
}

TEST_CASE("a stale RPC socket is replaced, too") {
  ServerUnderTest server({.pagers = {}});
  server.terminate();
  leave_stale_socket(server.rpc_socket(), SOCK_STREAM);
  leave_stale_socket(server.socket(), SOCK_SEQPACKET);
  server.start_server();
  server.start_pager("anon");
  CHECK(server.run({"anonymous", "shared_memory"}).text() == kOk);
}

TEST_CASE("a pager without a server is one line and 2") {
  const support::TemporaryDirectory directory;
  for (const std::string kind : {"anon", "file", "device"}) {
    Command command;
    command.arguments = {support::pager_path(kind), "--server", directory / "none"};
    const Outcome outcome = support::run(command);
    INFO(outcome.text());
    CHECK(outcome.status == 2);
    CHECK(is_one_line(outcome.errors));
  }
}
