// One view of a file: a served program's mapping, and this test, which is not served.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/mapper.h"
#include "tests/support/server.h"

using support::eventually;
using support::Mapper;
using support::pattern;
using support::Process;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kPages = 64;
const std::string kOk = "status 0";
/// What is promised.
constexpr std::chrono::seconds kSoon{1};

class HostFile {
 public:
  explicit HostFile(const std::string& path) : file_(open(path.c_str(), O_RDWR | O_CLOEXEC)) {
    REQUIRE(file_.get() >= 0);
  }
  unsigned byte(std::size_t offset) const {
    unsigned char value = 0;
    REQUIRE(pread(file_.get(), &value, 1, static_cast<off_t>(offset)) == 1);
    return value;
  }
  void write(std::size_t offset, unsigned value) {
    const auto byte = static_cast<unsigned char>(value);
    REQUIRE(pwrite(file_.get(), &byte, 1, static_cast<off_t>(offset)) == 1);
  }
  void resize(std::size_t bytes) { REQUIRE(ftruncate(file_.get(), static_cast<off_t>(bytes)) == 0); }
  std::uint32_t word(std::size_t offset) const {
    std::uint32_t word = 0;
    REQUIRE(pread(file_.get(), &word, sizeof(word), static_cast<off_t>(offset)) == sizeof(word));
    return word;
  }

 private:
  tools::UniqueFd file_;
};

std::string loaded(unsigned value) { return "loaded " + std::to_string(value); }

}  // namespace

TEST_CASE("what a program stores is in the file within a second, without msync") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kPages * kPage));
  HostFile file(path);
  Mapper mapper(server, path);
  REQUIRE(mapper.ask("map shared rw") == "mapped");
  for (unsigned round = 1; round <= 3; ++round) {
    mapper.store(5 * kPage + 7, round);
    CHECK(eventually([&] { return file.byte(5 * kPage + 7) == round; }, kSoon));
  }
}

TEST_CASE("what others write shows in mappings within a second") {
  const std::string kind = GENERATE("shared r", "shared rw", "private r", "private rw");
  INFO(kind);
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kPages * kPage));
  HostFile file(path);
  Mapper mapper(server, path);
  REQUIRE(mapper.ask("map " + kind) == "mapped");
  for (unsigned round = 1; round <= 3; ++round) {
    mapper.load(9 * kPage);
    file.write(9 * kPage, round);
    CHECK(eventually([&] { return mapper.load(9 * kPage) == loaded(round); }, kSoon));
  }
}

TEST_CASE("a page that a program only reads is never written back over what others wrote") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kPages * kPage));
  HostFile file(path);
  Mapper mapper(server, path);
  REQUIRE(mapper.ask("map shared rw") == "mapped");
  for (unsigned round = 1; round <= 4; ++round) {
    file.write(3 * kPage, round);
    CHECK(eventually([&] { return mapper.load(3 * kPage) == loaded(round); }, kSoon));
    // Pages that came anew, and one that is stored to so that there is something to write.
    mapper.store(4 * kPage, round);
    file.write(3 * kPage + 1, round);
    CHECK(eventually([&] { return mapper.load(3 * kPage + 1) == loaded(round); }, kSoon));
    CHECK(eventually([&] { return file.byte(4 * kPage) == round; }, kSoon));
    CHECK(file.byte(3 * kPage) == round);
    CHECK(file.byte(3 * kPage + 1) == round);
  }
}

TEST_CASE("a new mapping shows what others wrote just before") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(kPages * kPage));
  HostFile file(path);
  Mapper other(server, path);
  REQUIRE(other.ask("map shared rw") == "mapped");
  Mapper mapper(server, path);
  for (unsigned round = 0; round < 200; ++round) {
    other.store(6 * kPage + 1, round % 200);
    file.write(8 * kPage, round % 251);
    REQUIRE(mapper.ask("map shared r") == "mapped");
    REQUIRE(mapper.load(8 * kPage) == loaded(round % 251));
    REQUIRE(mapper.load(6 * kPage + 1) == loaded(round % 200));
  }
}

