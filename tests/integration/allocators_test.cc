// Programs with an allocator of their own, preloaded before or behind the library, or linked.
#include <catch2/catch.hpp>

#include "tests/support/server.h"

using support::ServerUnderTest;

namespace {

const std::string kOk = "status 0";
const std::vector<std::string> kCases = {"heap", "threads", "child"};
const std::vector<std::string> kAllocators = {"libjemalloc.so.2", "libmimalloc.so.2",
                                              "libtcmalloc.so.4"};

void check_cases(const std::string& program, const std::string& preload) {
  ServerUnderTest server;
  for (const std::string& one : kCases) {
    support::Command command = server.command({program, one});
    command.environment.back() = "LD_PRELOAD=" + preload;
    const support::Outcome outcome = support::run(command);
    INFO(preload << ": " << one);
    CHECK(outcome.text() == kOk);
    // Also that the allocator was found: the loader says so on stderr if not.
    CHECK(outcome.errors == "");
  }
  CHECK(server.statistics().calls.at("mmap") > 0);
}

}  // namespace

TEST_CASE("an allocator that is preloaded behind the library is served") {
  for (const std::string& allocator : kAllocators) {
    check_cases("libc_memory", support::shim_path() + ":" + allocator);
  }
}

TEST_CASE("an allocator that is preloaded before the library works") {
  for (const std::string& allocator : kAllocators) {
    check_cases("libc_memory", allocator + ":" + support::shim_path());
  }
}

TEST_CASE("an allocator that a program is linked with works") {
  const support::TemporaryDirectory directory;
  const std::string program = directory / "linked";
  support::Command compiler;
  compiler.arguments = {"/bin/sh", "-c",
                        "gcc -std=c17 -O1 -D_GNU_SOURCE -o " + program +
                            " '" SOURCE_ROOT
                            "/tests/programs/libc_memory.c' "
                            "-Wl,--no-as-needed -ltcmalloc -lpthread"};
  REQUIRE(support::run(compiler).text() == kOk);
  check_cases(program, support::shim_path());
  check_cases(program, support::shim_path() + ":libtcmalloc.so.4");
  check_cases(program, "libtcmalloc.so.4:" + support::shim_path());
}
