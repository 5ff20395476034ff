// Policies and exec traces with real programs.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/server.h"

using support::Outcome;
using support::pattern;
using support::Process;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;

std::size_t count(const std::string& text, const std::string& what) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++found;
  return found;
}

/// vmctl trace exec that listens when this returns.
Process listen(const ServerUnderTest& server, std::vector<std::string> options = {}) {
  int ready[2];
  REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
  const tools::UniqueFd reading(ready[0]);
  tools::UniqueFd writing(ready[1]);
  support::Command command;
  command.arguments = {
      support::vmctl_path(),        "trace", "exec", "--socket", server.socket(), "--ready-fd",
      std::to_string(writing.get())};
  command.arguments.insert(command.arguments.end(), options.begin(), options.end());
  command.descriptors.push_back(writing.get());
  Process process(command);
  writing.reset();
  pollfd said{reading.get(), POLLIN, 0};
  char text[6] = {};
  REQUIRE(poll(&said, 1, 60000) == 1);
  INFO(process.errors());
  REQUIRE(read(reading.get(), text, sizeof(text)) == sizeof(text));
  CHECK(process.output().empty());
  return process;
}

/// A server with this policy, whose file is in `directory`.
support::ServerOptions with_policy(const support::TemporaryDirectory& directory,
                                   const std::string& text) {
  support::write_file(directory / "policy", text);
  return {.options = {"--policy", directory / "policy"}};
}

Outcome start_with(const std::string& policy) {
  const support::TemporaryDirectory directory;
  support::Command command;
  command.arguments = {support::server_path(), "--socket", directory / "s", "--policy", policy};
  return support::run(command);
}

}  // namespace

TEST_CASE("a policy keeps every program from memory that is writable and executable") {
  const support::TemporaryDirectory directory;
  ServerUnderTest server(with_policy(directory, "# W^X\ndeny prot wx\n"));
  const std::string file = server.file("code", pattern(kPage));
  CHECK(server.run({"executable", "never_both", file}).text() == "status 0");
  const std::string denial = "policy " + (directory / "policy") + ":2 denies program ";
  INFO(server.log());
  CHECK(count(server.log(), denial) == 7);
  CHECK(count(server.log(), "of user 0: mmap of memory with rwx") == 3);
  CHECK(count(server.log(), "of user 0: mmap of " + file + " with rwx") == 1);
  CHECK(count(server.log(), "of user 0: mprotect of memory with rwx") == 3);
}

TEST_CASE("a policy keeps one user from executing what is under a path") {
  const support::TemporaryDirectory directory;
  const support::TemporaryDirectory files;
  ServerUnderTest server(
      with_policy(directory, "deny user 65534 path " + files / "code" + " prot x\n"));
  const std::string code = files / "code";
  support::write_file(code, pattern(kPage));
  CHECK(server.run({"executable", "drops_root", code}).text() == "status 0");
  INFO(server.log());
  CHECK(count(server.log(), "of user 65534: mmap of " + code + " with r-x") == 1);
  CHECK(count(server.log(), "of user 65534: mprotect of " + code + " with r-x") == 1);
  CHECK(count(server.log(), "denies") == 2);
  const std::string other = files / "code-of-others";
  support::write_file(other, pattern(3 * kPage));
  support::Command command = server.command({"executable", "maps", other});
  CHECK(support::run(command).status == 0);
}

TEST_CASE("a wrong policy stops the server at its start, with line and reason") {
  const support::TemporaryDirectory directory;
  const std::string policy = directory / "policy";
  support::write_file(policy, "deny prot wx\n\ndeny path relative\n");
  const Outcome wrong = start_with(policy);
  CHECK(wrong.status == 2);
  CHECK(wrong.errors == "vmserver: " + policy + ":3: path: \"relative\" is not absolute\n");
  const Outcome missing = start_with(directory / "none");
  CHECK(missing.status == 2);
  CHECK(missing.errors == "vmserver: " + (directory / "none") + ": No such file or directory\n");
}

