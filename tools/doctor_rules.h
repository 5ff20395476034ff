// What `vmctl doctor` makes of what it finds on a machine: one function for each question, from
// the raw answer of the kernel to a finding and its remedy. Nothing here looks at the machine
// itself (tools/doctor.h does), so the rules can be tried with any machine's answers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tools::doctor {

enum class Level { ok, warn, fail };

struct Finding {
  Level level = Level::ok;
  std::string what;
  std::string finding;
  std::string remedy;  ///< empty where there is nothing to do
};

/// "warn  what: finding — remedy", without a newline.
std::string format(const Finding& finding);

/// `release` as uname(2) gives it. Serving needs Linux 6.8.
Finding kernel_version(std::string_view release);
/// /dev/userfaultfd; `error` is what opening it gave, 0 when it opened.
Finding userfaultfd_device(int error);
/// `supported` is what UFFDIO_API offered; one finding for all features that serving needs.
Finding userfaultfd_features(std::uint64_t supported);
/// Whether a userfaultfd with all those features could be had; `error` from UFFDIO_API.
Finding userfaultfd_enable(int error);
/// The ioctl that finds written pages; `error` is what it gave.
Finding pagemap_scan(int error);
Finding memfd(int error);
/// vm.max_map_count.
Finding max_map_count(std::uint64_t count);
/// RLIMIT_NOFILE.
Finding open_files(std::uint64_t soft, std::uint64_t hard);
/// vm.overcommit_memory.
Finding overcommit(std::uint64_t mode);
/// Whether a CPU that waits is halted, which a virtual machine pays for at every fault.
/// `governor` is the cpuidle governor's name or empty; `poll_ns` guest_halt_poll_ns where there is
/// such a file.
Finding halt_polling(bool virtual_machine, std::string_view governor,
                     std::optional<std::uint64_t> poll_ns);
/// /sys/kernel/mm/transparent_hugepage/enabled.
Finding huge_pages(std::string_view modes);
/// The shmem_enabled files: name of the file and its text, of the general one and of each size.
Finding shared_huge_pages(const std::vector<std::pair<std::string, std::string>>& files);

/// "madvise" from "always [madvise] never"; empty when nothing is in brackets.
std::string_view chosen_mode(std::string_view modes);
/// Whether /proc/cpuinfo says that a hypervisor runs this kernel.
bool is_virtual_machine(std::string_view cpuinfo);

}  // namespace tools::doctor
