// Sends what KJ and Cap'n Proto log through spdlog. Put one on the stack of each thread that runs a
// KJ event loop; link spdlog.
#pragma once

#include <string>

#include <kj/exception.h>
#include <spdlog/spdlog.h>

namespace cli {

class KjLog final : public kj::ExceptionCallback {
 public:
  void logMessage(kj::LogSeverity severity, const char* file, int line, int,
                  kj::String&& text) override {
    const auto level = severity >= kj::LogSeverity::ERROR     ? spdlog::level::err
                       : severity == kj::LogSeverity::WARNING ? spdlog::level::warn
                                                              : spdlog::level::debug;
    std::string one_line(text.cStr());
    for (char& c : one_line)
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    spdlog::log(level, "rpc: {} ({}:{})", one_line, file, line);
  }
};

}  // namespace cli
