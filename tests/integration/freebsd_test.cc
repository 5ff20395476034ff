// Programs built with FreeBSD's numbers: tests/programs/freebsd, built by pkg-config's words alone
// and linked to the library, so that they need no LD_PRELOAD.
#include <catch2/catch.hpp>

#include <filesystem>

#include "tests/support/server.h"

using support::Command;
using support::Outcome;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

void remove_variable(Command& command, const std::string& name) {
  std::erase_if(command.environment,
                [&](const std::string& one) { return one.starts_with(name + "="); });
}

Command linked(const ServerUnderTest& server, const std::vector<std::string>& arguments) {
  std::vector<std::string> words = arguments;
  words.front().insert(0, "freebsd/");
  Command command = server.command(words);
  remove_variable(command, "LD_PRELOAD");
  return command;
}

std::string result_of(const std::string& program, const std::string& one) {
  ServerUnderTest server;
  return support::run(linked(server, {program, one})).text();
}

/// The same with a file of four pages, which holds the pattern.
std::string result_with_file(const std::string& program, const std::string& one) {
  ServerUnderTest server;
  const std::string file = server.file("f", support::pattern(4 * kPage));
  return support::run(linked(server, {program, one, file})).text();
}

Outcome run_unserved(const std::vector<std::string>& arguments) {
  const support::TemporaryDirectory directory;
  Command command;
  command.arguments = arguments;
  command.arguments.front() = support::program_path("freebsd/" + arguments.front());
  command.environment.push_back("VMSHIM_SOCKET=" + directory / "none");
  command.environment.push_back("VMSHIM_ON_ERROR=native");
  return support::run(command);
}

/// Its stderr begins with the line that says there is no server.
void check_unserved(const std::string& program, const std::string& one) {
  INFO(program << " " << one);
  const Outcome outcome = run_unserved({program, one});
  INFO(outcome.text());
  CHECK(outcome.status == 0);
  CHECK(outcome.errors.find("no VM server") != std::string::npos);
}

}  // namespace

TEST_CASE("a program linked to the library is served without LD_PRELOAD") {
  ServerUnderTest server;
  CHECK(support::run(linked(server, {"mapping", "anonymous"})).text() == kOk);
  const support::Statistics counts = server.statistics();
  CHECK(counts.calls.at("mmap") >= 1);
  CHECK(counts.calls.at("munmap") >= 1);
  CHECK(counts.forks == 1);
}

TEST_CASE("a program linked to the library may be preloaded, too, and has one session") {
  ServerUnderTest server;
  CHECK(server.run({"freebsd/mapping", "shared"}).text() == kOk);
  CHECK(server.run({"freebsd/mapping", "host_numbers"}).text() == kOk);
  CHECK(server.statistics().sessions_rejected == 0);
}

TEST_CASE("a linked program without a server ends with one line and 127") {
  const support::TemporaryDirectory directory;
  Command command;
  command.arguments = {support::program_path("freebsd/mapping"), "anonymous"};
  command.environment.push_back("VMSHIM_SOCKET=" + directory / "none");
  const Outcome outcome = support::run(command);
  CHECK(outcome.status == 127);
  CHECK(outcome.errors.find("no VM server") != std::string::npos);
}

TEST_CASE("all headers go together in a C++ program") { CHECK(result_of("headers", "") == kOk); }

TEST_CASE("MAP_ANON without a sharing flag is private memory") {
  CHECK(result_of("mapping", "anonymous") == kOk);
}

TEST_CASE("MAP_ANON with MAP_SHARED is shared with children") {
  CHECK(result_of("mapping", "shared") == kOk);
}

TEST_CASE("MAP_NOCORE, MAP_NOSYNC and other wishes give ordinary memory") {
  CHECK(result_of("mapping", "wishes") == kOk);
}

TEST_CASE("MAP_STACK is read-write memory by itself") {
  CHECK(result_of("mapping", "stack") == kOk);
}

TEST_CASE("MAP_FIXED with FreeBSD's number replaces what is there") {
  CHECK(result_of("mapping", "fixed") == kOk);
}

TEST_CASE("errors of FreeBSD's mmap have the host's errno") {
  CHECK(result_of("mapping", "refusals") == kOk);
}

TEST_CASE("MAP_COPY of a file is private") { CHECK(result_with_file("mapping", "file") == kOk); }

TEST_CASE("SHM_ANON is memory to be shared without a name") {
  CHECK(result_of("mapping", "shm_anon") == kOk);
}

TEST_CASE("shm_open with a name is libc's") { CHECK(result_of("mapping", "shm_named") == kOk); }

