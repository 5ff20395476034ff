// The library as a guest: in programs of every habit, of other users, under limits, and where there
// is no server.
#include <elf.h>
#include <sys/resource.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>

#include "tests/support/server.h"

using support::Command;
using support::Outcome;
using support::pattern;
using support::ServerUnderTest;

namespace {

constexpr uid_t kNobody = 65534;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kMib = std::size_t{1} << 20;
const std::string kOk = "status 0";

std::string result_of(std::vector<std::string> arguments) {
  ServerUnderTest server;
  return server.run(std::move(arguments)).text();
}

/// The library's DT_NEEDED entries.
std::vector<std::string> needed_by_shim() {
  const std::string image = support::read_file(support::shim_path());
  const auto at = [&](std::uint64_t offset) { return image.data() + offset; };
  Elf64_Ehdr header;
  REQUIRE(image.size() > sizeof(header));
  std::memcpy(&header, at(0), sizeof(header));
  std::vector<std::string> names;
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, at(header.e_shoff + i * sizeof(section)), sizeof(section));
    if (section.sh_type != SHT_DYNAMIC) continue;
    Elf64_Shdr strings;
    std::memcpy(&strings, at(header.e_shoff + section.sh_link * sizeof(strings)), sizeof(strings));
    for (std::uint64_t entry = 0; entry < section.sh_size; entry += sizeof(Elf64_Dyn)) {
      Elf64_Dyn dynamic;
      std::memcpy(&dynamic, at(section.sh_offset + entry), sizeof(dynamic));
      if (dynamic.d_tag == DT_NEEDED)
        names.emplace_back(at(strings.sh_offset + dynamic.d_un.d_val));
    }
  }
  return names;
}

bool is_one_line(const std::string& text) {
  return !text.empty() && text.back() == '\n' && std::count(text.begin(), text.end(), '\n') == 1;
}

}  // namespace

TEST_CASE("a program that closes every descriptor goes on being served") {
  CHECK(result_of({"descriptors", "close_all"}) == kOk);
  CHECK(result_of({"descriptors", "close_one_by_one"}) == kOk);
}

TEST_CASE("a forked child that closes every descriptor first goes on being served") {
  CHECK(result_of({"descriptors", "close_in_child"}) == kOk);
}

TEST_CASE("a program that puts its own files onto every number keeps them and is served") {
  CHECK(result_of({"descriptors", "put_own_everywhere"}) == kOk);
}

TEST_CASE("children of a program that has no descriptor left are served") {
  CHECK(result_of({"descriptors", "fork_with_none_left"}) == kOk);
}

TEST_CASE("nothing of the library is open in a program that a served one becomes") {
  const std::string next = support::program_path("descriptors");
  CHECK(result_of({"descriptors", "become_unserved", next, "none_open"}) == kOk);
}

TEST_CASE("a program's own descriptors are the small numbers it expects") {
  CHECK(result_of({"descriptors", "small_numbers"}) == kOk);
}

TEST_CASE("a program that may open few descriptors has the small ones, too") {
  ServerUnderTest server;
  Command command = server.command({"descriptors", "small_numbers"});
  command.limits = {{RLIMIT_NOFILE, 64}};
  CHECK(support::run(command).text() == kOk);
}

TEST_CASE("the library holds no descriptor of its program open") {
  CHECK(result_of({"descriptors", "pipes_end"}) == kOk);
}

TEST_CASE("the library needs libc and the loader, no C++ runtime") {
  const std::vector<std::string> names = needed_by_shim();
  REQUIRE_FALSE(names.empty());
  for (const std::string& name : names) {
    INFO(name);
    CHECK((name.starts_with("libc.so") || name.starts_with("ld-linux")));
  }
}

TEST_CASE("a served program writes nothing that it would not write alone") {
  ServerUnderTest server;
  const Outcome outcome = server.run({"anonymous", "private_memory"});
  CHECK(outcome.status == 0);
  CHECK(outcome.output.empty());
  CHECK(outcome.errors.empty());
}

TEST_CASE("a program of another user is served by root's server") {
  ServerUnderTest server({.options = {"--socket-mode", "0666"}});
  const std::string path = server.file("f", pattern(64 * kPage));
  const std::vector<std::vector<std::string>> runs = {
      {"anonymous", "private_memory"},       {"anonymous", "shared_memory"},
      {"anonymous", "fixed_elsewhere"},      {"file_mapping", "read_private", path},
      {"fork_memory", "private_memory"},     {"fork_memory", "grandchildren"},
      {"file_mapping", "write_shared", path}};
  for (const std::vector<std::string>& arguments : runs) {
    Command command = server.command(arguments);
    command.user = kNobody;
    INFO(arguments[0] << " " << arguments[1]);
    CHECK(support::run(command).text() == kOk);
  }
  const support::Statistics counts = server.statistics();
  CHECK(counts.calls.at("mmap") > 0);
  CHECK(counts.forks > 0);
}

