#include <atomic>
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

using hal::PageIndex;
using hal::PageRange;
using vm::Error;

namespace {

constexpr std::size_t kPage = hal::kPageSize;

}  // namespace

TEST_CASE("anonymous pages are zero until they were written out, and then come back") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_ANON, {"--swap-dir", server.directory() / ""});
  auto opened = server.open_anonymous(300);
  REQUIRE(opened);
  test::Object& object = opened.value();
  REQUIRE(object.page_in(0, 300) == Error::none);
  CHECK(object.memory->next_absent(PageRange(PageIndex(0), 300)).empty());
  CHECK(object.read(0, 300 * kPage) == std::string(300 * kPage, '\0'));

  const std::string stored = test::pattern(200 * kPage);
  object.write(10 * kPage, stored);
  REQUIRE(object.page_out(10, 200) == Error::none);
  REQUIRE(object.page_out(100, 10) == Error::none);
  object.memory->discard(PageRange(PageIndex(0), 300));
  REQUIRE(object.page_in(0, 150) == Error::none);
  REQUIRE(object.page_in(150, 150) == Error::none);
  CHECK(object.read(0, 10 * kPage) == std::string(10 * kPage, '\0'));
  CHECK(object.read(10 * kPage, 200 * kPage) == stored);
  CHECK(object.read(210 * kPage, 90 * kPage) == std::string(90 * kPage, '\0'));
}

TEST_CASE("pages that are written out again have their newest content") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_ANON);
  auto one = server.open_anonymous(64);
  auto other = server.open_anonymous(64);
  REQUIRE(one);
  REQUIRE(other);
  for (unsigned round = 0; round < 20; ++round) {
    const std::string mine = test::pattern(64 * kPage, 2 * round);
    const std::string theirs = test::pattern(64 * kPage, 2 * round + 1);
    one.value().write(0, mine);
    other.value().write(0, theirs);
    // In pieces that cross each other, so that slots are not in the order of pages.
    REQUIRE(one.value().page_out(round, 20) == Error::none);
    REQUIRE(other.value().page_out(0, 64) == Error::none);
    REQUIRE(one.value().page_out(0, 64) == Error::none);
    one.value().memory->discard(PageRange(PageIndex(0), 64));
    other.value().memory->discard(PageRange(PageIndex(0), 64));
    REQUIRE(one.value().page_in(0, 64) == Error::none);
    REQUIRE(other.value().page_in(0, 64) == Error::none);
    REQUIRE(one.value().read(0, 64 * kPage) == mine);
    REQUIRE(other.value().read(0, 64 * kPage) == theirs);
  }
}

TEST_CASE("a shrunk anonymous object forgets what was behind its end") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_ANON);
  auto opened = server.open_anonymous(16);
  REQUIRE(opened);
  test::Object& object = opened.value();
  object.write(0, test::pattern(16 * kPage));
  REQUIRE(object.page_out(0, 16) == Error::none);
  object.pager->resize(4 * kPage);
  object.memory->resize(4);
  object.memory->resize(16);
  object.pager->resize(16 * kPage);
  REQUIRE(object.page_in(4, 12) == Error::none);
  CHECK(object.read(4 * kPage, 12 * kPage) == std::string(12 * kPage, '\0'));
}

TEST_CASE("anonymous pages that died with their pager are an error and never zeroes") {
  test::Server server;
  auto first = server.start_pager(PAGER_ANON);
  auto opened = server.open_anonymous(32);
  REQUIRE(opened);
  test::Object& object = opened.value();
  const std::string stored = test::pattern(8 * kPage);
  object.write(0, stored);
  REQUIRE(object.page_out(0, 8) == Error::none);
  object.memory->discard(PageRange(PageIndex(0), 4));
  first->kill();
  const auto second = server.start_pager(PAGER_ANON);

  CHECK(object.page_in(0, 4) == Error::io);
  CHECK(object.memory->next_resident(PageRange(PageIndex(0), 4)).empty());
  // Around the lost ones everything that can be filled is.
  CHECK(object.page_in(2, 30) == Error::io);
  CHECK(object.memory->next_absent(PageRange(PageIndex(4), 28)).empty());
  CHECK(object.read(4 * kPage, 4 * kPage) == stored.substr(4 * kPage));
  // Written out to the next pager they are safe again.
  REQUIRE(object.page_out(4, 4) == Error::none);
  object.memory->discard(PageRange(PageIndex(4), 4));
  REQUIRE(object.page_in(4, 4) == Error::none);
  CHECK(object.read(4 * kPage, 4 * kPage) == stored.substr(4 * kPage));
}

