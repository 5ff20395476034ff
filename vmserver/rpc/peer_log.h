// Log lines about what peers sent: made harmless, and never more than a few a second.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace server {

/// Text from a peer as one printable line of at most `most` bytes.
std::string printable(std::string_view text, std::size_t most = 400);

/// Logs at error level up to `kBurst` lines in `kWindow`; what is left out is counted and said with
/// the first line after. For one thread.
class PeerLog {
 public:
  void error(const std::string& line);

 private:
  static constexpr int kBurst = 50;
  static constexpr std::chrono::seconds kWindow{5};

  std::chrono::steady_clock::time_point window_start_{};
  int written_ = 0;
  std::uint64_t left_out_ = 0;
};

}  // namespace server
