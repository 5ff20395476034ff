#include "tests/real/comparison.h"

#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

namespace real {
namespace {

namespace fs = std::filesystem;

/// Where two texts part, with what surrounds it: whole outputs can have megabytes.
std::string difference(const std::string& native, const std::string& served) {
  const auto parting = std::mismatch(native.begin(), native.end(), served.begin(), served.end());
  const std::size_t at = static_cast<std::size_t>(parting.first - native.begin());
  const std::size_t from = at - std::min<std::size_t>(at, 100);
  std::ostringstream text;
  text << native.size() << " bytes natively, " << served.size() << " served, which part at byte "
       << at << "\n--- native: " << native.substr(from, 400)
       << "\n--- served: " << served.substr(from, 400);
  return text.str();
}

/// Everything below `root`, as relative paths.
std::set<std::string> names_below(const fs::path& root) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(root))
    names.insert(entry.path().lexically_relative(root).string());
  return names;
}

bool same_content(const fs::path& a, const fs::path& b) {
  std::ifstream first(a, std::ios::binary);
  std::ifstream second(b, std::ios::binary);
  std::vector<char> first_part(1 << 20);
  std::vector<char> second_part(1 << 20);
  while (first && second) {
    first.read(first_part.data(), static_cast<std::streamsize>(first_part.size()));
    second.read(second_part.data(), static_cast<std::streamsize>(second_part.size()));
    if (first.gcount() != second.gcount() ||
        std::memcmp(first_part.data(), second_part.data(),
                    static_cast<std::size_t>(first.gcount())) != 0)
      return false;
  }
  return first.eof() && second.eof();
}

void check_same_file(const fs::path& native, const fs::path& served) {
  INFO("file " << served.filename());
  struct stat a = {};
  struct stat b = {};
  REQUIRE(::lstat(native.c_str(), &a) == 0);
  REQUIRE(::lstat(served.c_str(), &b) == 0);
  REQUIRE(a.st_mode == b.st_mode);
  if (S_ISLNK(a.st_mode)) CHECK(fs::read_symlink(native) == fs::read_symlink(served));
  if (!S_ISREG(a.st_mode)) return;
  CHECK(a.st_size == b.st_size);
  CHECK(same_content(native, served));
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

}  // namespace

Side::Side(fs::path directory, fs::path scratch, bool served)
    : directory_(std::move(directory)),
      scratch_(std::move(scratch)),
      served_(served),
      environment_(plain_environment(scratch_)) {}

Outcome Side::run_unrecorded(std::vector<std::string> words, std::string input) {
  Command command{std::move(words), std::move(input), directory_.string(), environment_};
  if (!served_) return Process(std::move(command)).wait(patience_);
  Served served(std::move(command), scratch_, options_);
  Outcome outcome = served.wait(patience_);
  statistics_.push_back(served.statistics());
  return outcome;
}

const Outcome& Side::run(std::vector<std::string> words, std::string input) {
  const std::string command = joined(words);
  Outcome outcome = run_unrecorded(std::move(words), std::move(input));
  steps_.push_back({command, std::move(outcome)});
  return steps_.back().outcome;
}

Comparison::Comparison() : shared_(root_.path() / "shared"), scratch_(root_.path() / "scratch") {
  fs::create_directory(shared_);
  fs::create_directory(scratch_);
}

void Comparison::on_both(const std::function<void(Side&)>& work) {
  const fs::path directory = root_.path() / "work";
  for (const bool served : {false, true}) {
    fs::create_directory(directory);
    auto side = std::make_unique<Side>(directory, scratch_, served);
    work(*side);
    fs::rename(directory, root_.path() / (served ? "served" : "native"));
    (served ? served_ : native_) = std::move(side);
  }
}

void Comparison::check_same(const std::set<std::string>& left_out) const {
  REQUIRE(native_->steps_.size() == served_->steps_.size());
  for (std::size_t i = 0; i < native_->steps_.size(); ++i) {
    const Outcome& native = native_->steps_[i].outcome;
    const Outcome& served = served_->steps_[i].outcome;
    INFO("command: " << served_->steps_[i].command
                     << "\nstderr: " << served.errors.substr(0, 2000));
    CHECK(native.ending() == served.ending());
    if (native.output != served.output)
      FAIL_CHECK("standard output: " << difference(native.output, served.output));
    if (native.errors != served.errors)
      FAIL_CHECK("standard error: " << difference(native.errors, served.errors));
  }
  const std::set<std::string> names = names_below(root_.path() / "native");
  CHECK(names == names_below(root_.path() / "served"));
  for (const std::string& name : names) {
    if (left_out.contains(name) || !fs::exists(root_.path() / "served" / name)) continue;
    INFO("at " << name);
    check_same_file(root_.path() / "native" / name, root_.path() / "served" / name);
  }
}

void Comparison::check_served() const {
  REQUIRE_FALSE(served_->statistics_.empty());
  CHECK(total_calls(served_->statistics_, "mmap") > 0);
  CHECK(total(served_->statistics_, "faults") > 0);
  CHECK(total(served_->statistics_, "failed_faults") == 0);
  CHECK(total(served_->statistics_, "sessions_rejected") == 0);
}

void Comparison::check_paged() const {
  CHECK(total(served_->statistics_, "pageouts") > 0);
  CHECK(total(served_->statistics_, "pageins") > 0);
  for (const auto& each : served_->statistics_) {
    INFO(each.dump());
    CHECK(each.at("paging").at("lost_pages") == 0);
  }
}

}  // namespace real
