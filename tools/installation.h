// Where the other parts of this project are, seen from a running tool: beside it where it is
// installed, or at their places in the build tree.
#pragma once

#include <array>
#include <filesystem>
#include <string>

namespace tools {

struct Installation {
  std::string server;
  std::array<std::string, 3> pagers;
  std::string shim;
};

/// The parts that belong to the program at `executable`. `bindir_to_libdir` is the way from the
/// directory of programs to that of libraries. The installed layout goes before the build tree's.
/// Throws std::runtime_error, with what is missing and where, when neither is complete.
Installation find_installation(const std::filesystem::path& executable,
                               const std::filesystem::path& bindir_to_libdir);

/// The parts that belong to the running program.
Installation own_installation();

}  // namespace tools
