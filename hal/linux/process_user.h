// The user that a process acts as.
#pragma once

#include <cstdint>
#include <optional>

namespace hal {

/// Effective user id of the process behind a pidfd, as this user namespace has it: PIDFD_GET_INFO of
/// Linux 6.13, a microsecond where the text in /proc takes twenty. Nothing where the kernel does not
/// know that, or the process has ended.
std::optional<std::uint32_t> effective_user(int pidfd);

}  // namespace hal
