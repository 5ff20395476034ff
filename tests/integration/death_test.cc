// What is left when a program, a pager or the server itself dies.
#include <signal.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/support/server.h"

using support::Command;
using support::eventually;
using support::Outcome;
using support::pattern;
using support::Process;
using support::ServerUnderTest;
using support::Statistics;

namespace {

using Descriptors = std::vector<std::string>;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kFileBytes = 64 * kPage;
constexpr std::chrono::seconds kASecond{1};
const std::string kOk = "status 0";

bool is_one_line(const std::string& text) {
  return !text.empty() && text.back() == '\n' && std::count(text.begin(), text.end(), '\n') == 1;
}

/// Waits until the server holds no more than `before` and nothing of any program. The second
/// wait is for the statistics' own connections.
void check_nothing_left(const ServerUnderTest& server, const Descriptors& before,
                        std::chrono::milliseconds within = kASecond) {
  const bool empty = eventually(
      [&] {
        const Statistics counts = server.statistics();
        return counts.spaces == 0 && counts.objects == 0;
      },
      within);
  const Statistics counts = server.statistics();
  INFO("spaces " << counts.spaces << ", objects " << counts.objects);
  CHECK(empty);
  eventually([&] { return server.descriptors() == before; }, kASecond);
  CHECK(server.descriptors() == before);
}

/// What the server has open once it has served some programs and they have gone: each of
/// its fault threads opens a few with the first program that falls to it.
Descriptors settled_descriptors(ServerUnderTest& server) {
  const std::string path = server.file("warm", pattern(kFileBytes));
  for (int i = 0; i < 8; ++i) CHECK(server.run({"ends", "returns", path}).text() == kOk);
  REQUIRE(eventually([&] {
    const Statistics counts = server.statistics();
    return counts.spaces == 0 && counts.objects == 0;
  }));
  Descriptors least = server.descriptors();
  eventually(
      [&] {
        Descriptors now = server.descriptors();
        if (now.size() < least.size()) least = std::move(now);
        return false;
      },
      std::chrono::milliseconds(300));
  return least;
}

/// Starts a program that goes on until the server is gone.
Process start_victim(const ServerUnderTest& server, const std::string& how,
                     const std::string& path) {
  Process victim = server.start({"ends", how, path});
  victim.await_output("running");
  return victim;
}

void check_ends_with_server(Process& victim) {
  const Outcome outcome = victim.wait(kASecond);
  INFO(outcome.text());
  CHECK(outcome.status == 126);
  CHECK(is_one_line(outcome.errors));
}

}  // namespace

TEST_CASE("a program that ends in whatever way leaves nothing in the server") {
  ServerUnderTest server;
  const Descriptors before = settled_descriptors(server);
  const std::string path = server.file("f", pattern(kFileBytes));
  for (const std::string how :
       {"returns", "exits_quickly", "aborts", "kills_itself", "crashes", "exits_from_thread",
        "crashes_in_thread", "terminates_itself", "forks_and_ends"}) {
    const Outcome outcome = server.run({"ends", how, path});
    INFO(how << ": " << outcome.text());
    CHECK(outcome.errors.empty());
    check_nothing_left(server, before);
    CHECK(eventually([&] { return support::read_file(path)[0] == '\xee'; }));
  }
}

TEST_CASE("a program that is killed leaves nothing in the server") {
  ServerUnderTest server;
  const Descriptors before = settled_descriptors(server);
  const std::string path = server.file("f", pattern(kFileBytes));
  std::vector<Process> programs;
  for (int i = 0; i < 5; ++i) {
    programs.push_back(server.start({"ends", "waits", path}));
    programs.back().await_output("waiting");
  }
  CHECK(server.statistics().spaces == 5);
  for (Process& program : programs) program.kill();
  check_nothing_left(server, before);
}

TEST_CASE("a program that is killed while it waits in a fault leaves nothing in the server") {
  ServerUnderTest server;
  const Descriptors before = settled_descriptors(server);
  const std::string path = server.file("f", pattern(kFileBytes));
  Command command = server.command({"ends", "waits_in_fault", path});
  command.asks = true;
  Process program(command);
  program.await_output("ready");
  server.pager("file").freeze();
  const std::uint64_t faults = server.statistics().faults;
  program.say("x");
  program.await_output("touching");
  CHECK(eventually([&] { return server.statistics().faults > faults; }));
  program.kill();
  CHECK(eventually([&] { return server.statistics().spaces == 0; }, kASecond));
  server.pager("file").thaw();
  check_nothing_left(server, before, support::kPatience);
}

TEST_CASE("a program ends in whatever way while one of its threads waits in a fault") {
  for (const std::string how : {"exit_group", "crash", "abort", "exec"}) {
    INFO(how);
    ServerUnderTest server;
    const Descriptors before = settled_descriptors(server);
    const std::string path = server.file("f", pattern(kFileBytes));
    Command command = server.command({"ends", "ends_beside_fault", path, how});
    // The program that it becomes is served as well, and needs no pager.
    command.asks = true;
    Process program(command);
    program.await_output("ready");
    server.pager("file").freeze();
    const std::uint64_t faults = server.statistics().faults;
    program.say("x");
    program.await_output("touching");
    CHECK(eventually([&] { return server.statistics().faults > faults; }));
    program.say("x");
    const Outcome outcome = program.wait(std::chrono::seconds(5));
    INFO(outcome.text());
    CHECK(outcome.output.find("touched") == std::string::npos);
    CHECK(eventually([&] { return server.statistics().spaces == 0; }, kASecond));
    server.pager("file").thaw();
    check_nothing_left(server, before, support::kPatience);
  }
}

