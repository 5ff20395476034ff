// sqlite3 with a database of 100 MB that it maps (PRAGMA mmap_size).
#include <catch2/catch.hpp>

#include "tests/real/comparison.h"

namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kDatabaseBytes = 100'000'000;

/// Makes the tables. All values follow from row numbers, so that two builds are alike byte for
/// byte.
const std::string kBuild = R"(
CREATE TABLE item(id INTEGER PRIMARY KEY, bucket INTEGER, name TEXT, body TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 210000)
INSERT INTO item SELECT i, i * 7919 % 1009, printf('item %08d', i * 104729 % 200003),
  printf('%0400d', i) FROM n;
CREATE INDEX item_name ON item(name);
CREATE INDEX item_bucket ON item(bucket, id);
)";

const std::string kQueries = R"(
SELECT count(*), sum(bucket), sum(length(body)) FROM item;
SELECT bucket, count(*), min(name), max(name) FROM item GROUP BY bucket ORDER BY bucket;
SELECT id, name FROM item WHERE name BETWEEN 'item 00010000' AND 'item 00010100' ORDER BY name;
SELECT count(*) FROM item WHERE body LIKE '%7777%';
SELECT a.id, b.id FROM item a JOIN item b ON a.bucket = b.bucket AND a.id < b.id
  WHERE a.id % 5003 = 1 ORDER BY a.id, b.id LIMIT 1000;
)";

const std::string kMapped = "PRAGMA mmap_size=1073741824;\n";

}  // namespace

TEST_CASE("sqlite3 queries a mapped database of 100 MB that it only reads", "[sqlite]") {
  real::Comparison comparison;
  const std::string database = (comparison.shared() / "data.db").string();
  real::Process build({{"sqlite3", database}, kBuild, "", real::plain_environment("/")});
  REQUIRE(build.wait().exited_with(0));
  REQUIRE(fs::file_size(database) > kDatabaseBytes);

  comparison.on_both([&](real::Side& side) {
    const real::Outcome& outcome = side.run({"sqlite3", "-readonly", database}, kMapped + kQueries);
    INFO(outcome.errors);
    CHECK(outcome.exited_with(0));
    CHECK(outcome.output.starts_with("1073741824\n210000|"));
  });
  comparison.check_same();
  comparison.check_served();
}

TEST_CASE("sqlite3 builds, queries and checks a database of 100 MB that it maps", "[sqlite]") {
  real::Comparison comparison;
  comparison.on_both([&](real::Side& side) {
    CHECK(side.run({"sqlite3", "data.db"}, kMapped + kBuild).exited_with(0));
    CHECK(fs::file_size(side.directory() / "data.db") > kDatabaseBytes);
    CHECK(side.run({"sqlite3", "data.db"}, kMapped + kQueries).exited_with(0));
    const real::Outcome& check =
        side.run({"sqlite3", "data.db"}, kMapped + "PRAGMA integrity_check;\n" + kQueries);
    CHECK(check.output.starts_with("1073741824\nok\n"));
  });
  comparison.check_same();
  comparison.check_served();
}