TEST_CASE("a program that gives up root is served as before") {
  ServerUnderTest server({.options = {"--socket-mode", "0666"}});
  CHECK(server.run({"fork_memory", "gives_up_root"}).text() == kOk);
}

TEST_CASE("another user cannot connect where the socket's mode does not say so") {
  ServerUnderTest server;
  Command command = server.command({"anonymous", "private_memory"});
  command.user = kNobody;
  const Outcome outcome = support::run(command);
  CHECK(outcome.status == 127);
  CHECK(is_one_line(outcome.errors));
}

TEST_CASE("a finite RLIMIT_AS leaves room up to the limit and ENOMEM beyond it") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(4 * kPage));
  Command command = server.command({"limits", "address_space", "1024", path});
  command.limits = {{RLIMIT_AS, 1024 * kMib}};
  CHECK(support::run(command).text() == kOk);
  CHECK(server.statistics().calls.at("mmap") > 0);
}

TEST_CASE("under ulimit -v a program has what it would have natively, and no more") {
  ServerUnderTest server;
  Command command = server.command({"limits", "from_the_start"});
  command.limits = {{RLIMIT_AS, 1024 * kMib}};
  CHECK(support::run(command).text() == kOk);
  CHECK(server.statistics().calls.at("mmap") > 0);
}

TEST_CASE("a program that limits its own address space has what it would have natively") {
  CHECK(result_of({"limits", "while_running"}) == kOk);
}

TEST_CASE("another preloaded library works beside this one, in either order") {
  ServerUnderTest server;
  const std::string path = server.file("f", pattern(64 * kPage));
  const std::string other = support::program_path("libwrap_open.so");
  const std::string orders[] = {support::shim_path() + ":" + other,
                                other + ":" + support::shim_path()};
  for (const std::string& order : orders) {
    INFO(order);
    Command command = server.command({"descriptors", "opens_are_wrapped", path});
    command.environment.back() = "LD_PRELOAD=" + order;
    const std::uint64_t calls = server.statistics().calls["mmap"];
    CHECK(support::run(command).text() == kOk);
    CHECK(server.statistics().calls["mmap"] > calls);
  }
}

TEST_CASE("without a server a program says so in one line and ends with 127") {
  const support::TemporaryDirectory directory;
  Command command;
  command.arguments = {support::program_path("anonymous"), "private_memory"};
  command.environment.push_back("LD_PRELOAD=" + support::shim_path());
  command.environment.push_back("VMSHIM_SOCKET=" + directory / "none");
  const Outcome outcome = support::run(command);
  CHECK(outcome.status == 127);
  CHECK(is_one_line(outcome.errors));
  CHECK(outcome.errors.find(directory / "none") != std::string::npos);
  CHECK(outcome.output.empty());
}

TEST_CASE("VMSHIM_ON_ERROR=native lets a program run unserved, with the line") {
  const support::TemporaryDirectory directory;
  const std::vector<std::vector<std::string>> runs = {{"anonymous", "private_memory"},
                                                      {"anonymous", "odd_lengths"},
                                                      {"remap", "shrink"},
                                                      {"fork_memory", "grandchildren"},
                                                      {"wiring", "locks"},
                                                      {"advice", "dontneed_zeroes"}};
  for (const std::vector<std::string>& arguments : runs) {
    Command command;
    command.arguments = arguments;
    command.arguments[0] = support::program_path(arguments[0]);
    command.environment.push_back("LD_PRELOAD=" + support::shim_path());
    command.environment.push_back("VMSHIM_SOCKET=" + directory / "none");
    command.environment.push_back("VMSHIM_ON_ERROR=native");
    const Outcome outcome = support::run(command);
    INFO(arguments[0] << " " << arguments[1] << ": " << outcome.text());
    CHECK(outcome.status == 0);
    CHECK(is_one_line(outcome.errors));
  }
}

TEST_CASE("a socket path that is too long is one line and 127") {
  Command command;
  command.arguments = {support::program_path("anonymous"), "private_memory"};
  command.environment.push_back("LD_PRELOAD=" + support::shim_path());
  command.environment.push_back("VMSHIM_SOCKET=/" + std::string(300, 'x'));
  const Outcome outcome = support::run(command);
  CHECK(outcome.status == 127);
  CHECK(is_one_line(outcome.errors));
}
