#include "vmserver/rpc/peer_log.h"

#include <spdlog/spdlog.h>

namespace server {

std::string printable(std::string_view text, std::size_t most) {
  const bool cut = text.size() > most;
  std::string line(text.substr(0, most));
  for (char& c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  if (cut) line += "...";
  return line;
}

void PeerLog::error(const std::string& line) {
  const auto now = std::chrono::steady_clock::now();
  if (now - window_start_ >= kWindow) {
    if (left_out_ > 0) spdlog::error("{} more lines like these were left out", left_out_);
    window_start_ = now;
    written_ = 0;
    left_out_ = 0;
  }
  if (written_ < kBurst) {
    ++written_;
    spdlog::error("{}", line);
  } else {
    ++left_out_;
  }
}

}  // namespace server
