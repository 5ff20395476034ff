// ControlClient: a tool's connection to the Control interface of a running server
// (protocol/server.capnp), over the RPC socket beside the program socket.
//
// Calls are synchronous: each waits for its answer. Descriptors that the server passes along (a
// framebuffer's memory) arrive with the answer. What goes wrong is thrown, with what was asked of
// which socket: cli::UsageError when nothing answers there at all, std::runtime_error when the
// server answered no or went away.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <cstdint>
#include <functional>
#include <string>

#include "protocol/server.capnp.h"
#include "tools/unique_fd.h"

namespace tools {

/// The RPC socket that belongs to a program socket.
std::string rpc_socket_path(const std::string& program_socket);

/// A framebuffer as it was described when asked for. `memory` holds `height` rows of `stride`
/// bytes; a pixel is 32 bits: blue, green, red, unused.
struct FramebufferView {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint32_t stride = 0;
  UniqueFd memory;
};

class ControlClient {
 public:
  using Spaces = capnp::Response<protocol::Control::SpacesResults>;
  using Map = capnp::Response<protocol::Control::MapResults>;
  using Statistics = capnp::Response<protocol::Control::StatisticsResults>;

  /// Connects to the server whose *program* socket is at this path.
  explicit ControlClient(const std::string& program_socket);
  ~ControlClient() noexcept(false);

  Spaces spaces();
  /// The map of a served process; fails when `pid` is not served.
  Map map(std::int32_t pid);
  Statistics statistics();
  /// The most private pages that `pid` shall have in memory, 0 for no limit. Fails when it is not
  /// served, or the server has no limit itself.
  void limit(std::int32_t pid, std::uint64_t pages);
  /// Fails when no pager has a framebuffer of that name.
  FramebufferView framebuffer(const std::string& name);
  /// Tells the server to end after its last address space; returns how many there are.
  std::uint32_t drain();
  /// Calls `each` for every event until this process gets SIGINT or SIGTERM, and `listening` as soon
  /// as none is missed any more. What they throw ends it. capture_end() has to come before the
  /// client is made.
  void trace_exec(const std::function<void(protocol::ExecEvent::Reader)>& each,
                  const std::function<void()>& listening);
  /// SIGINT and SIGTERM belong to trace_exec() from here on.
  static void capture_end();

 private:
  template <typename Request>
  auto ask(const std::string& what, Request&& request);
  /// Turns an exception of the connection into one that names the socket.
  template <typename Work>
  auto guarded(const std::string& what, Work&& work);

  std::string path_;
  kj::AsyncIoContext io_;
  kj::Own<kj::AsyncCapabilityStream> stream_;
  kj::Own<capnp::TwoPartyClient> connection_;
  protocol::Control::Client control_;
};

}  // namespace tools