TEST_CASE(
    "pages at a pager that keeps are there again with the next one, and page-ins wait for it") {
  test::Server server;
  const std::vector<std::string> keeping{"--swap", server.directory() / "swap", "--keep"};
  auto first = server.start_pager(PAGER_ANON, keeping);
  auto opened = server.open_anonymous(64);
  auto other = server.open_anonymous(64);
  REQUIRE(opened);
  REQUIRE(other);
  test::Object& object = opened.value();
  std::atomic<int> told_lost = 0;
  object.pager->on_lost([&] { ++told_lost; });
  const std::string stored = test::pattern(40 * kPage);
  object.write(0, stored);
  // The pages from 40 on are not there; whoever writes them out has nothing to say of them.
  REQUIRE(object.page_out(0, 50) == Error::none);
  other.value().write(0, stored);
  REQUIRE(other.value().page_out(0, 40) == Error::none);
  object.memory->discard(PageRange(PageIndex(0), 64));
  first->kill();
  server.await_pagers(0);

  // While there is no pager: a fault, pages that are forgotten, pages that are written, an end.
  test::Transfer waiting(test::Transfer::Kind::page_in, PageRange(PageIndex(8), 8));
  object.pager->submit(waiting);
  object.pager->discard({PageRange(PageIndex(0), 4)});
  object.write(20 * kPage, test::pattern(kPage, 7));
  test::Transfer written(test::Transfer::Kind::page_out, PageRange(PageIndex(20), 1));
  object.pager->submit(written);
  other.value().pager.reset();
  CHECK_FALSE(waiting.ended());

  const auto second = server.start_pager(PAGER_ANON, keeping);
  REQUIRE(waiting.wait() == Error::none);
  REQUIRE(written.wait() == Error::none);
  CHECK(object.read(8 * kPage, 8 * kPage) == stored.substr(8 * kPage, 8 * kPage));
  object.memory->discard(PageRange(PageIndex(0), 64));
  REQUIRE(object.page_in(0, 64) == Error::none);
  CHECK(object.read(0, 4 * kPage) == std::string(4 * kPage, '\0'));
  CHECK(object.read(4 * kPage, 16 * kPage) == stored.substr(4 * kPage, 16 * kPage));
  CHECK(object.read(20 * kPage, kPage) == test::pattern(kPage, 7));
  CHECK(object.read(21 * kPage, 19 * kPage) == stored.substr(21 * kPage));
  CHECK(object.read(40 * kPage, 24 * kPage) == std::string(24 * kPage, '\0'));
  CHECK(told_lost == 0);
}

TEST_CASE("pages that a pager kept and the next one has not are an error and never zeroes") {
  test::Server server;
  auto first = server.start_pager(PAGER_ANON, {"--swap", server.directory() / "swap", "--keep"});
  auto opened = server.open_anonymous(32);
  REQUIRE(opened);
  test::Object& object = opened.value();
  std::atomic<int> told_lost = 0;
  object.pager->on_lost([&] { ++told_lost; });
  object.write(0, test::pattern(8 * kPage));
  REQUIRE(object.page_out(0, 8) == Error::none);
  object.memory->discard(PageRange(PageIndex(0), 8));
  first->kill();
  server.await_pagers(0);
  test::Transfer waiting(test::Transfer::Kind::page_in, PageRange(PageIndex(0), 2));
  object.pager->submit(waiting);

  SECTION("it keeps, in other files") {
    const auto second =
        server.start_pager(PAGER_ANON, {"--swap", server.directory() / "other", "--keep"});
    CHECK(waiting.wait() == Error::io);
    CHECK(object.page_in(2, 6) == Error::io);
    CHECK(object.page_in(8, 8) == Error::none);
  }
  SECTION("it does not keep") {
    const auto second = server.start_pager(PAGER_ANON);
    CHECK(waiting.wait() == Error::io);
    CHECK(object.page_in(2, 6) == Error::io);
    CHECK(object.page_in(8, 8) == Error::none);
  }
  CHECK(object.memory->next_resident(PageRange(PageIndex(0), 8)).empty());
  CHECK(told_lost == 1);
}

