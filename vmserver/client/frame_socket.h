// Frames on a program's socket: one message each, with the descriptors that come along.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "hal/host_file.h"

namespace server {

struct ReceivedFrame {
  std::size_t bytes = 0;  ///< 0: the other side is gone
  std::vector<hal::SharedDescriptor> descriptors;
  bool truncated = false;  ///< more bytes or descriptors than a frame has
};

enum class Receive { frame, nothing_yet, failed };

/// Takes one message without waiting. Descriptors are CLOEXEC and owned by the result.
Receive receive_frame(int socket, std::span<std::byte> buffer, ReceivedFrame& frame);

/// Sends one message without waiting, with `descriptor` if that is not -1. False when the program
/// does not take it; the message is whole or not sent at all.
bool send_frame(int socket, std::span<const std::byte> bytes, int descriptor = -1);

}  // namespace server
