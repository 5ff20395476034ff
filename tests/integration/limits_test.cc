// Limits of single programs on a server that has more memory, and what vmctl shows of them.
#include <cstdint>
#include <string>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/server.h"

using support::Command;
using support::Outcome;
using support::Process;
using support::ServerUnderTest;

namespace {

const std::string kOk = "status 0";
constexpr std::uint64_t kPagesOfMib = 256;

Outcome vmctl(const ServerUnderTest& server, std::vector<std::string> arguments) {
  Command command;
  command.arguments = {support::vmctl_path(), "--socket", server.socket()};
  command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
  return support::run(command);
}

nlohmann::json json_of(const Outcome& outcome) {
  REQUIRE(outcome.text() == kOk);
  return nlohmann::json::parse(outcome.output);
}

Process start_waiting(const ServerUnderTest& server, const std::string& megabytes) {
  Command command = server.command({"more_memory", "waits", megabytes});
  command.asks = true;
  Process program(command);
  program.await_output("waiting");
  return program;
}

/// What `vmctl swap` says of a program.
nlohmann::json program_in_swap(const ServerUnderTest& server, pid_t pid) {
  const auto swap = json_of(vmctl(server, {"swap", "--json", "--interval", "0.01"}));
  for (const auto& program : swap.at("programs")) {
    if (program.at("pid") == pid) return program;
  }
  FAIL("process " << pid << " is not in " << swap);
  return {};
}

}  // namespace

TEST_CASE("a program that is limited gives up what is more, and others keep theirs") {
  ServerUnderTest server({.options = {"--memory", "64M"}});
  Process limited = start_waiting(server, "12");
  Process other = start_waiting(server, "12");
  REQUIRE(vmctl(server, {"limit", std::to_string(limited.pid()), "4M"}).text() == kOk);
  CHECK(support::eventually([&] {
    return program_in_swap(server, limited.pid()).at("memory_pages") <= 4 * kPagesOfMib;
  }));
  const auto shown = program_in_swap(server, limited.pid());
  CHECK(shown.at("limit_pages") == 4 * kPagesOfMib);
  CHECK(shown.at("swapped_pages") >= 8 * kPagesOfMib);
  CHECK(shown.at("command") == "more_memory");
  const auto unlimited = program_in_swap(server, other.pid());
  CHECK(unlimited.at("memory_pages") >= 12 * kPagesOfMib);
  CHECK(unlimited.at("limit_pages") == 0);
  for (Process* program : {&limited, &other}) {
    program->say("on\n");
    CHECK(program->wait().text() == kOk);
  }
}

TEST_CASE("a limit that is taken away is none") {
  ServerUnderTest server({.options = {"--memory", "64M"}});
  Process program = start_waiting(server, "8");
  const std::string pid = std::to_string(program.pid());
  REQUIRE(vmctl(server, {"limit", pid, "2M"}).text() == kOk);
  REQUIRE(support::eventually([&] {
    return program_in_swap(server, program.pid()).at("memory_pages") <= 2 * kPagesOfMib;
  }));
  REQUIRE(vmctl(server, {"limit", pid, "none"}).text() == kOk);
  program.say("on\n");
  CHECK(program.wait().text() == kOk);
}

TEST_CASE("a program is all right below a limit that it was started under") {
  ServerUnderTest server({.options = {"--memory", "64M"}});
  Command command = server.command({"more_memory", "waits", "24"});
  command.asks = true;
  command.limits = {{RLIMIT_RSS, 1 << 20}};
  Process program(command);
  program.await_output("waiting");
  // Memory is not short, and a fair share is no limit.
  CHECK(program_in_swap(server, program.pid()).at("swapped_pages") == 0);
  program.say("on\n");
  CHECK(program.wait().text() == kOk);
}

TEST_CASE("when memory is short, who has more than RLIMIT_RSS gives before others") {
  ServerUnderTest server({.options = {"--memory", "32M"}});
  Process modest = start_waiting(server, "8");
  Command command = server.command({"more_memory", "waits", "48"});
  command.asks = true;
  command.limits = {{RLIMIT_RSS, 4 << 20}};
  Process greedy(command);
  greedy.await_output("waiting");
  // Others are asked for some pages only where it is long in giving, on a busy machine; without a share
  // who sits idle has given nearly all by now.
  CHECK(program_in_swap(server, modest.pid()).at("swapped_pages") <= 2 * kPagesOfMib);
  CHECK(program_in_swap(server, greedy.pid()).at("swapped_pages") >= 20 * kPagesOfMib);
  greedy.say("on\n");
  CHECK(greedy.wait().text() == kOk);
  modest.say("on\n");
  CHECK(modest.wait().text() == kOk);
}

TEST_CASE("vmctl says why a limit was not set") {
  ServerUnderTest server({.options = {"--memory", "64M"}});
  const Outcome stranger = vmctl(server, {"limit", "1", "4M"});
  CHECK(stranger.status == 1);
  CHECK(stranger.errors.find("limit of process 1") != std::string::npos);
  CHECK(stranger.errors.find("not served") != std::string::npos);
  for (const std::string bad : {"", "4X", "1", "-4096"}) {
    INFO("SIZE " << bad);
    CHECK(vmctl(server, {"limit", "1", bad}).status == 2);
  }
  ServerUnderTest unlimited;
  Process program = start_waiting(unlimited, "1");
  const Outcome refused = vmctl(unlimited, {"limit", std::to_string(program.pid()), "4M"});
  CHECK(refused.status == 1);
  CHECK(refused.errors.find("--memory") != std::string::npos);
  program.say("on\n");
  CHECK(program.wait().text() == kOk);
}

TEST_CASE("vmctl shows how much happens a second") {
  ServerUnderTest server({.options = {"--memory", "8M"}});
  Process program(server.command({"more_memory", "private", "24"}));
  REQUIRE(support::eventually([&] { return server.statistics().pageouts > 0; }));
  const auto stat = json_of(vmctl(server, {"stat", "--json", "--interval", "0.2"}));
  CHECK(stat.at("rates").at("faults") > 0);
  CHECK(stat.at("rates").at("deactivations") > 0);
  const Outcome told = vmctl(server, {"swap", "--interval", "0.05"});
  CHECK(told.text() == kOk);
  CHECK(told.output.find("KiB in swap alone") != std::string::npos);
  CHECK(told.output.find("pages paged in a second") != std::string::npos);
  CHECK(told.output.find("more_memory") != std::string::npos);
  CHECK(vmctl(server, {"swap", "--interval", "0"}).status == 2);
  CHECK(program.wait().text() == kOk);
}