TEST_CASE("what a pager kept for another server is nobody's") {
  test::TemporaryDirectory directory;
  const std::vector<std::string> keeping{"--swap", directory / "swap", "--keep"};
  for (int round = 0; round < 2; ++round) {
    test::Server server;
    const auto pager = server.start_pager(PAGER_ANON, keeping);
    auto opened = server.open_anonymous(32);
    REQUIRE(opened);
    test::Object& object = opened.value();
    REQUIRE(object.page_in(0, 8) == Error::none);
    CHECK(object.read(0, 8 * kPage) == std::string(8 * kPage, '\0'));
    object.write(0, test::pattern(8 * kPage));
    REQUIRE(object.page_out(0, 8) == Error::none);
    // The object does not end: what it has stays in the file.
    pager->kill();
  }
}

TEST_CASE("an object of a pager with several swap files and compression is what was written out") {
  test::Server server;
  for (const char* compression : {"zstd", "lz4"}) {
    const std::string one = server.directory() / "one";
    const std::string two = server.directory() / "two";
    const auto pager = server.start_pager(
        PAGER_ANON, {"--swap", one + ":1M", "--swap", two, "--compress", compression});
    struct stat status;
    CHECK(::stat(one.c_str(), &status) == -1);
    CHECK(::stat(two.c_str(), &status) == -1);
    auto opened = server.open_anonymous(1024);
    REQUIRE(opened);
    test::Object& object = opened.value();
    const std::string stored = test::pattern(600 * kPage);
    object.write(100 * kPage, stored);
    REQUIRE(object.page_out(0, 1024) == Error::none);
    object.memory->discard(PageRange(PageIndex(0), 1024));
    REQUIRE(object.page_in(0, 1024) == Error::none);
    CHECK(object.read(0, 100 * kPage) == std::string(100 * kPage, '\0'));
    CHECK(object.read(100 * kPage, 600 * kPage) == stored);
    CHECK(object.read(700 * kPage, 324 * kPage) == std::string(324 * kPage, '\0'));
  }
}

TEST_CASE("a full swap is an error of the page-out, and the pages stay in memory") {
  test::Server server;
  const auto pager =
      server.start_pager(PAGER_ANON, {"--swap", (server.directory() / "swap") + ":64K"});
  auto opened = server.open_anonymous(32);
  REQUIRE(opened);
  test::Object& object = opened.value();
  const std::string stored = test::pattern(17 * kPage);
  object.write(0, stored);
  CHECK(object.page_out(0, 17) != Error::none);
  CHECK(test::captured_log().find("the swap is full (0 of 16 pages in use): ENOSPC") !=
        std::string::npos);
  CHECK(object.read(0, 17 * kPage) == stored);
  REQUIRE(object.page_out(0, 16) == Error::none);
}

TEST_CASE("what cannot be swap is a bad option: one line, status 2") {
  test::TemporaryDirectory directory;
  REQUIRE(::symlink("/dev/null", (directory / "link").c_str()) == 0);
  const std::vector<std::vector<std::string>> bad = {
      {"--swap", ""},
      {"--swap", ":1M"},
      {"--swap", (directory / "swap") + ":"},
      {"--swap", (directory / "swap") + ":1X"},
      {"--swap", (directory / "swap") + ":100"},
      {"--swap", directory / "link"},
      {"--swap", directory / ""},
      {"--swap", "/dev/null"},
      {"--swap", directory / "no/swap"},
      {"--compress", "gzip"},
      {"--keep", "--keep"},
  };
  for (const auto& options : bad) {
    CAPTURE(options);
    std::vector<std::string> arguments{PAGER_ANON};
    arguments.insert(arguments.end(), options.begin(), options.end());
    test::Child child(arguments);
    CHECK(child.wait() == 2);
    const std::string errors = child.errors();
    CAPTURE(errors);
    CHECK(errors.find("pager-anon: ") == 0);
    CHECK(errors.find(options[1].substr(0, options[1].rfind(':'))) != std::string::npos);
    CHECK(errors.find('\n') == errors.size() - 1);
    CHECK(errors.find("connect") == std::string::npos);
  }
}
