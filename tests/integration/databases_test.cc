// Databases whose processes share files through mappings, read and write, some of them not served.
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <sstream>

#include "tests/support/numbers.h"
#include "tests/support/server.h"

using support::Command;
using support::Outcome;
using support::Process;
using support::ServerUnderTest;

namespace {

std::vector<std::string> peer(const std::string& script, std::vector<std::string> arguments) {
  std::vector<std::string> words = {"/usr/bin/python3", "-B",
                                    std::string(DATABASE_SCRIPTS) + "/" + script};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

Command unserved(std::vector<std::string> words) {
  Command command;
  command.arguments = std::move(words);
  return command;
}

std::uint64_t last_number(const std::string& output) {
  // Of whole lines: a process that is killed may leave half of one.
  const std::size_t end = output.rfind('\n');
  if (end == std::string::npos) return 0;
  const std::size_t start = end == 0 ? 0 : output.rfind('\n', end - 1);
  return std::strtoull(output.c_str() + (start == std::string::npos ? 0 : start + 1), nullptr, 10);
}

}  // namespace

namespace {

// What programs synchronise by stores is left to the host only for those that are not served.
const std::vector<std::string> kAllServed = {"--serve-all-files"};

void run_sqlite(const std::string& mode, bool all_served) {
  const std::string seconds = std::to_string(support::number_from("SQLITE_SECONDS", 20));
  INFO(mode << (all_served ? ", all served" : ", half of them served"));
  ServerUnderTest server({.options = all_served ? kAllServed : std::vector<std::string>()});
  const std::string path = server.directory() / "database";
  const auto script = [&](const std::vector<std::string>& arguments) {
    return peer("sqlite_peer.py", arguments);
  };
  REQUIRE(support::run(unserved(script({"make", path, mode}))).text() == "status 0");

  std::map<std::string, Process> writers;
  std::map<std::string, Process> readers;
  for (const bool served : {true, false}) {
    for (int i = 0; i < 2; ++i) {
      const std::string name = (served ? "served" : "unserved") + std::to_string(i);
      const auto start = [&](const char* what) {
        const auto words = script({what, path, mode, name, seconds});
        return Process(served || all_served ? server.command(words) : unserved(words));
      };
      writers.emplace(name, start("write"));
      readers.emplace(name, start("read"));
    }
  }
  std::map<std::string, std::uint64_t> acknowledged;
  const auto patience = std::chrono::seconds(support::number_from("SQLITE_SECONDS", 20) + 90);
  for (auto& [name, process] : writers) {
    const Outcome outcome = process.wait(patience);
    CHECK(outcome.text() == "status 0");
    acknowledged[name] = last_number(outcome.output);
    CHECK(acknowledged[name] > 5);
  }
  for (auto& [name, process] : readers) {
    const Outcome outcome = process.wait(patience);
    CHECK(outcome.text() == "status 0");
    CHECK(last_number(outcome.output) > 0);
  }
  std::cout << mode << ":";
  for (const auto& [name, count] : acknowledged) std::cout << " " << name << " " << count;
  std::cout << " rows\n";

  for (const bool served : {false, true}) {
    const auto words = script({"check", path, mode});
    const Outcome outcome = support::run(served ? server.command(words) : unserved(words));
    CHECK(outcome.text() == "status 0");
    std::istringstream lines(outcome.output);
    std::map<std::string, std::uint64_t> found;
    for (std::string name; lines >> name;) lines >> found[name];
    CHECK(found == acknowledged);
  }
}

}  // namespace

TEST_CASE("SQLite: writers and readers, half of them not served", "[sqlite]") {
  run_sqlite(GENERATE("WAL", "DELETE"), false);
}

TEST_CASE("SQLite: writers and readers with a write-ahead log, all of them served", "[sqlite]") {
  run_sqlite("WAL", true);
}

TEST_CASE("LMDB: a writer that is killed again and again, and readers", "[lmdb]") {
  const std::string how = GENERATE("file", "map");
  const bool all_served = GENERATE(false, true);
  const std::chrono::seconds duration(support::number_from("LMDB_SECONDS", 20));
  const std::uint64_t seed = support::chosen_seed();
  std::cout << "seed " << seed << " (TEST_SEED sets it)\n";
  INFO(how << (all_served ? ", all served" : "") << ", TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  ServerUnderTest server({.options = all_served ? kAllServed : std::vector<std::string>()});
  const std::string path = server.directory() / "environment";
  const auto script = [&](const char* what) { return peer("lmdb_peer.py", {what, path, how}); };

  REQUIRE(server.run(script("check")).text() == "status 0");
  std::vector<Process> readers;
  for (int i = 0; i < 2; ++i) {
    const bool served = all_served || i == 0;
    readers.push_back(Process(served ? server.command(script("read")) : unserved(script("read"))));
  }
  std::uint64_t acknowledged = 0;
  unsigned kills = 0;
  const auto end = std::chrono::steady_clock::now() + duration;
  while (std::chrono::steady_clock::now() < end) {
    Process writer(server.command(script("write")));
    const auto life = std::chrono::milliseconds(random() % 1200);
    const auto death = std::chrono::steady_clock::now() + life;
    CHECK(support::eventually([&] {
      return writer.ended() || std::chrono::steady_clock::now() > death;
    }));
    if (writer.ended()) FAIL("the writer has ended: " << writer.wait().text());
    writer.signal(SIGKILL);
    const Outcome outcome = writer.wait();
    REQUIRE(outcome.signal == SIGKILL);
    const std::uint64_t last = last_number(outcome.output);
    if (last != 0) acknowledged = last;
    ++kills;
    for (Process& reader : readers) {
      if (reader.ended()) FAIL("a reader has ended: " << reader.wait().text());
    }
    // Now and then all of it is looked at, by turns served and not.
    if (kills % 10 != 0) continue;
    const Outcome checked = all_served || kills % 20 == 0 ? server.run(script("check"))
                                            : support::run(unserved(script("check")));
    INFO("after " << kills << " kills");
    REQUIRE(checked.text() == "status 0");
    REQUIRE(last_number(checked.output) >= acknowledged);
  }
  for (Process& reader : readers) {
    CHECK_FALSE(reader.ended());
    CHECK(last_number(reader.output()) > 0);
    reader.kill();
  }
  const Outcome checked = support::run(unserved(script("check")));
  CHECK(checked.text() == "status 0");
  CHECK(last_number(checked.output) >= acknowledged);
  CHECK(acknowledged > 0);
  std::cout << how << (all_served ? ", all served: " : ": ") << kills << " kills, " << acknowledged << " records acknowledged\n";
}

TEST_CASE("git: a repository that served and unserved ones change at once", "[git]") {
  ServerUnderTest server;
  const std::string repository = server.directory() / "repository";
  const std::string rounds = std::to_string(support::number_from("GIT_ROUNDS", 40));
  const std::string make =
      "set -e; export HOME=" + server.directory().path() +
      "; git config --global gc.auto 0; git init -q -b main " + repository + "; cd " + repository +
      "; git config user.name peer; git config user.email peer@example.org;"
      " seq 1000 > seed; git add seed; git commit -q -m seed;"
      " for branch in served0 served1 unserved0 unserved1; do"
      "   git worktree add -q -b $branch " + repository + "-$branch; done";
  REQUIRE(support::run(unserved({"/bin/sh", "-c", make})).text() == "status 0");

  std::map<std::string, Process> peers;
  for (const std::string branch : {"served0", "served1", "unserved0", "unserved1"}) {
    const std::vector<std::string> words = {"/bin/sh",
                                            std::string(DATABASE_SCRIPTS) + "/git_peer.sh",
                                            repository, branch, rounds};
    const bool served = branch.starts_with("served");
    peers.emplace(branch, Process(served ? server.command(words) : unserved(words)));
  }
  for (auto& [branch, process] : peers) {
    const Outcome outcome = process.wait(std::chrono::seconds(400));
    CHECK(outcome.text() == "status 0");
    const auto git = [&](const std::string& what) {
      return std::vector<std::string>{"/bin/sh", "-c", "cd " + repository + " && git " + what};
    };
    for (const bool served : {true, false}) {
      const auto answer = [&](const std::string& what) {
        return support::run(served ? server.command(git(what)) : unserved(git(what)));
      };
      CHECK(answer("rev-parse " + branch).output == outcome.output);
      CHECK(answer("rev-list --count main.." + branch).output == rounds + "\n");
    }
  }
  const std::vector<std::string> check = {"/bin/sh", "-c", "cd " + repository + " && git fsck --full --strict"};
  CHECK(support::run(unserved(check)).text() == "status 0");
  CHECK(server.run(check).text() == "status 0");
}
