// Served: a program under vmrun, whose server's statistics are read when it has ended.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/real/process.h"

namespace real {

/// A directory that goes with everything in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// What every program of these tests finds in its environment, and nothing else: no setting of the
/// user's who runs the tests has a part in what they compare.
std::vector<std::string> plain_environment(const std::filesystem::path& home);

/// A program under vmrun whose statistics are asked for.
class Served {
 public:
  /// `scratch`: where vmrun keeps its sockets and the statistics, nothing that is compared.
  /// `options`: of vmrun, beside --stats.
  Served(Command command, const std::filesystem::path& scratch,
         const std::vector<std::string>& options = {});

  Process& process() { return *process_; }
  /// As Process::wait(). Also fails when vmrun left anything of its server behind.
  Outcome wait(std::chrono::seconds patience = kPatience);
  /// The object that --stats wrote; after wait().
  const nlohmann::json& statistics() const { return statistics_; }

 private:
  std::filesystem::path runtime_;
  std::filesystem::path statistics_file_;
  std::unique_ptr<Process> process_;
  nlohmann::json statistics_;
};

/// Sum of a counter over several --stats objects.
std::uint64_t total(const std::vector<nlohmann::json>& statistics, const std::string& counter);
std::uint64_t total_calls(const std::vector<nlohmann::json>& statistics, const std::string& call);

std::string read_file(const std::filesystem::path& path);

}  // namespace real
