#include <catch2/catch.hpp>

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
