// Forked children, threads and signals.
#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/support/server.h"

using support::pattern;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

std::string result_of(std::vector<std::string> arguments) {
  ServerUnderTest server;
  const std::string result = server.run(std::move(arguments)).text();
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
  return result;
}

}  // namespace

TEST_CASE("private memory is copied on write, parent to child and back") {
  CHECK(result_of({"fork_memory", "private_memory"}) == kOk);
}

TEST_CASE("shared memory stays shared with a child") {
  CHECK(result_of({"fork_memory", "shared_memory"}) == kOk);
}

TEST_CASE("shared memory that was not touched before a fork is shared after it") {
  CHECK(result_of({"fork_memory", "shared_untouched"}) == kOk);
}

TEST_CASE("file mappings are inherited, shared as shared and private as private") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  CHECK(server.run({"fork_memory", "files", path}).text() == kOk);
}

TEST_CASE("what a child stored and left to its end is in the file when it was waited for") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  CHECK(server.run({"fork_memory", "child_stores_and_exits", path}).text() == kOk);
}

TEST_CASE("grandchildren are served like children") {
  CHECK(result_of({"fork_memory", "grandchildren"}) == kOk);
}

TEST_CASE("a child changes its own map only") {
  CHECK(result_of({"fork_memory", "maps_in_child"}) == kOk);
}

TEST_CASE("a child of a raw clone is served") {
  CHECK(result_of({"fork_memory", "raw_clone"}) == kOk);
}

TEST_CASE("fork, vfork and posix_spawn lead to exec, and the parent goes on") {
  const std::string child = support::program_path("anonymous");
  CHECK(result_of({"fork_memory", "then_exec", child, "private_memory"}) == kOk);
}

TEST_CASE("a program that executes another is served anew") {
  const std::string next = support::program_path("anonymous");
  CHECK(result_of({"fork_memory", "exec_in_place", next, "shared_memory"}) == kOk);
}

TEST_CASE("a child that outlives its parent goes on being served") {
  ServerUnderTest server;
  const std::string done = server.directory() / "done";
  CHECK(server.run({"fork_memory", "orphan", done}).text() == kOk);
  CHECK(support::eventually([&] { return support::read_file(done) == "done"; }));
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
}

TEST_CASE("a fork among threads that change the map gives a whole child") {
  CHECK(result_of({"fork_memory", "among_threads", "150"}) == kOk);
}

TEST_CASE("eight threads map, touch, protect and unmap without harming each other") {
  CHECK(result_of({"threads", "concurrent", "150"}) == kOk);
}

TEST_CASE("sixty-four threads fault, map and unmap at once without harming each other") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  CHECK(server.run({"threads", "sixty_four", "20", path}).text() == kOk);
}

TEST_CASE("a system call into memory that another thread unmaps ends, with EFAULT or in time") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  CHECK(server.run({"threads", "kernel_access_while_unmapping", "300", path}).text() == kOk);
}

TEST_CASE("threads that fault on the same pages lose no store") {
  CHECK(result_of({"threads", "same_pages", "8"}) == kOk);
}

TEST_CASE("touching what another thread unmaps is SIGSEGV, never a hang") {
  CHECK(result_of({"threads", "touch_while_unmapping", "500"}) == kOk);
}

TEST_CASE("a signal handler maps memory while the program does") {
  CHECK(result_of({"signals", "map_in_handler", "500"}) == kOk);
}

TEST_CASE("signals in the middle of calls are not seen by them") {
  CHECK(result_of({"signals", "interrupted", "500"}) == kOk);
}

TEST_CASE("a program ends while its threads are in the middle of calls") {
  ServerUnderTest server;
  for (int i = 0; i < 10; ++i) {
    for (const std::string how : {"exit", "_exit"}) {
      CHECK(server.run({"threads", "end_while_mapping", how}).text() == kOk);
    }
  }
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
}

TEST_CASE("a program becomes another while its threads are in the middle of calls") {
  ServerUnderTest server;
  const std::string next = support::program_path("anonymous");
  for (int i = 0; i < 10; ++i) {
    CHECK(server.run({"threads", "exec_while_mapping", next, "private_memory"}).text() == kOk);
  }
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
}

TEST_CASE("calls of a vfork child are its parent's") {
  CHECK(result_of({"fork_memory", "calls_in_vfork_child"}) == kOk);
}

TEST_CASE("a hundred children at once are served") {
  CHECK(result_of({"fork_memory", "many_children", "100"}) == kOk);
}

TEST_CASE("a daemon that forks twice and closes everything is served") {
  ServerUnderTest server;
  const std::string done = server.directory() / "done";
  CHECK(server.run({"fork_memory", "daemon_like", done}).text() == kOk);
  CHECK(support::eventually([&] { return support::read_file(done) == "done"; }));
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
}

TEST_CASE("forty programs at once are served") {
  ServerUnderTest server;
  std::vector<support::Process> programs;
  for (int i = 0; i < 40; ++i) {
    programs.push_back(i % 2 == 0 ? server.start({"anonymous", "private_memory"})
                                  : server.start({"fork_memory", "grandchildren"}));
  }
  for (support::Process& program : programs) CHECK(program.wait().text() == kOk);
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
}

TEST_CASE("threads run on stacks that are served") {
  CHECK(result_of({"stacks", "of_threads"}) == kOk);
}

TEST_CASE("signals come to stacks that are served") {
  CHECK(result_of({"stacks", "of_signals", "200"}) == kOk);
  CHECK(result_of({"stacks", "alternate"}) == kOk);
}

TEST_CASE("locks in served memory wake who waits, in one program and in several") {
  CHECK(result_of({"futexes", "in_private"}) == kOk);
  CHECK(result_of({"futexes", "in_anonymous"}) == kOk);
  ServerUnderTest server;
  CHECK(server.run({"futexes", "in_file", server.file("f", std::string(kPage, ' '))}).text() ==
        kOk);
}
