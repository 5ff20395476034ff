// libc's own calls: malloc's heaps and threads' stacks are served, too, unless only what goes
// through dynamic linking is to be caught.
#include <catch2/catch.hpp>
#include <map>
#include <sstream>

#include "tests/support/server.h"

using support::Outcome;
using support::Process;
using support::ServerUnderTest;

namespace {

const std::string kOk = "status 0";
const std::string kLibc = "VMSHIM_CAPTURE=libc";
const std::string kPlt = "VMSHIM_CAPTURE=plt";

support::Command command_with(const ServerUnderTest& server, const std::string& setting,
                              std::vector<std::string> arguments) {
  support::Command command = server.command(std::move(arguments));
  if (!setting.empty()) command.environment.push_back(setting);
  return command;
}

/// The type that `vmctl map` shows for the entry around an address.
std::string type_at(const std::string& map, std::uint64_t address) {
  std::istringstream lines(map);
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string pid, start, end, protection, maximum, resident, flags, type;
    words >> pid >> start >> end >> protection >> maximum >> resident >> flags >> type;
    if (std::stoull(start, nullptr, 16) <= address && address < std::stoull(end, nullptr, 16))
      return type;
  }
  return "none";
}

/// Of a program of its own: what of libc's is in which type of memory.
std::map<std::string, std::string> types_of_libc_memory(const std::string& setting) {
  ServerUnderTest server;
  Process program(command_with(server, setting, {"libc_memory", "shows"}));
  program.await_output("shown");
  support::Command vmctl;
  vmctl.arguments = {support::vmctl_path(), "--socket", server.socket(), "map",
                     std::to_string(program.pid())};
  const std::string map = support::run(vmctl).output;
  std::map<std::string, std::string> types;
  std::istringstream lines(program.output());
  std::string what, address;
  while (lines >> what >> address) types[what] = type_at(map, std::stoull(address, nullptr, 16));
  program.kill();
  return types;
}

std::string result_of(const std::string& setting, const std::string& test_case) {
  ServerUnderTest server;
  return support::run(command_with(server, setting, {"libc_memory", test_case})).text();
}

const std::map<std::string, std::string> kAllAnonymous = {
    {"small", "df"}, {"big", "df"}, {"arena", "df"}, {"stack", "df"}};

}  // namespace

TEST_CASE("malloc's heap, its big blocks, a thread's arena and its stack are served") {
  CHECK(types_of_libc_memory("") == kAllAnonymous);
  CHECK(types_of_libc_memory(kLibc) == kAllAnonymous);
}

TEST_CASE("with capture by the PLT alone none of libc's memory is served") {
  for (const auto& [what, type] : types_of_libc_memory(kPlt)) {
    INFO(what << " is in memory of type " << type);
    CHECK((type == "ho" || type == "none"));
  }
}

TEST_CASE("a heap that grows, shrinks and moves keeps what was stored") {
  for (const std::string& setting : {kLibc, kPlt}) CHECK(result_of(setting, "heap") == kOk);
}

TEST_CASE("threads allocate, end, and leave their stacks to others") {
  for (const std::string& setting : {kLibc, kPlt}) CHECK(result_of(setting, "threads") == kOk);
}

TEST_CASE("a child has its parent's heap and changes its own") {
  for (const std::string& setting : {kLibc, kPlt}) CHECK(result_of(setting, "child") == kOk);
}

TEST_CASE("libc's own calls follow the host's rules, the program's the server's") {
  CHECK(result_of(kLibc, "rules") == kOk);
}

TEST_CASE("libc's mappings look as in a program that is not served") {
  ServerUnderTest server;
  support::Command plain;
  plain.arguments = {support::program_path("libc_memory"), "maps_of_libc"};
  const Outcome natively = support::run(plain);
  const Outcome served = server.run({"libc_memory", "maps_of_libc"});
  CHECK(natively.output.find(" r-xp ") != std::string::npos);
  CHECK(served.output == natively.output);
}

TEST_CASE("a program that runs unserved keeps libc's functions as they are") {
  support::Command command;
  command.arguments = {support::program_path("libc_memory"), "heap"};
  for (const std::string setting :
       {"VMSHIM_SOCKET=/nowhere", "VMSHIM_ON_ERROR=native", "VMSHIM_LOG=debug"}) {
    command.environment.push_back(setting);
  }
  command.environment.push_back("LD_PRELOAD=" + support::shim_path());
  const Outcome outcome = support::run(command);
  CHECK(outcome.status == 0);
  CHECK(outcome.errors.find("no VM server at /nowhere") != std::string::npos);
  CHECK(outcome.errors.find("caught") == std::string::npos);
}

TEST_CASE("a program is told when what is to be caught is not known") {
  ServerUnderTest server;
  support::Command command = command_with(server, "VMSHIM_CAPTURE=all", {"libc_memory", "heap"});
  const Outcome refused = support::run(command);
  CHECK(refused.status == 127);
  CHECK(refused.errors.find("VMSHIM_CAPTURE=all is neither libc nor plt") != std::string::npos);
  command.environment.push_back("VMSHIM_ON_ERROR=native");
  CHECK(support::run(command).status == 0);
}
