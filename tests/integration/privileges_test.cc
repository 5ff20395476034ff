// Programs that give up rights or enter namespaces go on being served.
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "tests/support/server.h"

using support::pattern;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

// The socket is its user's alone: what gave up root can connect to nothing.
std::string result_of(const std::string& one) {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  const std::string root = server.directory() / "root";
  REQUIRE(mkdir(root.c_str(), 0755) == 0);
  const std::string result = server.run({"privileges", one, path, root}).text();
  CHECK(support::eventually([&] { return server.statistics().spaces == 0; }));
  return result;
}

}  // namespace

TEST_CASE("a program that becomes another user maps, faults and forks as before") {
  CHECK(result_of("nobody") == kOk);
}

TEST_CASE("a program that becomes another user and closes everything is served") {
  CHECK(result_of("nobody_closing_all") == kOk);
  CHECK(result_of("nobody_in_child_closing_all") == kOk);
}

TEST_CASE("a program that drops its capabilities is served") {
  CHECK(result_of("no_capabilities") == kOk);
}

TEST_CASE("a program that may gain no privileges is served") {
  CHECK(result_of("no_new_privileges") == kOk);
}

TEST_CASE("a program that is not dumpable is served") { CHECK(result_of("not_dumpable") == kOk); }

TEST_CASE("a program in another root directory is served") {
  CHECK(result_of("in_another_root") == kOk);
}

TEST_CASE("a program in another root that becomes another user and closes everything is served") {
  CHECK(result_of("in_another_root_closing_all") == kOk);
}

TEST_CASE("a program in mount, network and process namespaces of its own is served") {
  CHECK(result_of("own_mounts") == kOk);
  CHECK(result_of("own_network") == kOk);
  CHECK(result_of("own_processes") == kOk);
}

TEST_CASE("a program that enters another's namespace is served") {
  CHECK(result_of("enter_network") == kOk);
  CHECK(result_of("enter_mounts") == kOk);
}

TEST_CASE("a child that is made in a user namespace of its own is served") {
  CHECK(result_of("child_in_own_user") == kOk);
}