TEST_CASE("vmctl trace exec shows what a program maps to execute, and what it unmaps") {
  ServerUnderTest server;
  const std::string file = server.file("code", pattern(3 * kPage));
  Process trace = listen(server);
  Process program = server.start({"executable", "maps", file});
  const std::string pid = std::to_string(program.pid());
  const Outcome outcome = program.wait();
  REQUIRE(outcome.text() == "status 0");
  const std::string address = outcome.output.substr(0, outcome.output.find('\n'));
  trace.await_output("unmapped");
  trace.signal(SIGINT);
  const Outcome ended = trace.wait();
  CHECK(ended.text() == "status 0");
  const std::string where = pid + " " + address + " 12288 " + file + "\n";
  CHECK(ended.output == "mapped " + where + "unmapped " + where);
}

TEST_CASE("vmctl trace exec --json prints an object a line, and two listen at once") {
  ServerUnderTest server;
  const std::string file = server.file("code", pattern(3 * kPage));
  Process json = listen(server, {"--json"});
  Process plain = listen(server);
  Process program = server.start({"executable", "maps", file});
  const int pid = program.pid();
  const Outcome outcome = program.wait();
  REQUIRE(outcome.text() == "status 0");
  json.await_output("unmapped");
  plain.await_output("unmapped");
  json.signal(SIGTERM);
  const Outcome ended = json.wait();
  CHECK(ended.text() == "status 0");
  std::istringstream lines(ended.output);
  for (const char* kind : {"mapped", "unmapped"}) {
    std::string line;
    REQUIRE(std::getline(lines, line));
    const auto event = nlohmann::json::parse(line);
    CHECK(event.at("event") == kind);
    CHECK(event.at("pid") == pid);
    CHECK(event.at("address") == std::stoull(outcome.output, nullptr, 16));
    CHECK(event.at("bytes") == 3 * kPage);
    CHECK(event.at("path") == file);
    CHECK(event.at("lost") == 0);
  }
}

TEST_CASE("vmctl trace exec says in one line that the server went, or that there is none") {
  ServerUnderTest server;
  Process trace = listen(server);
  server.terminate();
  const Outcome gone = trace.wait();
  CHECK(gone.status == 1);
  CHECK(gone.output.empty());
  CHECK(gone.errors.find("the server hung up") != std::string::npos);
  CHECK(count(gone.errors, "\n") == 1);
  support::Command command;
  command.arguments = {support::vmctl_path(), "trace", "exec", "--socket", server.socket()};
  const Outcome none = support::run(command);
  CHECK(none.status == 2);
  CHECK(count(none.errors, "\n") == 1);
}

TEST_CASE("a listener that stands still holds up no program") {
  ServerUnderTest server;
  const std::string file = server.file("code", pattern(3 * kPage));
  Process trace = listen(server);
  trace.freeze();
  CHECK(server.run({"executable", "maps", file}).status == 0);
  trace.thaw();
  trace.await_output("unmapped");
}

TEST_CASE("vmrun passes a policy on, from the directory it was started in") {
  const support::TemporaryDirectory directory;
  support::write_file(directory / "policy", "deny prot wx\n");
  support::write_file(directory / "wrong", "\ndeny no\n");
  support::write_file(directory / "code", pattern(kPage));
  support::Command command;
  const std::string vmrun =
      support::vmctl_path().substr(0, support::vmctl_path().rfind('/')) + "/vmrun";
  const auto run = [&](const std::string& policy) {
    command.arguments = {"/bin/sh",
                         "-c",
                         "cd \"$1\" && exec \"$2\" --policy \"$3\" -- \"$4\" never_both code",
                         "sh",
                         directory.path(),
                         vmrun,
                         policy,
                         support::program_path("executable")};
    return support::run(command);
  };
  const Outcome allowed = run("policy");
  CHECK(allowed.status == 0);
  CHECK(count(allowed.errors, "denies program") == 7);
  const Outcome wrong = run("wrong");
  CHECK(wrong.status == 2);
  CHECK(wrong.errors ==
        "vmserver: " + (directory / "wrong") + ":2: \"no\": expected user, path or prot\n");
}
