#include "tools/installation.h"

#include <unistd.h>

#include <optional>
#include <stdexcept>
#include <vector>

namespace tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kServer = "vmserver";
constexpr std::array<const char*, 3> kPagers = {"pager-anon", "pager-file", "pager-device"};
constexpr const char* kShim = "libvmshim.so";

Installation layout(const fs::path& servers, const fs::path& pagers, const fs::path& libraries) {
  Installation result;
  result.server = (servers / kServer).lexically_normal();
  for (std::size_t i = 0; i < kPagers.size(); ++i)
    result.pagers[i] = (pagers / kPagers[i]).lexically_normal();
  result.shim = (libraries / kShim).lexically_normal();
  return result;
}

/// What the layout lacks, or nothing.
std::optional<std::string> missing_part(const Installation& parts) {
  std::vector<std::string> programs = {parts.server};
  programs.insert(programs.end(), parts.pagers.begin(), parts.pagers.end());
  for (const std::string& program : programs)
    if (::access(program.c_str(), X_OK) != 0) return program;
  if (::access(parts.shim.c_str(), R_OK) != 0) return parts.shim;
  return std::nullopt;
}

}  // namespace

Installation find_installation(const fs::path& executable, const fs::path& bindir_to_libdir) {
  const fs::path directory = executable.parent_path();
  Installation installed = layout(directory, directory, directory / bindir_to_libdir);
  const std::optional<std::string> not_installed = missing_part(installed);
  if (!not_installed) return installed;

  const fs::path tree = directory.parent_path();
  Installation built = layout(tree / "vmserver", tree / "pagers", tree / "libshim");
  const std::optional<std::string> not_built = missing_part(built);
  if (!not_built) return built;
  throw std::runtime_error("find the server's parts: no " + *not_installed + " and no " +
                           *not_built);
}

Installation own_installation() {
  return find_installation(fs::read_symlink("/proc/self/exe"),
                           fs::path(VM_LIBDIR).lexically_relative(VM_BINDIR));
}

}  // namespace tools
