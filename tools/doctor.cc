#include "tools/doctor.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tools/kernel_interface.h"
#include "tools/unique_fd.h"

namespace tools::doctor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUserfaultfdDevice = "/dev/userfaultfd";
constexpr const char* kHugePages = "/sys/kernel/mm/transparent_hugepage";

/// The text of a file under /proc or /sys; nothing when it cannot be read.
std::optional<std::string> read_text(const fs::path& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::optional<std::uint64_t> read_number(const fs::path& path) {
  const std::optional<std::string> text = read_text(path);
  if (!text) return std::nullopt;
  std::uint64_t value = 0;
  const auto end = std::from_chars(text->data(), text->data() + text->size(), value);
  if (end.ec != std::errc()) return std::nullopt;
  return value;
}

std::string first_word(const fs::path& path) {
  const std::string text = read_text(path).value_or("");
  return text.substr(0, text.find_first_of(" \n"));
}

/// UFFDIO_API on a userfaultfd of its own. Gives the errno, and what the kernel offers.
int userfaultfd_api(int device, std::uint64_t features, std::uint64_t& offered) {
  const UniqueFd fd(::ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
  if (!fd) return errno;
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = features;
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) return errno;
  offered = api.features;
  return 0;
}

void examine_userfaultfd(std::vector<Finding>& findings) {
  const UniqueFd device(::open(kUserfaultfdDevice, O_RDWR | O_CLOEXEC));
  findings.push_back(userfaultfd_device(device ? 0 : errno));
  if (!device) return;

  std::uint64_t offered = 0;
  if (const int error = userfaultfd_api(device.get(), 0, offered); error != 0) {
    findings.push_back(userfaultfd_enable(error));
    return;
  }
  findings.push_back(userfaultfd_features(offered));
  if (findings.back().level != Level::ok) return;

  std::uint64_t enabled = 0;
  constexpr std::uint64_t kWanted = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_EVENT_FORK |
                                    UFFD_FEATURE_POISON | UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_MOVE;
  findings.push_back(userfaultfd_enable(userfaultfd_api(device.get(), kWanted, enabled)));
}

int try_pagemap_scan() {
  const UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap) return errno;
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  pm_scan_arg arguments = {};
  arguments.size = sizeof arguments;
  arguments.start = reinterpret_cast<std::uint64_t>(&arguments) & ~(page - 1);
  arguments.end = arguments.start + page;
  return ::ioctl(pagemap.get(), PAGEMAP_SCAN, &arguments) < 0 ? errno : 0;
}

int try_memfd() {
  const UniqueFd fd(::memfd_create("vmctl-doctor", MFD_CLOEXEC));
  return fd ? 0 : errno;
}

std::vector<std::pair<std::string, std::string>> shared_huge_page_files() {
  std::vector<fs::path> paths = {fs::path(kHugePages) / "shmem_enabled"};
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(kHugePages, error))
    if (entry.path().filename().string().starts_with("hugepages-"))
      paths.push_back(entry.path() / "shmem_enabled");
  std::sort(paths.begin() + 1, paths.end());

  std::vector<std::pair<std::string, std::string>> files;
  for (const fs::path& path : paths)
    if (std::optional<std::string> text = read_text(path)) files.emplace_back(path.string(), *text);
  return files;
}

void examine_limits(std::vector<Finding>& findings) {
  if (const auto count = read_number("/proc/sys/vm/max_map_count"))
    findings.push_back(max_map_count(*count));
  rlimit files = {};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0)
    findings.push_back(open_files(files.rlim_cur, files.rlim_max));
  if (const auto mode = read_number("/proc/sys/vm/overcommit_memory"))
    findings.push_back(overcommit(*mode));
}

}  // namespace

std::vector<Finding> examine() {
  std::vector<Finding> findings;
  utsname name = {};
  if (::uname(&name) == 0) findings.push_back(kernel_version(name.release));
  examine_userfaultfd(findings);
  findings.push_back(pagemap_scan(try_pagemap_scan()));
  findings.push_back(memfd(try_memfd()));
  examine_limits(findings);
  findings.push_back(
      halt_polling(is_virtual_machine(read_text("/proc/cpuinfo").value_or("")),
                   first_word("/sys/devices/system/cpu/cpuidle/current_governor"),
                   read_number("/sys/module/haltpoll/parameters/guest_halt_poll_ns")));
  findings.push_back(huge_pages(read_text(fs::path(kHugePages) / "enabled").value_or("")));
  findings.push_back(shared_huge_pages(shared_huge_page_files()));
  return findings;
}

}  // namespace tools::doctor
