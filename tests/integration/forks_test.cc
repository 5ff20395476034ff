// Children of every kind: how they are made, what they inherit, when the server hears of them.
#include <catch2/catch.hpp>

#include "tests/support/server.h"

using support::Command;
using support::eventually;
using support::Process;
using support::ServerUnderTest;

namespace {

constexpr std::chrono::seconds kASecond{1};
const std::string kOk = "status 0";

std::string result_of(std::vector<std::string> arguments,
                      std::vector<std::string> server_options = {}) {
  ServerUnderTest server({.options = std::move(server_options)});
  const std::string result = server.run(std::move(arguments)).text();
  CHECK(eventually([&] { return server.statistics().spaces == 0; }, kASecond));
  return result;
}

}  // namespace

TEST_CASE("eight threads fork at once among four that change the map") {
  CHECK(result_of({"processes", "fork_from_threads", "40"}) == kOk);
}

TEST_CASE("what a parent does as soon as it has forked is not done to its child") {
  CHECK(result_of({"fork_memory", "goes_on", "300"}) == kOk);
  CHECK(result_of({"fork_memory", "goes_on", "300"}, {"--memory", "16M"}) == kOk);
}

TEST_CASE("inheritance holds over ten generations, and writes are seen by nobody else") {
  CHECK(result_of({"processes", "nested", "10"}) == kOk);
}

TEST_CASE("minherit of the other kind holds over ten generations") {
  CHECK(result_of({"processes", "nested_minherit", "10"}, {"--personality", "freebsd-14"}) == kOk);
}

TEST_CASE("INHERIT_ZERO of shared memory holds for children of children") {
  CHECK(result_of({"processes", "nested_zero_of_shared", "3"}, {"--personality", "freebsd-14"}) ==
        kOk);
}

TEST_CASE("a child that makes no call is known at once and forgotten when it dies") {
  ServerUnderTest server;
  Command command = server.command({"processes", "silent_child"});
  command.asks = true;
  Process program(command);
  CHECK(eventually([&] { return server.statistics().spaces == 1; }));
  program.say("x");
  program.await_output("cloned");
  CHECK(eventually([&] { return server.statistics().spaces == 2; }, kASecond));
  program.say("x");
  program.await_output("killed");
  CHECK(eventually([&] { return server.statistics().spaces == 1; }, kASecond));
  program.say("x");
  CHECK(program.wait().text() == kOk);
}

TEST_CASE("a child that makes no call has its faults served") {
  CHECK(result_of({"processes", "touching_child"}) == kOk);
}

TEST_CASE("processes that share their memory are served as one") {
  CHECK(result_of({"processes", "sharing_memory"}) == kOk);
}

TEST_CASE("a process that shares another's memory may close its own descriptors") {
  CHECK(result_of({"processes", "sharing_memory_closing_all"}) == kOk);
  CHECK(result_of({"processes", "vfork_closing_all"}) == kOk);
}

TEST_CASE("an address space is served until the last process in it has ended") {
  ServerUnderTest server;
  Process program = server.start({"processes", "sharing_memory_orphan"});
  CHECK(eventually([&] { return program.output() == "went on\n"; }));
  CHECK(program.wait().text() == kOk);
  CHECK(eventually([&] { return server.statistics().spaces == 0; }, kASecond));
}

TEST_CASE("a child that shares descriptors and returns from its function ends, and its parent goes on") {
  CHECK(result_of({"processes", "sharing_descriptors"}) == kOk);
}

TEST_CASE("threads spawn and vfork at once") {
  const std::string next = support::program_path("anonymous");
  CHECK(result_of({"processes", "spawn_from_threads", "5", next, "private_memory"}) == kOk);
}

TEST_CASE("daemon(3) leaves a program that is served") {
  ServerUnderTest server;
  const std::string done = server.directory() / "done";
  CHECK(server.run({"processes", "becomes_daemon", done}).text() == kOk);
  CHECK(eventually([&] { return support::read_file(done) == "done"; }));
  CHECK(eventually([&] { return server.statistics().spaces == 0; }, kASecond));
}

TEST_CASE("a program becomes another while its threads fault, served or not") {
  const std::string next = support::program_path("anonymous");
  for (const std::string how :
       {"exec_while_faulting", "exec_unserved_while_faulting", "fork_and_exec_while_faulting"}) {
    INFO(how);
    for (int round = 0; round < 3; ++round) {
      CHECK(result_of({"processes", how, next, "private_memory"}) == kOk);
    }
  }
}
