#include "vmserver/vm/machine.h"

#include <algorithm>

#include <fnmatch.h>

namespace vm {

bool Machine::is_host_file(const hal::FileAttributes& file) const {
  const auto matches = [&](const char* pattern) {
    return fnmatch(pattern, file.path.c_str(), 0) == 0;
  };
  const std::string_view beginning(file.beginning.data(), file.beginning.size());
  const auto begins = [&](const auto& signatures) {
    return std::all_of(std::begin(signatures), std::end(signatures), [&](const Signature& one) {
      return beginning.substr(one.at).starts_with(one.bytes);
    });
  };
  if (options_.usual_host_files &&
      (std::any_of(std::begin(kUsualHostFiles), std::end(kUsualHostFiles), matches) ||
       std::any_of(std::begin(kUsualHostContents), std::end(kUsualHostContents), begins))) {
    return true;
  }
  return std::any_of(options_.host_files.begin(), options_.host_files.end(),
                     [&](const std::string& pattern) { return matches(pattern.c_str()); });
}

bool Machine::promise_pages(std::uint64_t pages) {
  // A machine that wires little keeps it for those who ask.
  constexpr std::uint64_t kShare = 16;
  const std::uint64_t taken = promised_pages_ += pages;
  if (wired_pages_ + taken + kShare * pages <= options_.max_wired_pages) return true;
  promised_pages_ -= pages;
  return false;
}

void Machine::add_space(std::weak_ptr<VmSpace> space) {
  const std::lock_guard guard(spaces_lock_);
  std::erase_if(spaces_, [](const auto& known) { return known.expired(); });
  spaces_.push_back(std::move(space));
}

std::vector<std::shared_ptr<VmSpace>> Machine::spaces() {
  std::vector<std::shared_ptr<VmSpace>> result;
  const std::lock_guard guard(spaces_lock_);
  for (const std::weak_ptr<VmSpace>& known : spaces_) {
    if (auto space = known.lock()) result.push_back(std::move(space));
  }
  return result;
}

}  // namespace vm