TEST_CASE("when the server is killed every program ends within a second with one line") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kFileBytes));
  std::vector<Process> victims;
  for (const std::string how : {"computes", "faults_for_ever", "reads_for_ever", "verifies"}) {
    victims.push_back(start_victim(server, how, path));
  }
  server.kill();
  for (Process& victim : victims) check_ends_with_server(victim);
}

TEST_CASE("when the server is killed a forked child ends like its parent") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kFileBytes));
  Process victim = start_victim(server, "child_reads_for_ever", path);
  server.kill();
  const Outcome outcome = victim.wait(kASecond);
  CHECK(outcome.status == 126);
  CHECK(eventually([] { return support::stray_children().empty(); }, kASecond));
  // One line of the parent, one of the child.
  const bool both = eventually(
      [&] {
        const std::string said = victim.errors();
        return std::count(said.begin(), said.end(), '\n') == 2;
      },
      kASecond);
  INFO(victim.errors());
  CHECK(both);
}

TEST_CASE("when the server is killed ten programs end at once") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kFileBytes));
  std::vector<Process> victims;
  for (int i = 0; i < 10; ++i) victims.push_back(start_victim(server, "reads_for_ever", path));
  server.kill();
  for (Process& victim : victims) check_ends_with_server(victim);
}

TEST_CASE("no program ever reads a zero where its data was when the server is killed") {
  for (int round = 0; round < 5; ++round) {
    ServerUnderTest server;
    const std::string path = server.file("f", pattern(kFileBytes));
    std::vector<Process> victims;
    for (int i = 0; i < 3; ++i) victims.push_back(start_victim(server, "verifies", path));
    server.kill();
    for (Process& victim : victims) check_ends_with_server(victim);
  }
}

TEST_CASE("a program whose server was stopped and then killed ends all the same") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kFileBytes));
  Process victim = start_victim(server, "faults_for_ever", path);
  server.process().freeze();
  server.kill();
  check_ends_with_server(victim);
}

TEST_CASE("programs end when the server ends in good order, too") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kFileBytes));
  Process computing = start_victim(server, "computes", path);
  Process reading = start_victim(server, "reads_for_ever", path);
  CHECK(server.terminate().status == 0);
  check_ends_with_server(computing);
  check_ends_with_server(reading);
  CHECK(support::read_file(path)[0] == '\xee');
}

TEST_CASE("the server says when a pager is gone and serves what it holds") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kFileBytes));
  Command command = server.command({"ends", "stores_in_parts", path});
  command.asks = true;
  Process program(command);
  program.await_output("ready");
  server.pager("file").kill();
  CHECK(eventually([&] {
    return server.log().find("pager-file") != std::string::npos && server.statistics().pagers == 2;
  }));
  INFO(server.log());
  CHECK(server.log().find("gone") != std::string::npos);
  // What is resident can be read and stored to; what is stored waits for the next pager.
  program.say("x");
  program.await_output("stored");
  CHECK(server.run({"sharing", "shows", path, "1", "221"}).text() == kOk);
  program.say("x");
  server.start_pager("file");
  CHECK(program.wait().text() == kOk);
  const std::string data = support::read_file(path);
  CHECK(data[0] == '\xee');
  CHECK(data[1] == '\xdd');
}

TEST_CASE("a fault waits for a pager that comes back") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kFileBytes));
  Command command = server.command({"ends", "waits_in_fault", path});
  command.asks = true;
  Process program(command);
  program.await_output("ready");
  server.pager("file").kill();
  CHECK(eventually([&] { return server.statistics().pagers == 2; }));
  const std::uint64_t faults = server.statistics().faults;
  program.say("x");
  CHECK(eventually([&] { return server.statistics().faults > faults; }));
  CHECK(program.output().find("touched") == std::string::npos);
  server.start_pager("file");
  program.await_output("touched");
  CHECK(program.wait().text() == kOk);
}

TEST_CASE("a second pager of a kind takes over when the first one goes") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kFileBytes));
  Command command;
  Process first = std::move(server.pager("file"));
  server.start_pager("file");
  CHECK(eventually([&] { return server.statistics().pagers == 4; }));
  first.kill();
  CHECK(server.run({"file_mapping", "write_shared", path}).text() == kOk);
}

TEST_CASE("without a pager of the kind a file cannot be mapped and private memory can") {
  ServerUnderTest server({.pagers = {}});
  const std::string path = server.file("f", pattern(kFileBytes));
  CHECK(server.run({"anonymous", "private_memory"}).text() == kOk);
  CHECK(server.run({"file_mapping", "no_pager", path}).text() == kOk);
}
