// What msync promises, on a disk that fails: no error is swallowed, and nothing is lost of which a
// program was told that it is there.
#include <catch2/catch.hpp>
#include <csignal>

#include "tests/support/failing_disk.h"
#include "tests/support/mapper.h"
#include "tests/support/server.h"

using support::eventually;
using support::FailingDisk;
using support::Mapper;
using support::pattern;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPages = 64;

struct Fixture {
  FailingDisk disk;
  ServerUnderTest server;
  const std::string path = disk / "file";
  std::unique_ptr<Mapper> mapper;

  Fixture() {
    support::write_file(path, pattern(kPages * kPage));
    mapper = std::make_unique<Mapper>(server, path);
    REQUIRE(mapper->ask("map shared rw") == "mapped");
  }
};

}  // namespace

TEST_CASE("msync returns when the data is on the disk") {
  Fixture f;
  for (unsigned round = 1; round <= 5; ++round) {
    f.mapper->store(5 * kPage + 7, round);
    REQUIRE(f.mapper->ask("sync") == "synced");
    CHECK(FailingDisk::byte(f.path, 5 * kPage + 7) == round);
  }
}

TEST_CASE("msync fails for as long as the disk does, and succeeds once everything is there") {
  Fixture f;
  f.mapper->store(5 * kPage, 11);
  f.mapper->store(9 * kPage, 21);
  REQUIRE(f.mapper->ask("sync") == "synced");
  f.disk.fail(f.path);
  f.mapper->store(5 * kPage, 12);
  // The host forgets an error once it has told it.
  for (int i = 0; i < 4; ++i) CHECK(f.mapper->ask("try sync") == "error 5");
  f.mapper->store(9 * kPage, 22);
  CHECK(f.mapper->ask("try sync") == "error 5");
  f.disk.heal();
  CHECK(f.mapper->ask("try sync") == "synced");
  CHECK(FailingDisk::byte(f.path, 5 * kPage) == 12);
  CHECK(FailingDisk::byte(f.path, 9 * kPage) == 22);
}

TEST_CASE("an error that the program's fsync was told is still msync's, and the other way round") {
  Fixture f;
  f.mapper->store(5 * kPage, 11);
  REQUIRE(f.mapper->ask("sync") == "synced");
  f.disk.fail(f.path);
  f.mapper->store(5 * kPage, 12);
  SECTION("fsync first") {
    CHECK(f.mapper->ask("try fsync").starts_with("error "));
    CHECK(f.mapper->ask("try sync") == "error 5");
  }
  SECTION("msync first") {
    CHECK(f.mapper->ask("try sync") == "error 5");
    CHECK(f.mapper->ask("try fsync").starts_with("error "));
    // What failed then is told to msync as well, once.
    f.disk.heal();
    CHECK(f.mapper->ask("try sync") == "error 5");
    CHECK(f.mapper->ask("try sync") == "synced");
    CHECK(FailingDisk::byte(f.path, 5 * kPage) == 12);
    return;
  }
  f.disk.heal();
  CHECK(f.mapper->ask("try sync") == "synced");
  CHECK(FailingDisk::byte(f.path, 5 * kPage) == 12);
}

TEST_CASE("what the syncer wrote while the disk failed is not forgotten") {
  Fixture f;
  f.mapper->store(5 * kPage, 11);
  REQUIRE(f.mapper->ask("sync") == "synced");
  f.disk.fail(f.path);
  const std::uint64_t before = f.server.statistics().pageouts;
  f.mapper->store(5 * kPage, 12);
  REQUIRE(eventually([&] { return f.server.statistics().pageouts > before; }));
  CHECK(f.mapper->ask("try sync") == "error 5");
  f.disk.heal();
  CHECK(f.mapper->ask("try sync") == "synced");
  CHECK(FailingDisk::byte(f.path, 5 * kPage) == 12);
}

TEST_CASE("a server that ends waits for a pager that takes its time") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kPages * kPage));
  {
    Mapper mapper(server, path);
    REQUIRE(mapper.ask("map shared rw") == "mapped");
    mapper.store(3 * kPage, 77);
    server.pager("file").freeze();
  }
  server.process().signal(SIGTERM);
  // Longer than programs have to go.
  CHECK_FALSE(eventually([&] { return server.process().ended(); }, std::chrono::seconds(12)));
  server.pager("file").thaw();
  const support::Outcome outcome = server.process().wait();
  INFO(outcome.text());
  CHECK(outcome.status == 0);
  CHECK(static_cast<unsigned char>(support::read_file(path)[3 * kPage]) == 77);
}
