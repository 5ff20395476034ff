// Served memory as others see it: in core files, in a debugger, in /proc/PID/maps.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/server.h"

using support::Command;
using support::Outcome;
using support::Process;
using support::ServerUnderTest;

namespace {

constexpr char kCorePattern[] = "/proc/sys/kernel/core_pattern";
constexpr std::uint64_t kMostCoreBytes = std::uint64_t{256} << 20;
constexpr std::chrono::seconds kLongest{5};
const std::string kOk = "status 0";

/// Where core files go, for as long as it lives.
class CorePattern {
 public:
  explicit CorePattern(const std::string& pattern) : old_(support::read_file(kCorePattern)) {
    REQUIRE_FALSE(old_.empty());
    set(pattern);
    REQUIRE(support::read_file(kCorePattern) == pattern + "\n");
  }
  ~CorePattern() { set(old_); }

 private:
  static void set(const std::string& pattern) { std::ofstream(kCorePattern) << pattern; }
  const std::string old_;
};

Outcome gdb(std::vector<std::string> arguments) {
  Command command;
  command.arguments = {"/usr/bin/gdb", "-q", "-nx", "-batch"};
  command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
  return support::run(command);
}

/// A program that waits, and where it has memory.
struct Waiting {
  explicit Waiting(const ServerUnderTest& server) {
    Command command = server.command({"dump", "waits"});
    command.asks = true;
    program = Process(command);
    program.await_output("end");
    std::istringstream words(program.output());
    std::string word;
    words >> word >> present >> word >> absent;
  }
  Process program;
  std::string present;
  std::string absent;
};

}  // namespace

TEST_CASE("a core file holds what was in served memory, is small, and is written quickly") {
  ServerUnderTest server;
  const CorePattern pattern(server.directory() / "core");
  Command command = server.command({"dump", "aborts"});
  command.limits = {{RLIMIT_CORE, RLIM_INFINITY}};
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = support::run(command);
  CHECK(std::chrono::steady_clock::now() - start < kLongest);
  CHECK(outcome.signal == SIGABRT);
  std::string core;
  for (const auto& entry : std::filesystem::directory_iterator(server.directory().path())) {
    if (entry.path().filename().string().starts_with("core")) core = entry.path();
  }
  REQUIRE_FALSE(core.empty());
  CHECK(std::filesystem::file_size(core) < kMostCoreBytes);
  const std::string data = support::read_file(core);
  CHECK(data.find("the word in private memory") != std::string::npos);
  CHECK(data.find("the word in shared memory") != std::string::npos);
  const Outcome seen = gdb({"-ex", "x/s region+5*4096", support::program_path("dump"), core});
  INFO(seen.output << seen.errors);
  CHECK(seen.output.find("the word in private memory") != std::string::npos);
}

TEST_CASE("a debugger that attaches reads and writes what is there") {
  ServerUnderTest server;
  Waiting waiting(server);
  const Outcome seen =
      gdb({"-p", std::to_string(waiting.program.pid()), "-ex", "x/s " + waiting.present, "-ex",
           "set *(char*)" + waiting.present + " = 'T'"});
  INFO(seen.output << seen.errors);
  CHECK(seen.output.find("the word in private memory") != std::string::npos);
  waiting.program.say("x");
  CHECK(waiting.program.wait().text() == kOk);
}

// The kernel does not wait for a userfaultfd on a debugger's behalf.
TEST_CASE("a debugger is refused what nothing has touched, and the program goes on") {
  ServerUnderTest server;
  Waiting waiting(server);
  const Outcome seen =
      gdb({"-p", std::to_string(waiting.program.pid()), "-ex",
           "set *(char*)" + waiting.present + " = 'T'", "-ex", "x/2wx " + waiting.absent});
  INFO(seen.output << seen.errors);
  CHECK(seen.errors.find("Cannot access memory") != std::string::npos);
  waiting.program.say("x");
  CHECK(waiting.program.wait().text() == kOk);
}

TEST_CASE("/proc/self/maps shows what is mapped where mmap said, with its rights") {
  ServerUnderTest server;
  CHECK(server.run({"dump", "in_proc_maps"}).text() == kOk);
}

TEST_CASE("/proc/self/maps shows nothing where memory was unmapped") {
  ServerUnderTest server;
  CHECK(server.run({"dump", "unmapped_in_proc_maps"}).text() == kOk);
}
