// Mapper: the program mapped_file, served, told what to do a line at a time.
#pragma once

#include <cstddef>
#include <string>

#include "tests/support/server.h"

namespace support {

class Mapper {
 public:
  Mapper(const ServerUnderTest& server, const std::string& path);

  /// What it answers to a line (tests/programs/mapped_file.c).
  std::string ask(const std::string& line);
  std::string load(std::size_t offset) { return ask("load " + std::to_string(offset)); }
  /// Fails the test when it does not say that it has.
  void store(std::size_t offset, unsigned value);
  Process& process() { return process_; }

 private:
  Process process_;
};

}  // namespace support