TEST_CASE("the host's names keep the host's numbers in the same program") {
  CHECK(result_of("mapping", "host_numbers") == kOk);
}

TEST_CASE("getpagesizes knows one size") { CHECK(result_of("mapping", "page_sizes") == kOk); }

TEST_CASE("mprotect covers the pages that it touches") {
  CHECK(result_of("attributes", "protection") == kOk);
}

TEST_CASE("FreeBSD's MADV_DONTNEED keeps private data") {
  CHECK(result_of("attributes", "dontneed_keeps") == kOk);
}

TEST_CASE("FreeBSD's MADV_FREE forgets what is not stored again") {
  CHECK(result_of("attributes", "free_forgets") == kOk);
}

TEST_CASE("all of FreeBSD's advice is taken and data stays") {
  CHECK(result_of("attributes", "hints") == kOk);
}

TEST_CASE("FreeBSD's numbers reach the host's memory translated") {
  CHECK(result_of("attributes", "host_memory") == kOk);
}

TEST_CASE("INHERIT_NONE and INHERIT_COPY of private memory") {
  CHECK(result_of("attributes", "inherit_none") == kOk);
  CHECK(result_of("attributes", "inherit_copy") == kOk);
}

TEST_CASE("mincore answers with MINCORE_INCORE for touched pages") {
  CHECK(result_of("residency", "core_bits") == kOk);
}

TEST_CASE("MS_SYNC, which is 0, writes a range to its file") {
  CHECK(result_with_file("residency", "sync_range") == kOk);
}

TEST_CASE("msync of length 0 writes all of the mapping") {
  CHECK(result_with_file("residency", "sync_all") == kOk);
}

TEST_CASE("MS_ASYNC with MS_INVALIDATE is EINVAL") {
  CHECK(result_of("residency", "sync_refusals") == kOk);
}

TEST_CASE("mlock makes pages resident and mlockall knows two flags") {
  CHECK(result_of("residency", "lock") == kOk);
}

TEST_CASE("FreeBSD's sbrk is refused") { CHECK(result_of("residency", "heap") == kOk); }

TEST_CASE("4.3BSD's mmap has its own bits for protection and flags") {
  CHECK(result_of("old_mmap", "anonymous") == kOk);
  CHECK(result_of("old_mmap", "protection") == kOk);
  CHECK(result_of("old_mmap", "refusals") == kOk);
  CHECK(result_with_file("old_mmap", "file") == kOk);
}

TEST_CASE("unserved, FreeBSD's numbers become the host's") {
  for (const std::string one : {"anonymous", "shared", "wishes", "stack", "fixed", "refusals",
                                "shm_anon", "shm_named", "host_numbers", "page_sizes"}) {
    check_unserved("mapping", one);
  }
  for (const std::string one :
       {"protection", "dontneed_keeps", "free_forgets", "hints", "host_memory", "inherit_none"}) {
    check_unserved("attributes", one);
  }
  for (const std::string one : {"core_bits", "sync_refusals", "lock"}) {
    check_unserved("residency", one);
  }
}

TEST_CASE("unserved, what the host cannot keep is refused") {
  check_unserved("attributes", "unserved_refusals");
  check_unserved("old_mmap", "unserved");
}

TEST_CASE("an installed tree builds and serves a FreeBSD source") {
  const support::TemporaryDirectory directory;
  const std::string tree = directory / "tree";
  const auto shell = [](const std::string& words) {
    Command command;
    command.arguments = {"/bin/sh", "-euc", words};
    command.environment.push_back("LC_ALL=C");
    return support::run(command, std::chrono::seconds(60)).text();
  };
  REQUIRE(shell("meson install -C '" TEST_BUILD "' --no-rebuild --quiet --destdir '" + tree +
                "' >/dev/null") == kOk);
  const std::string libraries = tree + TEST_LIBDIR;
  REQUIRE(std::filesystem::exists(libraries + "/libvmshim.so"));
  REQUIRE(shell("unset PKG_CONFIG_PATH\nexport PKG_CONFIG_LIBDIR='" + libraries +
                "/pkgconfig' PKG_CONFIG_SYSROOT_DIR='" + tree + "'\ncc -Werror -o '" +
                directory / "program" +
                "' '" TEST_SOURCES "/programs/freebsd/mapping.c' "
                "$(pkg-config --cflags --libs vmshim-freebsd)") == kOk);

  ServerUnderTest server;
  Command command = server.command({directory / "program", "anonymous"});
  remove_variable(command, "LD_PRELOAD");
  command.environment.push_back("LD_LIBRARY_PATH=" + libraries);
  CHECK(support::run(command).text() == kOk);
  CHECK(server.statistics().calls.at("mmap") >= 1);
}
