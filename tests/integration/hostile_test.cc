// Clients that do not do as they should lose their own session and harm nobody else.
#include <catch2/catch.hpp>
#include <iostream>

#include "tests/support/numbers.h"
#include "tests/support/server.h"

using support::eventually;
using support::Process;
using support::ServerUnderTest;

namespace {

const std::string kOk = "status 0";

/// Runs a hostile client while another program works; that one must not notice.
void check_harmless(const std::vector<std::string>& attack, bool rejected) {
  ServerUnderTest server;
  Process bystander = server.start({"threads", "concurrent", "100"});
  std::vector<std::string> arguments{"hostile", attack.front(), server.socket()};
  arguments.insert(arguments.end(), attack.begin() + 1, attack.end());
  support::Command command = server.command(arguments);
  command.environment = support::plain_environment();
  const support::Outcome outcome = support::run(command);
  INFO(server.log());
  CHECK(outcome.text() == kOk);
  CHECK(bystander.wait().text() == kOk);
  if (rejected) CHECK(server.statistics().sessions_rejected > 0);
  CHECK(eventually([&] { return server.statistics().spaces == 0; }));
  CHECK_FALSE(server.process().ended());
  CHECK(server.run({"fork_memory", "grandchildren"}).text() == kOk);
}

}  // namespace

TEST_CASE("garbage ends its own session only") { check_harmless({"garbage"}, true); }

TEST_CASE("half a frame ends its own session only") { check_harmless({"half_a_frame"}, true); }

TEST_CASE("a frame that is too long ends its own session only") {
  check_harmless({"too_long_a_frame"}, true);
}

TEST_CASE("wrong descriptors end their own session only") {
  check_harmless({"wrong_descriptors"}, true);
}

TEST_CASE("clients that hang up in the middle leave nothing") {
  check_harmless({"closing"}, false);
}

TEST_CASE("a program that is killed while it begins is not complained of") {
  ServerUnderTest server;
  support::Command command = server.command({"hostile", "stillborn", server.socket()});
  command.environment = support::plain_environment();
  CHECK(support::run(command).text() == kOk);
  INFO(server.log());
  CHECK(server.log().find("it ended while it began") != std::string::npos);
  CHECK(server.statistics().sessions_rejected == 0);
}

TEST_CASE("absurd notes end their own session only") { check_harmless({"absurd_notes"}, true); }

TEST_CASE("an absurd handshake harms nobody") { check_harmless({"absurd_handshake"}, true); }

TEST_CASE("continuing a call that was never made ends its own session only") {
  check_harmless({"strange_continuations"}, true);
}

TEST_CASE("a client that does not take its answers holds up nobody") {
  check_harmless({"deaf"}, false);
}

TEST_CASE("a client that never says how its plan went holds up nobody") {
  ServerUnderTest server;
  support::Command command = server.command({"hostile", "unacknowledged", server.socket()});
  command.environment = support::plain_environment();
  Process client(command);
  client.await_output("waiting");
  CHECK(server.run({"threads", "concurrent", "50"}).text() == kOk);
  client.kill();
  CHECK(eventually([&] { return server.statistics().spaces == 0; }));
}

TEST_CASE("twenty thousand requests with absurd arguments harm nobody") {
  const std::string chosen = std::to_string(support::chosen_seed());
  std::cout << "seed " << chosen << " (TEST_SEED sets it)\n";
  INFO("TEST_SEED=" << chosen);
  check_harmless({"fuzz", chosen, "20000"}, false);
}
