// Programs with a quarter of the memory that they have natively: results are the same, byte for byte.
#include <catch2/catch.hpp>
#include <fstream>
#include <functional>

#include "tests/real/comparison.h"
#include "tests/real/quarter.h"

namespace {

using Words = std::vector<std::string>;

/// Runs `words` as they are, and under a limit of a quarter of what they had resident at most.
void prove(real::Comparison& comparison, const Words& words, const std::string& input = {}) {
  std::uint64_t need = 0;
  comparison.on_both([&](real::Side& side) {
    side.set_patience(real::kQuarterPatience);
    if (side.served()) side.set_served_options({"--memory", std::to_string(need / 4)});
    const real::Outcome& outcome = side.run(words, input);
    INFO(outcome.errors);
    CHECK(outcome.exited_with(0));
    if (!side.served()) need = outcome.peak_bytes;
  });
  INFO("natively at most " << (need >> 20) << " MiB were resident");
  comparison.check_same();
  comparison.check_served();
  comparison.check_paged();
}

/// Lines in no order, of about 500 bytes.
void write_lines(const std::filesystem::path& path, std::uint64_t bytes) {
  std::ofstream file(path, std::ios::binary);
  std::uint64_t random = 1;
  const std::string rest(480, 'x');
  for (std::uint64_t written = 0; written < bytes; written += rest.size() + 21) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::string number = std::to_string(random);
    number.insert(0, 20 - number.size(), '0');
    file << number << rest << '\n';
  }
  REQUIRE(file.flush());
}

/// Functions that the compiler holds all at once.
void write_source(const std::filesystem::path& path, std::uint64_t functions) {
  std::ofstream file(path, std::ios::binary);
  for (std::uint64_t i = 0; i < functions; ++i) {
    const std::string n = std::to_string(i);
    file << "int f" << n << "(const int* a, int n) {\n  int sum = " << n << ";\n"
         << "  for (int i = 0; i < n; ++i) for (int j = 0; j < i % 7; ++j) sum += a[i] * (j + " << n
         << ") ^ (sum >> " << i % 13 + 1 << ");\n"
         << "  switch (sum % 5) { case 0: return sum; case 1: return sum * 3; case 2: return "
            "sum - 1; default: return -sum; }\n}\n";
  }
  REQUIRE(file.flush());
}

}  // namespace

TEST_CASE("sort sorts what is several times its memory", "[sort]") {
  real::Comparison comparison;
  const std::filesystem::path lines = comparison.shared() / "lines";
  write_lines(lines, real::quarter_bytes());
  // All of it in memory, however much there is.
  prove(comparison, {"sort", "-S", "8G", "--parallel=2", "-o", "sorted", lines.string()});
}

TEST_CASE("python3 fills a dictionary and finds in it what it put there", "[python]") {
  real::Comparison comparison;
  prove(comparison, {"python3", REAL_SCRIPTS "/python_dictionary.py",
                     std::to_string(real::quarter_bytes() / 180)});
}

TEST_CASE("sqlite3 queries a mapped database of several times its memory", "[sqlite]") {
  real::Comparison comparison;
  const std::string rows = std::to_string(real::quarter_bytes() / 480);
  prove(comparison, {"sqlite3", "data.db"},
        "PRAGMA mmap_size=2147483648;\n"
        "CREATE TABLE item(id INTEGER PRIMARY KEY, bucket INTEGER, name TEXT, body TEXT);\n"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " +
            rows +
            ")\n"
            "INSERT INTO item SELECT i, i * 7919 % 1009, printf('item %08d', i * 104729 % 200003),\n"
            "  printf('%0400d', i) FROM n;\n"
            "CREATE INDEX item_bucket ON item(bucket, id);\n"
            "SELECT count(*), sum(bucket), sum(length(body)) FROM item;\n"
            "SELECT bucket, count(*), min(name), max(name) FROM item GROUP BY bucket;\n"
            "UPDATE item SET body = upper(body) WHERE id % 97 = 0;\n"
            "PRAGMA integrity_check;\n");
}

TEST_CASE("gcc compiles a large file", "[gcc]") {
  real::Comparison comparison;
  const std::filesystem::path source = comparison.shared() / "source.c";
  write_source(source, real::quarter_tenths() * 400);
  prove(comparison, {"gcc", "-O2", "-S", source.string(), "-o", "source.s"});
}

TEST_CASE("a hundred children of a parent most of which is in swap have what it had", "[children]") {
  real::Comparison comparison;
  const std::string megabytes = std::to_string(std::max<std::uint64_t>(real::quarter_tenths() * 10, 8));
  prove(comparison, {TEST_PROGRAMS "/more_memory", "children", megabytes, "100"});
}

TEST_CASE("stress-ng --vm finds no failure with a quarter of its memory", "[stress]") {
  // Not compared with a native run: its lines tell pids and times, and how far it came.
  const std::uint64_t each = real::quarter_tenths() * 51 << 20;
  const real::TemporaryDirectory directory;
  const real::Command command{{"stress-ng", "--vm", "2", "--vm-bytes", std::to_string(2 * each),
                               "--vm-method", "all", "--verify", "-t", "60s"},
                              "",
                              directory.path().string(),
                              real::plain_environment(directory.path())};
  real::Served program(command, directory.path(), {"--memory", std::to_string(2 * each / 4)});
  const real::Outcome outcome = program.wait(real::kQuarterPatience);
  const std::string said = outcome.output + outcome.errors;
  INFO(said);
  INFO(program.statistics().dump());
  CHECK(outcome.exited_with(0));
  CHECK(said.find("successful run completed") != std::string::npos);
  CHECK(said.find("fail:") == std::string::npos);
  CHECK(said.find("error:") == std::string::npos);
  CHECK(program.statistics()["failed_faults"].get<std::uint64_t>() == 0);
  CHECK(program.statistics()["pageouts"].get<std::uint64_t>() > 0);
}
