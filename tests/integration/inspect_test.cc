// What vmctl shows of a program that is being served.
#include <catch2/catch.hpp>
#include <csignal>
#include <nlohmann/json.hpp>

#include "tests/support/server.h"

using support::Outcome;
using support::pattern;
using support::Process;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;

Outcome vmctl(const ServerUnderTest& server, std::vector<std::string> arguments) {
  support::Command command;
  command.arguments = {support::vmctl_path(), "--socket", server.socket()};
  command.arguments.insert(command.arguments.end(), arguments.begin(), arguments.end());
  return support::run(command);
}

/// The lines that have all of these in them.
std::vector<std::string> lines_with(const std::string& text,
                                    const std::vector<std::string>& words) {
  std::vector<std::string> result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    bool all = true;
    for (const std::string& word : words) all = all && line.find(word) != std::string::npos;
    if (all) result.push_back(line);
  }
  return result;
}

/// A program that says where its memory is, and goes on when it is told.
struct Telling {
  Process process;
  std::uint64_t at = 0;

  explicit Telling(support::Command command) : process((command.asks = true, command)) {
    process.await_output("\n");
    at = std::stoull(process.output(), nullptr, 16);
  }
  /// A page's address, as vmctl shows it.
  std::string page(std::uint64_t number) const {
    std::ostringstream text;
    text << std::hex << at + number * kPage;
    return text.str();
  }
  std::string pid() { return std::to_string(process.pid()); }
};

}  // namespace

TEST_CASE("vmctl shows a served program, its map and what the server did for it") {
  ServerUnderTest server;
  const std::string path = server.file("mapped-file", pattern(64 * kPage));
  Process program = server.start({"ends", "waits", path});
  program.await_output("waiting");
  const std::string pid = std::to_string(program.pid());

  const Outcome programs = vmctl(server, {"ps"});
  CHECK(programs.text() == "status 0");
  CHECK(lines_with(programs.output, {pid, "ends", "freebsd-7"}).size() == 1);

  const Outcome map = vmctl(server, {"map", pid});
  INFO(map.output);
  CHECK(map.text() == "status 0");
  const auto file = lines_with(map.output, {"mapped-file", " vn "});
  REQUIRE(file.size() == 1);
  CHECK(file[0].find("rw- rwx") != std::string::npos);
  CHECK_FALSE(lines_with(map.output, {" df"}).empty());
  CHECK_FALSE(lines_with(map.output, {" sw"}).empty());
  CHECK_FALSE(lines_with(map.output, {" ho ", "libc.so"}).empty());

  const Outcome counts = vmctl(server, {"stat", "--json"});
  CHECK(counts.text() == "status 0");
  const auto json = nlohmann::json::parse(counts.output);
  CHECK(json.at("spaces") == 1);
  CHECK(json.at("objects") == 2);
  CHECK(json.at("calls").at("mmap") == 3);
  CHECK(json.at("faults") > 0);
  CHECK(json.at("resident_pages") > 0);
  CHECK(json.at("memory_limit_pages") == 0);
  program.kill();
}

TEST_CASE("vmctl shows what a program has mapped, protected and unmapped by itself") {
  ServerUnderTest server;
  Telling program(server.command({"leased_memory", "shown"}));
  const Outcome map = vmctl(server, {"map", program.pid()});
  INFO(map.output);
  CHECK(lines_with(map.output, {program.page(0), program.page(2), " r-- "}).size() == 1);
  CHECK(lines_with(map.output, {program.page(2), program.page(4), " rw- "}).size() == 1);
  CHECK(lines_with(map.output, {program.page(5) + " ", " rw- "}).size() == 1);
  program.process.say("x");
  CHECK(program.process.wait().text() == "status 0");
}

TEST_CASE("what a program locks by itself, while the server is stopped, is shown as locked") {
  ServerUnderTest server;
  Telling program(server.command({"leased_memory", "locked"}));
  REQUIRE(::kill(server.process().pid(), SIGSTOP) == 0);
  program.process.say("x");
  program.process.await_output("locked");
  REQUIRE(::kill(server.process().pid(), SIGCONT) == 0);
  const Outcome map = vmctl(server, {"map", program.pid()});
  INFO(map.output);
  // One ends there, and one begins there.
  CHECK(lines_with(map.output, {program.page(1) + " ", " -C-W-- "}).size() == 2);
  program.process.say("x");
  CHECK(program.process.wait().text() == "status 0");
}

TEST_CASE("vmctl says in one line that a process is not served, or that there is no server") {
  ServerUnderTest server;
  const Outcome unknown = vmctl(server, {"map", "1"});
  CHECK(unknown.status == 1);
  CHECK(unknown.errors.find("not served") != std::string::npos);
  server.terminate();
  const Outcome gone = vmctl(server, {"stat"});
  CHECK(gone.status == 2);
  CHECK(lines_with(gone.errors, {"vmctl"}).size() == 1);
}

TEST_CASE("statistics tell the memory that the server was given") {
  ServerUnderTest server({.options = {"--memory", "64M"}});
  const auto json = nlohmann::json::parse(vmctl(server, {"stat", "--json"}).output);
  CHECK(json.at("memory_limit_pages") == 64 * 256);
  CHECK(json.at("pagers") == 3);
}
