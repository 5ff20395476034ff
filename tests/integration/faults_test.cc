// Faults: from kernel mode, how many pages one brings in, and what several programs see of each
// other's.
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <functional>

#include <catch2/catch.hpp>

#include "tests/support/eventually.h"
#include "tests/support/server.h"

using support::pattern;
using support::ServerUnderTest;
using support::Statistics;

namespace {

constexpr std::size_t kMib = std::size_t{1} << 20;
constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

// A fault is counted once it has been answered: the program may have ended a moment before that.
Statistics once(ServerUnderTest& server, const std::function<bool(const Statistics&)>& counted) {
  Statistics seen;
  support::eventually([&] { return counted(seen = server.statistics()); });
  return seen;
}

std::string kernel_access(const std::string& one) {
  ServerUnderTest server;
  return server.run({"kernel_access", one, server.file("f", pattern(kMib))}).text();
}

}  // namespace

TEST_CASE("read(2) from a pipe fills memory never touched before") {
  CHECK(kernel_access("read_from_pipe") == kOk);
}

TEST_CASE("read(2) from a file fills memory never touched before") {
  CHECK(kernel_access("read_from_file") == kOk);
}

TEST_CASE("write(2) reads from a file mapping never touched before") {
  CHECK(kernel_access("write_from_mapping") == kOk);
}

TEST_CASE("write(2) reads zeroes from anonymous memory never touched before") {
  CHECK(kernel_access("write_from_anonymous") == kOk);
}

TEST_CASE("O_DIRECT reads into and writes from memory never touched before") {
  CHECK(kernel_access("direct") == kOk);
}

TEST_CASE("arguments of system calls may lie in memory never touched before") {
  CHECK(kernel_access("arguments_of_calls") == kOk);
}

TEST_CASE("sequential private memory takes few faults, as its window grows") {
  ServerUnderTest server;
  const Statistics before = server.statistics();
  CHECK(server.run({"touch", "sequential", "64"}).text() == kOk);
  const Statistics after = once(server, [&](const Statistics& now) {
    return now.zero_fills - before.zero_fills >= 64 * kMib / kPage;
  });
  CHECK(after.zero_fills - before.zero_fills >= 64 * kMib / kPage);
  // A window that speeds ahead of the touches may pass the end of nothing: what is not mapped is
  // not filled.
  CHECK(after.zero_fills - before.zero_fills < 64 * kMib / kPage + 1000);
  CHECK(after.faults - before.faults < 300);
}

TEST_CASE("private memory touched at random brings one page a fault") {
  ServerUnderTest server;
  const Statistics before = server.statistics();
  constexpr std::uint64_t kTouched = 2000;
  CHECK(server.run({"touch", "at_random", std::to_string(kTouched)}).text() == kOk);
  const Statistics after = once(server, [&](const Statistics& now) {
    return now.zero_fills - before.zero_fills >= kTouched;
  });
  const std::uint64_t faults = after.faults - before.faults;
  CHECK(faults >= kTouched);
  CHECK(after.zero_fills - before.zero_fills >= kTouched);
  CHECK(after.zero_fills - before.zero_fills <= faults + 100);
}

TEST_CASE("a file comes in clusters") {
  ServerUnderTest server;
  const std::string path = server.file("large", "");
  constexpr std::size_t kFile = 256 * kMib;
  REQUIRE(truncate(path.c_str(), static_cast<off_t>(kFile)) == 0);
  const Statistics before = server.statistics();
  CHECK(server.run({"touch", "file", path, "256"}).text() == kOk);
  const Statistics after = once(server, [&](const Statistics& now) {
    return now.pageins - before.pageins >= kFile / kPage;
  });
  CHECK(after.pageins - before.pageins == kFile / kPage);
  CHECK(after.faults - before.faults < kFile / kPage / 50);
}

TEST_CASE("pages of a file that are there cost the next program no fault each") {
  ServerUnderTest server;
  const std::string path = server.file("shared", std::string(16 * kMib, '\0'));
  // A younger file may have changed since its times were looked at, and is read anew.
  REQUIRE(support::eventually([&] {
    struct stat status {};
    timespec now{};
    REQUIRE(stat(path.c_str(), &status) == 0);
    REQUIRE(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (now.tv_sec - status.st_ctim.tv_sec) * 1000 +
               (now.tv_nsec - status.st_ctim.tv_nsec) / 1'000'000 > 50;
  }));
  // Holds the file's object while the two others come and go.
  support::Process holder = server.start({"ends", "waits", path});
  holder.await_output("waiting");
  CHECK(server.run({"touch", "file_but_first", path, "16"}).text() == kOk);
  const Statistics before = once(
      server, [](const Statistics& now) { return now.pageins >= 16 * kMib / kPage - 1; });
  CHECK(server.run({"touch", "file_but_first", path, "16"}).text() == kOk);
  const Statistics after = server.statistics();
  CHECK(after.pageins == before.pageins);
  CHECK(after.faults - before.faults < 20);
  holder.kill();
}
