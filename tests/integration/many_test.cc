// Many programs that come and go on one server: for how long and how many at once, MANY_SECONDS and
// MANY_PROGRAMS say.
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "tests/support/numbers.h"
#include "tests/support/server.h"

using support::eventually;
using support::pattern;
using support::Process;
using support::ServerUnderTest;
using Clock = std::chrono::steady_clock;

namespace {

constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

std::uint64_t resident_kib(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::strtoull(line.c_str() + 6, nullptr, 10);
  }
  return 0;
}

class Crowd {
 public:
  Crowd(ServerUnderTest& server, std::size_t programs) : server_(server), programs_(programs) {
    path_ = server.file("read", pattern(64 * kPage));
    written_ = server.file("written", pattern(64 * kPage));
  }

  /// Starts programs whenever one has ended, until then; waits for all of them.
  void run_until(Clock::time_point end) {
    while (Clock::now() < end) {
      eventually([&] {
        for (const Process& program : programs_) {
          if (!program || program.ended()) return true;
        }
        return false;
      });
      for (Process& program : programs_) {
        if (program && !program.ended()) continue;
        if (program) check_ended(program);
        program = start_one();
      }
    }
    for (Process& program : programs_) {
      if (program) check_ended(program);
    }
  }

  std::size_t served() const { return served_; }

 private:
  Process start_one() {
    switch (served_++ % 6) {
      case 0:
        return server_.start({"anonymous", "private_memory"});
      case 1:
        return server_.start({"fork_memory", "grandchildren"});
      case 2:
        return server_.start({"ends", "returns", written_});
      case 3:
        return server_.start({"threads", "concurrent", "5"});
      case 4:
        return server_.start({"file_mapping", "read_private", path_});
      default:
        return server_.start({"processes", "touching_child"});
    }
  }

  static void check_ended(Process& program) {
    const std::string result = program.wait().text();
    if (result != kOk) FAIL_CHECK(result);
  }

  ServerUnderTest& server_;
  std::vector<Process> programs_;
  std::string path_;
  std::string written_;
  std::size_t served_ = 0;
};

void await_empty(const ServerUnderTest& server) {
  REQUIRE(eventually([&] {
    const support::Statistics counts = server.statistics();
    return counts.spaces == 0 && counts.objects == 0;
  }));
}

}  // namespace

TEST_CASE("programs that come and go by the hundred leave the server as small as it was") {
  const std::chrono::seconds length(support::number_from("MANY_SECONDS", 20));
  const std::size_t programs = support::number_from("MANY_PROGRAMS", 50);
  ServerUnderTest server;
  Crowd crowd(server, programs);
  // The first crowds bring the server to its size.
  crowd.run_until(Clock::now() + length / 4);
  await_empty(server);
  const std::uint64_t memory = resident_kib(server.process().pid());
  const std::size_t descriptors = server.descriptors().size();
  crowd.run_until(Clock::now() + length);
  await_empty(server);
  CHECK(crowd.served() > 2 * programs);
  CHECK(eventually([&] { return server.descriptors().size() <= descriptors; },
                   std::chrono::seconds(1)));
  std::uint64_t after = 0;
  const auto as_small = [&] {
    after = resident_kib(server.process().pid());
    return after <= memory + memory / 10 + 1024;
  };
  CHECK(eventually(as_small, std::chrono::seconds(1)));
  INFO(crowd.served() << " programs; " << memory << " KiB, then " << after);
  CHECK(after <= memory + memory / 10 + 1024);
}
