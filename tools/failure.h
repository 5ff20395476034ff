// How a tool says what did not work. std::runtime_error for what failed while running (exit status
// 1), cli::UsageError for what cannot be used at all (2); the text says what was tried and on what.
#pragma once

#include <stdexcept>
#include <string>
#include <system_error>

#include "cli/main_context.h"

namespace tools {

/// "`what`: No such file or directory", for an errno.
inline std::string describe_errno(const std::string& what, int error) {
  return what + ": " + std::generic_category().message(error);
}

}  // namespace tools
