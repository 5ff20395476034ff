// Several programs on one file, and what they leave in it.
#include <catch2/catch.hpp>
#include <cstring>

#include "tests/support/server.h"

using support::pattern;
using support::Process;
using support::ServerUnderTest;

namespace {

constexpr std::size_t kPage = 4096;
const std::string kOk = "status 0";

std::uint32_t word_at(const std::string& data, std::size_t offset) {
  std::uint32_t word = 0;
  REQUIRE(data.size() >= offset + sizeof(word));
  std::memcpy(&word, data.data() + offset, sizeof(word));
  return word;
}

}  // namespace

TEST_CASE("programs that map one file see each other's stores at once") {
  ServerUnderTest server;
  constexpr unsigned kPrograms = 4;
  const std::string path = server.file("f", std::string(kPrograms * kPage, '\0'));
  std::vector<Process> programs;
  for (unsigned i = 0; i < kPrograms; ++i) {
    programs.push_back(
        server.start({"sharing", "in_step", path, std::to_string(i), std::to_string(kPrograms)}));
  }
  for (Process& program : programs) CHECK(program.wait().text() == kOk);
  const std::string data = support::read_file(path);
  for (unsigned i = 0; i < kPrograms; ++i) CHECK(word_at(data, i * kPage) == 200);
}

// A fault that the server hears of after it has taken the map's new state for the old one would put
// a page of zeroes into the file's memory.
TEST_CASE("private memory in the place of a file's pages leaves these as they are") {
  ServerUnderTest server;
  constexpr std::size_t kPages = 16384;
  const std::string path = server.file("f", pattern(kPages * kPage));
  CHECK(server.run({"sharing", "replaced", path, std::to_string(kPages / 16)}).text() == kOk);
}

TEST_CASE("the same where pages leave") {
  ServerUnderTest server({.options = {"--memory", "8M"}});
  constexpr std::size_t kPages = 8192;
  const std::string path = server.file("f", pattern(kPages * kPage));
  CHECK(server.run({"sharing", "replaced", path, std::to_string(kPages / 8)}).text() == kOk);
}

TEST_CASE("atomic counting in a shared file mapping loses nothing between programs") {
  ServerUnderTest server;
  const std::string path = server.file("f", std::string(kPage, '\0'));
  std::vector<Process> programs;
  for (unsigned i = 0; i < 6; ++i) programs.push_back(server.start({"sharing", "counter", path}));
  for (Process& program : programs) CHECK(program.wait().text() == kOk);
  CHECK(word_at(support::read_file(path), 0) == 60'000);
}

TEST_CASE("a program reads at once what another one stored and did not sync") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  support::Command command = server.command({"ends", "stores_in_parts", path});
  command.asks = true;
  Process writer(command);
  writer.await_output("ready");
  CHECK(server.run({"sharing", "shows", path, "0", "238"}).text() == kOk);
  writer.say("x");
  writer.await_output("stored");
  CHECK(server.run({"sharing", "shows", path, "1", "221"}).text() == kOk);
  writer.say("x");
  CHECK(writer.wait().text() == kOk);
}

TEST_CASE("programs that store into different pages of one file keep each other's stores") {
  ServerUnderTest server;
  constexpr std::size_t kPages = 512;
  for (const std::string how : {"exit", "kill"}) {
    const std::string path = server.file("f-" + how, std::string(kPages * kPage, '\0'));
    std::vector<Process> programs;
    for (unsigned i = 0; i < 4; ++i) {
      programs.push_back(server.start({"sharing", "own_pages", path, std::to_string(i), "4", how}));
    }
    for (Process& program : programs) program.wait();
    std::string expected(kPages * kPage, '\0');
    for (std::size_t page = 0; page < kPages; ++page) {
      std::memset(expected.data() + page * kPage, static_cast<int>(page % 4 + 1), kPage);
    }
    INFO(how);
    CHECK(support::eventually([&] { return support::read_file(path) == expected; }));
  }
}
