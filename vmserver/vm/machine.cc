#include "vmserver/vm/machine.h"

#include <algorithm>

#include <fnmatch.h>

namespace vm {

bool Machine::is_host_file(const std::string& path) const {
  const auto matches = [&](const char* pattern) {
    return fnmatch(pattern, path.c_str(), 0) == 0;
  };
  if (options_.usual_host_files &&
      std::any_of(std::begin(kUsualHostFiles), std::end(kUsualHostFiles), matches)) {
    return true;
  }
  return std::any_of(options_.host_files.begin(), options_.host_files.end(),
                     [&](const std::string& pattern) { return matches(pattern.c_str()); });
}

}  // namespace vm
