#include "tools/doctor_rules.h"

#include <array>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "tools/kernel_interface.h"

namespace tools::doctor {
namespace {

constexpr unsigned kNeededMajor = 6;
constexpr unsigned kNeededMinor = 8;
/// The kernel's own default; each mapping of a program and each change of protection counts.
constexpr std::uint64_t kUsualMapCount = 65530;
/// The server holds a handful of descriptors for each program and object.
constexpr std::uint64_t kUsualOpenFiles = 1024;

struct Feature {
  std::uint64_t bit;
  const char* name;
  const char* since;
};
constexpr std::array<Feature, 5> kFeatures = {
    {{UFFD_FEATURE_MISSING_SHMEM, "MISSING_SHMEM", "4.11"},
     {UFFD_FEATURE_EVENT_FORK, "EVENT_FORK", "4.11"},
     {UFFD_FEATURE_POISON, "POISON", "6.6"},
     {UFFD_FEATURE_WP_ASYNC, "WP_ASYNC", "6.7"},
     {UFFD_FEATURE_MOVE, "MOVE", "6.8"}}};

std::string error_text(int error) { return std::generic_category().message(error); }

std::optional<unsigned> leading_number(std::string_view& text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

}  // namespace

std::string format(const Finding& finding) {
  const char* level = finding.level == Level::ok     ? "ok  "
                      : finding.level == Level::warn ? "warn"
                                                     : "fail";
  std::string line = std::string(level) + "  " + finding.what + ": " + finding.finding;
  if (!finding.remedy.empty()) line += " — " + finding.remedy;
  return line;
}

Finding kernel_version(std::string_view release) {
  Finding result{Level::ok, "kernel", "Linux " + std::string(release), ""};
  std::string_view rest = release;
  const std::optional<unsigned> major = leading_number(rest);
  std::optional<unsigned> minor;
  if (major && rest.starts_with('.')) {
    rest.remove_prefix(1);
    minor = leading_number(rest);
  }
  if (!major || !minor) {
    result.level = Level::warn;
    result.finding += ", a version this program cannot read";
  } else if (std::pair(*major, *minor) < std::pair(kNeededMajor, kNeededMinor)) {
    result.level = Level::fail;
    result.finding += ", 6.8 or later is needed";
    result.remedy = "on Debian 12: apt-get install -t bookworm-backports linux-image-amd64, reboot";
  }
  return result;
}

Finding userfaultfd_device(int error) {
  Finding result{Level::ok, "/dev/userfaultfd", "opens", ""};
  if (error == 0) return result;
  result.level = Level::fail;
  result.finding = error_text(error);
  if (error == ENOENT)
    result.remedy =
        "needs a kernel with CONFIG_USERFAULTFD; in a container: run it with "
        "--device /dev/userfaultfd";
  else if (error == EACCES || error == EPERM)
    result.remedy =
        "start vmserver as root (the programs it serves need no rights), or "
        "setfacl -m u:$USER:rw /dev/userfaultfd";
  else
    result.remedy = "see dmesg";
  return result;
}

Finding userfaultfd_features(std::uint64_t supported) {
  Finding result{Level::ok, "userfaultfd features", "", ""};
  std::string have;
  std::string missing;
  for (const Feature& feature : kFeatures) {
    if (supported & feature.bit)
      have += (have.empty() ? "" : " ") + std::string(feature.name);
    else
      missing += (missing.empty() ? "" : ", ") + std::string(feature.name) + " (Linux " +
                 feature.since + ")";
  }
  result.finding = have;
  if (!missing.empty()) {
    result.level = Level::fail;
    result.finding = "not offered: " + missing;
    result.remedy = "a kernel of Linux 6.8 or later";
  }
  return result;
}

Finding userfaultfd_enable(int error) {
  Finding result{Level::ok, "userfaultfd with events", "can be had", ""};
  if (error == 0) return result;
  result.level = Level::fail;
  result.finding = "UFFDIO_API: " + error_text(error);
  result.remedy = error == EPERM
                      ? "the server needs CAP_SYS_PTRACE to follow forks: start it as root, or in "
                        "a container with --cap-add SYS_PTRACE"
                      : "a kernel of Linux 6.8 or later";
  return result;
}

Finding pagemap_scan(int error) {
  Finding result{Level::ok, "PAGEMAP_SCAN", "works", ""};
  if (error == 0) return result;
  result.level = Level::fail;
  result.finding = "/proc/self/pagemap: " + error_text(error);
  result.remedy = error == ENOTTY || error == EINVAL
                      ? "a kernel of Linux 6.7 or later"
                      : "mount /proc where the server runs: mount -t proc proc /proc";
  return result;
}

Finding memfd(int error) {
  Finding result{Level::ok, "memfd_create", "works", ""};
  if (error == 0) return result;
  result.level = Level::fail;
  result.finding = error_text(error);
  result.remedy = "needs a kernel with CONFIG_MEMFD_CREATE, and a sandbox that lets it through";
  return result;
}

Finding max_map_count(std::uint64_t count) {
  Finding result{Level::ok, "vm.max_map_count", std::to_string(count), ""};
  if (count < kUsualMapCount) {
    result.level = Level::warn;
    result.finding += ", programs with many mappings will run out";
    result.remedy = "sysctl vm.max_map_count=262144";
  }
  return result;
}

Finding open_files(std::uint64_t soft, std::uint64_t hard) {
  Finding result{Level::ok, "open files", "limit " + std::to_string(soft), ""};
  if (soft < kUsualOpenFiles) {
    result.level = Level::warn;
    result.finding += ", few for a server with many programs";
    result.remedy = hard >= kUsualOpenFiles ? "ulimit -n " + std::to_string(kUsualOpenFiles)
                                            : "as root: ulimit -Hn 65536; ulimit -n 65536";
  }
  return result;
}

Finding overcommit(std::uint64_t mode) {
  Finding result{Level::ok, "vm.overcommit_memory", std::to_string(mode), ""};
  if (mode == 2) {
    result.level = Level::warn;
    result.finding += ", every writable page counts against the commit limit";
    result.remedy = "sysctl vm.overcommit_memory=0";
  }
  return result;
}

Finding halt_polling(bool virtual_machine, std::string_view governor,
                     std::optional<std::uint64_t> poll_ns) {
  Finding result{Level::ok, "halt polling", "", ""};
  if (!virtual_machine) {
    result.finding = "not needed, this is no virtual machine";
    return result;
  }
  const bool has_governor = governor == "haltpoll";
  if (has_governor && poll_ns && *poll_ns > 0) {
    result.finding = "polls for " + std::to_string(*poll_ns) + " ns before a CPU halts";
    return result;
  }
  result.level = Level::warn;
  result.finding =
      "off: in a virtual machine each fault that wakes a halted CPU costs tens of microseconds";
  result.remedy = has_governor ? "" : "modprobe cpuidle_haltpoll force=1; ";
  result.remedy += "echo 200000 > /sys/module/haltpoll/parameters/guest_halt_poll_ns";
  return result;
}

std::string_view chosen_mode(std::string_view modes) {
  const std::size_t open = modes.find('[');
  const std::size_t close = modes.find(']', open == std::string_view::npos ? 0 : open);
  if (open == std::string_view::npos || close == std::string_view::npos) return {};
  return modes.substr(open + 1, close - open - 1);
}

Finding huge_pages(std::string_view modes) {
  const std::string_view mode = chosen_mode(modes);
  return {Level::ok, "transparent huge pages",
          mode.empty() ? "not in this kernel" : std::string(mode), ""};
}

// With huge pages in shared memory the kernel rounds a write of one page into a memfd up to a huge
// page, the rest of it zeroes: pages that no pager has filled then look resident (measured on
// Linux 6.18 with tmpfs huge=always and huge=within_size).
Finding shared_huge_pages(const std::vector<std::pair<std::string, std::string>>& files) {
  Finding result{Level::ok, "huge pages in shared memory", "off", ""};
  for (const auto& [name, modes] : files) {
    const std::string_view mode = chosen_mode(modes);
    if (mode != "always" && mode != "within_size" && mode != "force") continue;
    result.level = Level::fail;
    result.finding = std::string(mode) + ", pages that no pager filled would read as zeroes";
    result.remedy += (result.remedy.empty() ? "" : "; ") + ("echo never > " + name);
  }
  return result;
}

bool is_virtual_machine(std::string_view cpuinfo) {
  std::size_t at = 0;
  while ((at = cpuinfo.find("flags", at)) != std::string_view::npos) {
    const std::size_t end = cpuinfo.find('\n', at);
    const std::string line =
        std::string(cpuinfo.substr(at, end == std::string_view::npos ? end : end - at)) + ' ';
    if ((at == 0 || cpuinfo[at - 1] == '\n') && line.find(" hypervisor ") != std::string::npos)
      return true;
    at += 5;
  }
  return false;
}

}  // namespace tools::doctor
