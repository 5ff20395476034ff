// Programs that need four times the memory there is find every byte that they stored.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/server.h"
#include "tests/vm/test_random.h"

using support::pattern;
using support::ServerOptions;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kMib = std::size_t{1} << 20;
const std::string kOk = "status 0";

ServerOptions limited() { return {.options = {"--memory", "16M"}}; }

// Runs one case of more_memory, and looks whether anything was paged out.
std::string more_memory(std::vector<std::string> arguments) {
  ServerUnderTest server(limited());
  const std::string file = server.file("f", pattern(64 * 4096));
  std::replace(arguments.begin(), arguments.end(), std::string("FILE"), file);
  arguments.insert(arguments.begin(), "more_memory");
  const std::string outcome = server.run(arguments).text();
  INFO(server.log());
  CHECK(server.statistics().pageouts > 0);
  return outcome;
}

nlohmann::json paging_of(const ServerUnderTest& server) {
  const auto told = support::run(
      {.arguments = {support::vmctl_path(), "--socket", server.socket(), "stat", "--json"}});
  REQUIRE(told.text() == kOk);
  return nlohmann::json::parse(told.output).at("paging");
}

}  // namespace

TEST_CASE("private memory comes back as it was stored last") {
  CHECK(more_memory({"private", "48"}) == kOk);
}

TEST_CASE("four threads share what memory there is") {
  CHECK(more_memory({"threads", "48"}) == kOk);
}

TEST_CASE("memory that a parent and its child share is paged for both") {
  CHECK(more_memory({"shared", "32"}) == kOk);
}

TEST_CASE("a file is changed through a mapping that is larger than the memory") {
  CHECK(more_memory({"file", "FILE", "32"}) == kOk);
}

TEST_CASE("memory that may not be stored to, or not be read, leaves and comes back") {
  CHECK(more_memory({"protections", "48"}) == kOk);
}

TEST_CASE("pages leave one mapping that is many to the host") {
  CHECK(more_memory({"pieces", "32"}) == kOk);
}

TEST_CASE("what is next to pages that moved, or that children share, leaves and comes back") {
  CHECK(more_memory({"neighbours", "48", "remap"}) == kOk);
  CHECK(more_memory({"neighbours", "48", "minherit"}) == kOk);
}

TEST_CASE("children of a parent in swap have what it had") {
  CHECK(more_memory({"children", "24", "20"}) == kOk);
}

TEST_CASE("children of a parent that is killed while pages leave have what it had") {
  CHECK(more_memory({"orphans", "18", "50"}) == kOk);
}

TEST_CASE("direct I/O reads into memory that is being paged out") {
  CHECK(more_memory({"direct", "FILE", "32"}) == kOk);
}

TEST_CASE("vmrun gives a program swap files of its own, and takes none that cannot be one") {
  const support::TemporaryDirectory directory;
  const auto vmrun = [&](std::vector<std::string> options) {
    const std::string vmctl = support::vmctl_path();
    options.insert(options.begin(), vmctl.substr(0, vmctl.rfind('/')) + "/vmrun");
    options.insert(options.end(), {"--", support::program_path("more_memory"), "private", "48"});
    support::Command command;
    command.arguments = std::move(options);
    return support::run(command, std::chrono::minutes(2));
  };
  // What was there before goes, and the new one has no name.
  support::write_file(directory / "one", "old");
  CHECK(vmrun({"--memory", "16M", "--swap", (directory / "one") + ":8M", "--swap",
               directory / "two", "--compress", "lz4", "--stats", directory / "stats"})
            .text() == kOk);
  CHECK_FALSE(std::filesystem::exists(directory / "one"));
  CHECK_FALSE(std::filesystem::exists(directory / "two"));
  std::ifstream stats(directory / "stats");
  CHECK(nlohmann::json::parse(stats).at("pageouts").get<std::uint64_t>() > 0);

  const support::Outcome refused = vmrun({"--swap", "/dev/null"});
  CHECK(refused.status == 2);
  CHECK(refused.errors.find("/dev/null") != std::string::npos);
  CHECK(vmrun({"--compress", "gzip"}).status == 2);
}

TEST_CASE(
    "programs go on with what they stored when a pager that keeps is killed, again and again") {
  test::Random random;
  CAPTURE(random.seed());
  ServerOptions options = limited();
  options.anon_options = {"--swap", "DIRECTORY/swap", "--keep"};
  if (random.one_in(2))
    options.anon_options.insert(options.anon_options.end(), {"--compress", "lz4"});
  ServerUnderTest server(options);
  std::vector<support::Process> programs;
  for (const char* kind : {"private", "shared", "private"})
    programs.push_back(server.start({"more_memory", kind, "24"}));
  const auto all_ended = [&] {
    return std::all_of(programs.begin(), programs.end(),
                       [](const support::Process& program) { return program.ended(); });
  };
  std::uint64_t kills = 0;
  for (std::uint64_t moved = 0; kills < 12 && !all_ended();) {
    // A little more has been paged than the last time: in the middle of whatever comes next.
    const support::Statistics now = server.statistics();
    const std::uint64_t paged = now.pageins + now.pageouts;
    if (paged < moved) continue;
    moved = paged + random.below(6000);
    if (now.pageouts == 0) continue;
    server.pager("anon").kill();
    ++kills;
    server.start_pager("anon");
  }
  for (support::Process& program : programs) CHECK(program.wait().text() == kOk);
  INFO(server.log());
  CHECK(kills > 3);
  CHECK(server.log().find("are lost") == std::string::npos);
}

TEST_CASE("io_uring reads into memory that is being paged out") {
  const std::string what = GENERATE("any_buffer", "registered", "registered_and_forks");
  INFO(what);
  ServerUnderTest server(limited());
  const std::string file = server.file("f", pattern(64 * 4096));
  const std::string outcome = server.run({"uring", what, file, "32"}).text();
  INFO(server.log());
  CHECK(server.statistics().pageouts > 0);
  CHECK(outcome == kOk);
}

TEST_CASE("what is in use is never more than three hundredths over the limit") {
  ServerUnderTest server(limited());
  auto program = server.start({"more_memory", "private", "48"});
  constexpr std::uint64_t kLimit = 16 * kMib / 4096;
  std::uint64_t most = 0;
  for (int i = 0; i < 20; ++i) {
    const auto paging = paging_of(server);
    const auto in_use = paging.at("private_pages").get<std::uint64_t>() +
                        paging.at("object_pages").get<std::uint64_t>() +
                        paging.at("inactive_pages").get<std::uint64_t>() +
                        paging.at("laundry_pages").get<std::uint64_t>() +
                        paging.at("clean_pages").get<std::uint64_t>();
    most = std::max(most, in_use);
  }
  INFO("pages in use at most: " << most << " of " << kLimit);
  CHECK(most <= kLimit + kLimit * 3 / 100);
  CHECK(program.wait().text() == kOk);
}
