// ServerUnderTest: a real vmserver with real pagers, in a directory of its own, for one test.
//
// At the end it is told to end by SIGTERM, and checks that server and pagers ended well and that
// nothing is left: no process, no socket.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/support/files.h"
#include "tests/support/process.h"

namespace support {

/// Paths of what is tested, from the build.
std::string server_path();
std::string shim_path();
std::string vmctl_path();
std::string pager_path(const std::string& kind);  ///< "anon", "file", "device"
std::string program_path(const std::string& name);

struct Statistics {
  std::uint64_t faults = 0;
  std::uint64_t zero_fills = 0;
  std::uint64_t pageins = 0;
  std::uint64_t pageouts = 0;
  std::uint64_t spaces = 0;
  std::uint64_t objects = 0;
  std::uint64_t forks = 0;
  std::uint64_t failed_faults = 0;
  std::uint64_t pagers = 0;
  std::uint64_t sessions_rejected = 0;
  std::map<std::string, std::uint64_t> calls;
};

struct ServerOptions {
  std::vector<std::string> options{};  ///< of vmserver, beside socket, log level and ready-fd
  std::vector<std::string> pagers{"anon", "file", "device"};
  std::vector<std::string> device_options{};  ///< of pager-device
  /// Of pager-anon; DIRECTORY in them stands for the server's.
  std::vector<std::string> anon_options{};
};

class ServerUnderTest {
 public:
  explicit ServerUnderTest(ServerOptions options = {});
  ~ServerUnderTest();
  ServerUnderTest(const ServerUnderTest&) = delete;
  ServerUnderTest& operator=(const ServerUnderTest&) = delete;

  const TemporaryDirectory& directory() const { return directory_; }
  /// A file in the directory that every user may read and write, with this content.
  std::string file(const std::string& name, const std::string& data) const;
  std::string socket() const { return directory_ / "s"; }
  std::string rpc_socket() const { return socket() + ".rpc"; }
  Process& process() { return server_; }
  std::string log() const { return server_.errors(); }
  Process& pager(const std::string& kind) { return pagers_.at(kind); }

  void start_server();
  void start_pager(const std::string& kind);
  /// Like SIGTERM's default action: the server has ended when this returns.
  Outcome terminate();
  /// SIGKILL. The pagers see that and end.
  void kill();

  Statistics statistics() const;
  /// What the server has open: what /proc shows of each descriptor, without inode numbers.
  std::vector<std::string> descriptors() const;

  /// A command that runs a program of tests/programs (or a path) served.
  Command command(std::vector<std::string> arguments) const;
  Process start(std::vector<std::string> arguments) const { return Process(command(arguments)); }
  Outcome run(std::vector<std::string> arguments) const { return support::run(command(arguments)); }

 private:
  void wait_for_pagers();

  TemporaryDirectory directory_;
  ServerOptions options_;
  Process server_;
  std::map<std::string, Process> pagers_;
};

}  // namespace support
