#include "tests/support/server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>

#include "tools/control_client.h"

namespace support {
namespace {

// Starts a command that says on a pipe that it is ready, and waits for that.
Process start_ready(Command command) {
  int ready[2];
  REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
  tools::UniqueFd reading(ready[0]);
  tools::UniqueFd writing(ready[1]);
  command.arguments.insert(command.arguments.end(), {"--ready-fd", std::to_string(ready[1])});
  command.descriptors.push_back(ready[1]);
  Process process(command);
  writing.reset();
  pollfd said{reading.get(), POLLIN, 0};
  char text[6] = {};
  const bool came =
      poll(&said, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) == 1 &&
      read(reading.get(), text, sizeof(text)) == sizeof(text);
  INFO(command.arguments.front() << ": " << process.errors());
  REQUIRE(came);
  return process;
}

}  // namespace

std::string server_path() { return TEST_VMSERVER; }
std::string shim_path() { return TEST_SHIM; }
std::string vmctl_path() { return TEST_VMCTL; }
std::string pager_path(const std::string& kind) {
  return std::string(TEST_PAGERS) + "/pager-" + kind;
}
std::string program_path(const std::string& name) {
  return std::string(TEST_PROGRAMS) + "/" + name;
}

ServerUnderTest::ServerUnderTest(ServerOptions options) : options_(std::move(options)) {
  adopt_orphans();
  start_server();
  for (const std::string& kind : options_.pagers) start_pager(kind);
}

ServerUnderTest::~ServerUnderTest() {
  if (server_) {
    const std::string log = server_.errors();
    const Outcome outcome = terminate();
    INFO("server: " << log);
    CHECK(outcome.status == 0);
    CHECK(outcome.signal == 0);
  }
  wait_for_pagers();
  INFO("left behind: " << stray_children().size() << " processes");
  CHECK(eventually([] { return stray_children().empty(); }, std::chrono::seconds(10)));
}

std::string ServerUnderTest::file(const std::string& name, const std::string& data) const {
  const std::string path = directory_ / name;
  write_file(path, data);
  REQUIRE(chmod(path.c_str(), 0666) == 0);
  return path;
}

void ServerUnderTest::start_server() {
  Command command;
  command.arguments = {server_path(), "--socket", socket(), "--log-level", "info"};
  command.arguments.insert(command.arguments.end(), options_.options.begin(),
                           options_.options.end());
  server_ = start_ready(command);
}

void ServerUnderTest::start_pager(const std::string& kind) {
  Command command;
  command.arguments = {pager_path(kind), "--server", socket()};
  if (kind == "device") {
    command.arguments.insert(command.arguments.end(), options_.device_options.begin(),
                             options_.device_options.end());
  }
  if (kind == "anon") {
    constexpr std::string_view kDirectory = "DIRECTORY";
    for (std::string option : options_.anon_options) {
      if (const auto at = option.find(kDirectory); at != std::string::npos)
        option.replace(at, kDirectory.size(), directory_ / "");
      command.arguments.push_back(option);
    }
  }
  pagers_[kind] = start_ready(command);
}

Outcome ServerUnderTest::terminate() {
  server_.signal(SIGTERM);
  Outcome outcome = server_.wait();
  CHECK_FALSE(std::filesystem::exists(socket()));
  CHECK_FALSE(std::filesystem::exists(rpc_socket()));
  wait_for_pagers();
  return outcome;
}

void ServerUnderTest::kill() {
  server_.kill();
  wait_for_pagers();
}

void ServerUnderTest::wait_for_pagers() {
  for (auto& [kind, pager] : pagers_) {
    if (!pager) continue;
    INFO("pager-" << kind);
    CHECK(pager.wait().status == 0);
  }
}

Statistics ServerUnderTest::statistics() const {
  const auto answer = tools::ControlClient(socket()).statistics();
  const auto counts = answer.getStatistics();
  Statistics result;
  result.faults = counts.getFaults();
  result.zero_fills = counts.getZeroFills();
  result.pageins = counts.getPageins();
  result.pageouts = counts.getPageouts();
  result.spaces = counts.getSpaces();
  result.objects = counts.getObjects();
  result.forks = counts.getForks();
  result.failed_faults = counts.getFailedFaults();
  result.pagers = counts.getPagers();
  result.sessions_rejected = counts.getSessionsRejected();
  for (const auto& call : counts.getCalls()) result.calls[call.getName().cStr()] = call.getCount();
  return result;
}

std::vector<std::string> ServerUnderTest::descriptors() const {
  std::vector<std::string> result;
  const std::string directory = "/proc/" + std::to_string(server_.pid()) + "/fd";
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::error_code gone;
    std::string target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (gone) continue;
    const bool numbered = target.starts_with("socket:") || target.starts_with("pipe:");
    result.push_back(numbered ? target.substr(0, target.find(':')) : target);
  }
  std::sort(result.begin(), result.end());
  return result;
}

Command ServerUnderTest::command(std::vector<std::string> arguments) const {
  Command command;
  if (!arguments.front().starts_with('/')) arguments.front() = program_path(arguments.front());
  command.arguments = std::move(arguments);
  command.environment.push_back("VMSHIM_SOCKET=" + socket());
  command.environment.push_back("LD_PRELOAD=" + shim_path());
  return command;
}

}  // namespace support
