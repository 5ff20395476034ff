// git on a repository of 3,000 commits: clone, log, gc, fsck, and the files of the work tree.
#include <catch2/catch.hpp>

#include "tests/real/comparison.h"

namespace {

constexpr int kCommits = 3000;
constexpr int kFiles = 150;

std::string data(const std::string& text) {
  return "data " + std::to_string(text.size()) + "\n" + text + "\n";
}

/// The file of this number as the given commit leaves it: most lines stay from commit to commit, so
/// that packs hold deltas.
std::string file_at(int file, int commit) {
  std::string text;
  for (int line = 0; line < 60; ++line) {
    const int changed = (commit / kFiles - line % 20 + 20) / 20 * 20;
    text += "file " + std::to_string(file) + " line " + std::to_string(line) + " of round " +
            std::to_string(changed) + " value " +
            std::to_string((file * 7919 + line * 104729 + changed * 1299709) % 1000003) + "\n";
  }
  return text;
}

/// What git fast-import reads: every date and name fixed, a merge now and then, tags.
std::string history() {
  std::string stream;
  for (int commit = 1; commit <= kCommits; ++commit) {
    const std::string number = std::to_string(commit);
    const std::string when = std::to_string(1'600'000'000 + commit * 600) + " +0000";
    const bool side = commit % 50 == 49;
    stream += std::string("commit refs/heads/") + (side ? "side" : "main") + "\nmark :" + number +
              "\nauthor A Writer <a@example.org> " + when +
              "\ncommitter A Writer <a@example.org> " + when + "\n" +
              data("Change number " + number + "\n\nWhat it is about, in a line.\n");
    const int last = commit - 1 - (commit % 50 == 0 ? 1 : 0);
    if (last > 0) stream += "from :" + std::to_string(last) + "\n";
    if (commit % 50 == 0) stream += "merge :" + std::to_string(commit - 1) + "\n";
    for (const int file : {commit % kFiles, commit * 31 % kFiles}) {
      stream += "M 100644 inline d" + std::to_string(file % 10) + "/f" + std::to_string(file) +
                ".txt\n" + data(file_at(file, commit));
    }
    stream += "M 100644 inline log.txt\n" + data("last change: " + number + "\n");
    if (commit % 500 == 0)
      stream += "reset refs/tags/v" + std::to_string(commit / 500) + "\nfrom :" + number + "\n\n";
  }
  return stream + "done\n";
}

void expect_success(const real::Outcome& outcome) {
  INFO(outcome.errors);
  CHECK(outcome.exited_with(0));
}

/// Dates of what git writes by itself (reflogs), and nothing that goes on in the background. One
/// thread finds the same deltas each time; several share the work out as they come.
void settle(real::Side& side) {
  for (const char* variable :
       {"GIT_COMMITTER_DATE=1700000000 +0000", "GIT_COMMITTER_NAME=A Writer",
        "GIT_COMMITTER_EMAIL=a@example.org", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_COUNT=4",
        "GIT_CONFIG_KEY_0=pack.threads", "GIT_CONFIG_VALUE_0=1", "GIT_CONFIG_KEY_1=gc.auto",
        "GIT_CONFIG_VALUE_1=0", "GIT_CONFIG_KEY_2=gc.autoDetach", "GIT_CONFIG_VALUE_2=false",
        "GIT_CONFIG_KEY_3=safe.directory", "GIT_CONFIG_VALUE_3=*"})
    side.set_environment(variable);
}

}  // namespace

TEST_CASE("git clones, reads, packs and checks a repository of 3,000 commits", "[git]") {
  real::Comparison comparison;
  const std::string origin = (comparison.shared() / "origin.git").string();
  const std::string stream = history();

  comparison.on_both([&](real::Side& side) {
    settle(side);
    if (!side.served()) {
      expect_success(
          side.run_unrecorded({"git", "init", "-q", "--bare", "--initial-branch=main", origin}));
      expect_success(
          side.run_unrecorded({"git", "-C", origin, "fast-import", "--quiet", "--done"}, stream));
    }
    // Through the transport, so that the clone indexes a pack instead of linking one.
    expect_success(side.run({"git", "clone", "--no-local", origin, "clone"}));
    const std::vector<std::string> git{"git", "-C", "clone"};
    const auto run = [&](std::vector<std::string> words) {
      words.insert(words.begin(), git.begin(), git.end());
      expect_success(side.run(std::move(words)));
    };
    run({"rev-list", "--all", "--count"});
    run({"rev-list", "--all", "--objects"});
    run({"log", "-p", "--all"});
    run({"log", "--stat", "--follow", "d3/f3.txt"});
    run({"diff", "v1", "v5"});
    run({"gc", "--aggressive", "--prune=now"});
    run({"fsck", "--full", "--strict"});
    run({"log", "-p", "-n", "500"});
    run({"grep", "-n", "value 4", "v2"});
    run({"checkout", "-q", "v3"});
    run({"status", "--porcelain"});
    run({"ls-files", "--stage"});
  });
  // The index holds inode numbers and times of the files; ls-files has shown the rest of it.
  comparison.check_same({"clone/.git/index"});
  comparison.check_served();
}
