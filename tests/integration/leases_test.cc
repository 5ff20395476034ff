// Memory that programs map and unmap by themselves, through the real shim and server: see "Calls
// without a round trip" in docs/architecture.md.
#include <catch2/catch.hpp>
#include <iostream>

#include "tests/support/numbers.h"
#include "tests/support/server.h"

using support::ServerUnderTest;

namespace {

const std::string kOk = "status 0";

void check_random(const std::string& how, unsigned steps, std::vector<std::string> server_options = {}) {
  const std::uint64_t seed = support::chosen_seed();
  std::cout << how << ": seed " << seed << " (TEST_SEED sets it)\n";
  INFO("TEST_SEED=" << seed);
  ServerUnderTest server({.options = std::move(server_options)});
  CHECK(server.run({"leased_memory", how, std::to_string(steps), std::to_string(seed)}).text() == kOk);
  CHECK(server.statistics().sessions_rejected == 0);
  CHECK(server.statistics().failed_faults == 0);
}

}  // namespace

TEST_CASE("threads map and unmap memory: what is new is zero, what was stored stays") {
  check_random("threads", 6000);
}

TEST_CASE("the same where memory is limited and nothing is done without asking") {
  check_random("threads", 1500, {"--memory", "24M"});
}

TEST_CASE("children have what was mapped, and go on by themselves") { check_random("forks", 150); }

TEST_CASE("the same where memory is limited") { check_random("forks", 60, {"--memory", "24M"}); }

TEST_CASE("FreeBSD's rules make no difference to it") {
  check_random("threads", 2000, {"--personality", "freebsd-14"});
  check_random("forks", 50, {"--personality", "freebsd-7"});
}

TEST_CASE("what takes the next mapping's place away is found there") {
  ServerUnderTest server;
  CHECK(server.run({"leased_memory", "interrupted"}).text() == kOk);
}

TEST_CASE("a program that maps and unmaps a little asks the server for next to nothing") {
  ServerUnderTest server;
  CHECK(server.run({"leased_memory", "interrupted"}).text() == kOk);
  const auto faults = server.statistics().faults;
  CHECK(server.run({"leased_memory", "again_and_again"}).text() == kOk);
  // What a program of its size costs anyway, and not one for each of 1000 mappings.
  CHECK(server.statistics().faults - faults < 200);
  // What it said last the server need not have heard when it has ended.
  CHECK(server.statistics().calls["mmap"] >= 800);
}

TEST_CASE("a program that fills what it maps, size by size, waits for few of its pages") {
  ServerUnderTest server;
  CHECK(server.run({"leased_memory", "interrupted"}).text() == kOk);
  const auto before = server.statistics();
  CHECK(server.run({"leased_memory", "filled"}).text() == kOk);
  const auto after = server.statistics();
  // Each eighth mapping of 128 has faults; without its history each of them has, two and more.
  CHECK(after.faults - before.faults < 128);
  // What it said last the server need not have heard when it has ended.
  CHECK(after.zero_fills - before.zero_fills >= 100 * 200);
  CHECK(after.sessions_rejected == 0);
}

TEST_CASE("the same where memory is limited and each page is asked for") {
  ServerUnderTest server({.options = {"--memory", "24M"}});
  CHECK(server.run({"leased_memory", "filled"}).text() == kOk);
  CHECK(server.statistics().failed_faults == 0);
}

TEST_CASE("a buffer that is unmapped and mapped again is gone in between, and new afterwards") {
  ServerUnderTest server;
  CHECK(server.run({"leased_memory", "buffers"}).text() == kOk);
  CHECK(server.statistics().sessions_rejected == 0);
}

TEST_CASE("the same where memory is limited and all of it is unmapped by a call") {
  ServerUnderTest server({.options = {"--memory", "24M"}});
  CHECK(server.run({"leased_memory", "intruded", "300"}).text() == kOk);
}

TEST_CASE("a fault that is under way when memory is unmapped puts nothing there") {
  ServerUnderTest server;
  CHECK(server.run({"leased_memory", "intruded", "5000"}).text() == kOk);
  CHECK(server.statistics().sessions_rejected == 0);
}

TEST_CASE("a page that a program touches in each of its buffers comes with the next ones") {
  ServerUnderTest server;
  CHECK(server.run({"leased_memory", "interrupted"}).text() == kOk);
  const auto before = server.statistics();
  CHECK(server.run({"leased_memory", "one_page"}).text() == kOk);
  const auto after = server.statistics();
  // What a program of its size costs anyway, and not one for each of 1000 mappings.
  CHECK(after.faults - before.faults < 200);
  CHECK(after.sessions_rejected == 0);
}
