#include "vmserver/vm/machine.h"

#include <algorithm>

#include <fnmatch.h>

namespace vm {

bool Machine::is_host_file(const std::string& path) const {
  return std::any_of(options_.host_files.begin(), options_.host_files.end(),
                     [&](const std::string& pattern) {
                       return fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
                     });
}

}  // namespace vm
