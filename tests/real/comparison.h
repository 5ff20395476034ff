// Comparison: the same work done twice, by programs as they are and by programs under vmrun, in a
// directory of the same path. Afterwards outputs, endings and all files left behind are compared
// byte for byte.
//
//   Comparison comparison;
//   comparison.on_both([](Side& side) { side.run({"git", "gc"}); });
//   comparison.check_same();
//   comparison.check_served();
//
// Work runs natively first, in "work"; that directory is then put away as "native" and made anew
// for the served run, so that no path tells the two apart.
#pragma once

#include <chrono>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/real/served.h"

namespace real {

class Side {
 public:
  Side(std::filesystem::path directory, std::filesystem::path scratch, bool served);

  bool served() const { return served_; }
  const std::filesystem::path& directory() const { return directory_; }

  /// Runs a program to its end and notes what came of it.
  const Outcome& run(std::vector<std::string> words, std::string input = {});
  /// The same for a program whose output is not compared, because it differs from run to run.
  Outcome run_unrecorded(std::vector<std::string> words, std::string input = {});
  /// A variable that the programs run from now on find in their environment.
  void set_environment(const std::string& variable) { environment_.push_back(variable); }
  /// Of vmrun, for the programs run from now on; nothing to the native side.
  void set_served_options(std::vector<std::string> options) { options_ = std::move(options); }
  /// How long each program run from now on may take.
  void set_patience(std::chrono::seconds patience) { patience_ = patience; }

 private:
  friend class Comparison;
  struct Step {
    std::string command;
    Outcome outcome;
  };

  std::filesystem::path directory_;
  std::filesystem::path scratch_;
  bool served_;
  std::vector<std::string> environment_;
  std::vector<std::string> options_;
  std::chrono::seconds patience_ = kPatience;
  std::deque<Step> steps_;
  std::vector<nlohmann::json> statistics_;  // one for each served program
};

class Comparison {
 public:
  Comparison();

  /// Holds what both sides read and neither changes; not compared.
  const std::filesystem::path& shared() const { return shared_; }
  void on_both(const std::function<void(Side&)>& work);

  /// Checks that outcomes and files are the same, but for the files at `left_out` (relative paths).
  void check_same(const std::set<std::string>& left_out = {}) const;
  /// Checks that the served side was served: it made mmap calls and had faults.
  void check_served() const;
  /// Checks that memory was short on the served side: pages left programs and objects, and none were
  /// lost.
  void check_paged() const;

 private:
  TemporaryDirectory root_;
  std::filesystem::path shared_;
  std::filesystem::path scratch_;
  std::unique_ptr<Side> native_;
  std::unique_ptr<Side> served_;
};

}  // namespace real