TEST_CASE("stores and what others write to other pages are both kept, however they race") {
  ServerUnderTest server;
  const std::string path = server.file("f", std::string(kPages * kPage, '\0'));
  HostFile file(path);
  Mapper mapper(server, path);
  REQUIRE(mapper.ask("map shared rw") == "mapped");
  REQUIRE(mapper.ask("hammer") == "hammering");
  unsigned round = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(6);
  while (std::chrono::steady_clock::now() < end) {
    ++round;
    for (std::size_t page = 1; page < kPages; page += 2) file.write(page * kPage, round % 251);
    usleep(20'000);  // the pace of the changes, not what the test relies on
  }
  const std::string answer = mapper.ask("sync");
  // Two lines: what it had counted, and that it is synced.
  REQUIRE(eventually([&] {
    return mapper.process().output().find("synced") != std::string::npos ||
           mapper.process().ended();
  }));
  const std::string output = mapper.process().output();
  const std::size_t at = output.find("hammered ");
  INFO(output << mapper.process().errors() << answer);
  REQUIRE(at != std::string::npos);
  const auto count = static_cast<std::uint32_t>(std::strtoul(output.c_str() + at + 9, nullptr, 10));
  CHECK(count > 64);
  for (std::size_t page = 0; page < kPages; page += 2) CHECK(file.word(page * kPage) == count);
  for (std::size_t page = 1; page < kPages; page += 2) {
    CHECK(file.byte(page * kPage) == round % 251);
    const std::string shown = loaded(round % 251);
    CHECK(eventually([&] { return mapper.load(page * kPage) == shown; }, kSoon));
  }
}

TEST_CASE("files that are left to the host are one with what everybody sees") {
  ServerUnderTest server({.options = {"--host-files", "*/f"}});
  const std::string path = server.file("f", pattern(kPages * kPage));
  HostFile file(path);
  Mapper mapper(server, path);
  REQUIRE(mapper.ask("map shared rw") == "mapped");
  for (unsigned round = 1; round <= 100; ++round) {
    mapper.store(kPage, round);
    REQUIRE(file.byte(kPage) == round);
    file.write(2 * kPage, round);
    REQUIRE(mapper.load(2 * kPage) == loaded(round));
  }
  CHECK(server.statistics().objects == 0);
}

TEST_CASE("a file that others make longer or shorter takes its mappings along") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(2 * kPage + 100));
  HostFile file(path);
  Mapper mapper(server, path);
  REQUIRE(mapper.ask("map shared rw") == "mapped");
  CHECK(mapper.load(3 * kPage) == "loaded -");
  mapper.store(2 * kPage + 300, 99);  // behind the end: never in the file
  mapper.store(2 * kPage + 50, 98);
  file.resize(10 * kPage);
  file.write(9 * kPage, 42);
  CHECK(eventually([&] { return mapper.load(9 * kPage) == loaded(42); }, kSoon));
  CHECK(mapper.load(2 * kPage + 300) == loaded(0));
  CHECK(mapper.load(2 * kPage + 50) == loaded(98));
  CHECK(eventually([&] { return file.byte(2 * kPage + 50) == 98; }, kSoon));
  CHECK(file.byte(2 * kPage + 300) == 0);
  file.resize(kPage + 10);
  CHECK(eventually([&] { return mapper.load(2 * kPage) == "loaded -"; }, kSoon));
  CHECK(mapper.load(kPage + 10) == loaded(0));
  mapper.store(kPage + 5, 97);
  CHECK(eventually([&] { return file.byte(kPage + 5) == 97; }, kSoon));
  struct stat status {};
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK(status.st_size == kPage + 10);
}

// What each does it finds again at once, also while others store into, write, sync, map and resize the
// same pages; and at the end the file has all of it.
TEST_CASE("bytes that programs store and write beside each other in one page are all kept") {
  ServerUnderTest server;
  const std::string path = server.file("f", std::string(16 * kPage, '\0'));
  const std::vector<std::string> kinds = {"s", "w", "sw", "sy", "wy", "swm", "wt", "swh"};
  std::vector<Process> programs;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    support::Command command = server.command({"file_race", kinds[i], path, std::to_string(i)});
    command.asks = true;
    programs.emplace_back(command);
    programs.back().await_output("running");
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(6);
  REQUIRE(eventually([&] {
    return std::chrono::steady_clock::now() > end ||
           std::any_of(programs.begin(), programs.end(), [](auto& one) { return one.ended(); });
  }, std::chrono::seconds(20)));
  HostFile file(path);
  std::vector<std::uint32_t> counts;
  for (Process& program : programs) program.say("end\n");
  for (Process& program : programs) {
    const support::Outcome outcome = program.wait();
    REQUIRE(outcome.text() == "status 0");
    counts.push_back(static_cast<std::uint32_t>(
        std::strtoul(outcome.output.c_str() + std::strlen("running\n"), nullptr, 10)));
  }
  // A program of threads did not wait for itself.
  CHECK(server.log().find("waited for no longer") == std::string::npos);
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    INFO(kinds[i]);
    CHECK(counts[i] >= 16);
    for (std::size_t page = 0; page < 16; ++page) CHECK(file.word(page * kPage + 64 * i) == counts[i]);
  }
}
