#include "tests/support/mapper.h"

#include <catch2/catch.hpp>

#include "tests/support/eventually.h"

namespace support {

Mapper::Mapper(const ServerUnderTest& server, const std::string& path) {
  Command command = server.command({"mapped_file", path});
  command.asks = true;
  process_ = Process(command);
}

std::string Mapper::ask(const std::string& line) {
  const std::size_t before = process_.output().size();
  process_.say(line + "\n");
  REQUIRE(eventually([&] {
    const std::string output = process_.output();
    return (output.size() > before && output.back() == '\n') || process_.ended();
  }));
  const std::string answer = process_.output().substr(before);
  return answer.empty() ? "" : answer.substr(0, answer.size() - 1);
}

void Mapper::store(std::size_t offset, unsigned value) {
  REQUIRE(ask("store " + std::to_string(offset) + " " + std::to_string(value)) == "stored");
}

}  // namespace support
