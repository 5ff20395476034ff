// A program that changes its memory at random and knows what must be there.
#include <catch2/catch.hpp>
#include <iostream>

#include "tests/support/numbers.h"
#include "tests/support/server.h"

using support::ServerUnderTest;

namespace {

}  // namespace

TEST_CASE("twenty thousand random steps leave memory as a model of it says") {
  const std::string chosen = std::to_string(support::chosen_seed());
  std::cout << "seed " << chosen << " (TEST_SEED sets it)\n";
  INFO("TEST_SEED=" << chosen);
  ServerUnderTest server;
  CHECK(server.run({"random_steps", "steps", chosen, "20000"}).text() == "status 0");
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
}

TEST_CASE("several programs at once with random steps do not disturb each other") {
  const std::uint64_t first = support::chosen_seed();
  std::cout << "seed " << first << " (TEST_SEED sets it)\n";
  INFO("TEST_SEED=" << first);
  ServerUnderTest server;
  std::vector<support::Process> programs;
  for (std::uint64_t i = 0; i < 4; ++i) {
    programs.push_back(server.start({"random_steps", "steps", std::to_string(first + i), "5000"}));
  }
  for (support::Process& program : programs) CHECK(program.wait().text() == "status 0");
}
