#include "tests/real/served.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

namespace real {

namespace fs = std::filesystem;

TemporaryDirectory::TemporaryDirectory() {
  std::string path = (fs::temp_directory_path() / "vm-real-XXXXXX").string();
  if (::mkdtemp(path.data()) == nullptr) FAIL("mkdtemp: " << std::strerror(errno));
  path_ = path;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::vector<std::string> plain_environment(const fs::path& home) {
  return {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + home.string(), "LC_ALL=C", "TZ=UTC"};
}

Served::Served(Command command, const fs::path& scratch, const std::vector<std::string>& options)
    : runtime_(scratch / "runtime"), statistics_file_(scratch / "statistics.json") {
  fs::create_directories(runtime_);
  command.environment.push_back("XDG_RUNTIME_DIR=" + runtime_.string());
  std::vector<std::string> words{VMRUN, "--stats", statistics_file_.string()};
  words.insert(words.end(), options.begin(), options.end());
  words.emplace_back("--");
  words.insert(words.end(), command.words.begin(), command.words.end());
  command.words = std::move(words);
  process_ = std::make_unique<Process>(std::move(command));
}

Outcome Served::wait(std::chrono::seconds patience) {
  Outcome outcome = process_->wait(patience);
  const std::string text = read_file(statistics_file_);
  statistics_ = nlohmann::json::parse(text, nullptr, false);
  INFO("--stats wrote: " << text << "\nvmrun said: " << outcome.errors);
  REQUIRE(statistics_.is_object());
  // The server's directory goes with it.
  CHECK(fs::is_empty(runtime_));
  return outcome;
}

std::uint64_t total(const std::vector<nlohmann::json>& statistics, const std::string& counter) {
  std::uint64_t sum = 0;
  for (const auto& each : statistics) sum += each.value(counter, std::uint64_t{0});
  return sum;
}

std::uint64_t total_calls(const std::vector<nlohmann::json>& statistics, const std::string& call) {
  std::uint64_t sum = 0;
  for (const auto& each : statistics)
    if (each.contains("calls")) sum += each["calls"].value(call, std::uint64_t{0});
  return sum;
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) FAIL("open " << path << ": " << std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace real
