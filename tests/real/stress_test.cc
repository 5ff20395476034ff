// stress-ng's own checks of mapped memory.
#include <catch2/catch.hpp>

#include "tests/real/served.h"

TEST_CASE("stress-ng maps, checks and unmaps for 20 seconds without a failure", "[stress]") {
  // Not compared with a native run: its lines tell pids and times, and how far it came.
  const real::TemporaryDirectory directory;
  const real::Command command{
      {"stress-ng", "--mmap", "2", "--mmap-bytes", "64M", "--verify", "-t", "20s"},
      "",
      directory.path().string(),
      real::plain_environment(directory.path())};
  real::find_program(command);
  real::Served program(command, directory.path());
  const real::Outcome outcome = program.wait();
  INFO(outcome.output << outcome.errors);
  const std::string said = outcome.output + outcome.errors;
  CHECK(outcome.exited_with(0));
  CHECK(said.find("successful run completed") != std::string::npos);
  CHECK(said.find("fail:") == std::string::npos);
  CHECK(said.find("error:") == std::string::npos);

  const auto& statistics = program.statistics();
  INFO(statistics.dump());
  CHECK(statistics["faults"].get<std::uint64_t>() > 0);
  CHECK(statistics["calls"]["mmap"].get<std::uint64_t>() > 0);
  CHECK(statistics["calls"]["munmap"].get<std::uint64_t>() > 0);
  CHECK(statistics["failed_faults"].get<std::uint64_t>() == 0);
  CHECK(statistics["spaces"].get<std::uint64_t>() == 0);
}
