// Signals: in the middle of calls and faults, and those that memory itself brings.
#include <signal.h>

#include <catch2/catch.hpp>

#include "tests/support/server.h"

using support::Command;
using support::eventually;
using support::pattern;
using support::Process;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

void check_signal_while_fault_waits(const std::string& mode) {
  INFO(mode);
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  Command command = server.command({"signals", "while_a_fault_waits", path, mode});
  command.asks = true;
  Process program(command);
  program.await_output("ready");
  server.pager("file").freeze();
  const std::uint64_t faults = server.statistics().faults;
  program.say("x");
  REQUIRE(eventually([&] { return server.statistics().faults > faults; }));
  program.signal(SIGUSR1);
  // In user mode the handler does not have to wait for the fault.
  if (mode == "user") program.await_output("handled");
  CHECK(program.output().find("touched") == std::string::npos);
  server.pager("file").thaw();
  CHECK(program.wait().text() == kOk);
}

}  // namespace

TEST_CASE("handlers allocate and map while the program maps") {
  ServerUnderTest server;
  CHECK(server.run({"signals", "malloc_in_handler", "500"}).text() == kOk);
}

TEST_CASE("no call ends with EINTR or changes errno, whatever signals come") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  CHECK(server.run({"signals", "no_call_is_interrupted", "500", path}).text() == kOk);
}

TEST_CASE(
    "a signal that comes while a fault waits for its pager is handled, and the data is right") {
  check_signal_while_fault_waits("user");
  check_signal_while_fault_waits("kernel");
}

TEST_CASE("what memory refuses brings the signal, code and address that it brings natively") {
  ServerUnderTest server({.options = {"--personality", "linux"}});
  const std::string path = server.file("f", pattern(64 * kPage + 100));
  Command native;
  native.arguments = {support::program_path("traps"), "all", path};
  const support::Outcome expected = support::run(native);
  const support::Outcome served = server.run({"traps", "all", path});
  REQUIRE(expected.text() == kOk);
  CHECK(served.text() == kOk);
  CHECK(served.output == expected.output);
}
