#include "hal/linux/process_user.h"

#include <sys/ioctl.h>

namespace hal {
namespace {

// As in <linux/pidfd.h>, which is older on most systems.
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroup;
  std::uint32_t pid;
  std::uint32_t thread_group;
  std::uint32_t parent;
  std::uint32_t real_user;
  std::uint32_t real_group;
  std::uint32_t effective_user;
  std::uint32_t effective_group;
  std::uint32_t saved_user;
  std::uint32_t saved_group;
  std::uint32_t file_user;
  std::uint32_t file_group;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64, "PIDFD_INFO_SIZE_VER0");
constexpr unsigned long kGetInfo = _IOWR(0xFF, 11, PidfdInfo);
constexpr std::uint64_t kCredentials = 2;

}  // namespace

std::optional<std::uint32_t> effective_user(int pidfd) {
  PidfdInfo info{};
  info.mask = kCredentials;
  if (::ioctl(pidfd, kGetInfo, &info) != 0 || (info.mask & kCredentials) == 0) return std::nullopt;
  return info.effective_user;
}

}  // namespace hal
