// A peer of the server's RPC socket inside the test: speaks as a tool or as a pager.
#pragma once

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <string>

#include "protocol/server.capnp.h"

namespace test {

/// Runs its event loop in the thread that made it, only inside wait().
class ToolClient {
 public:
  explicit ToolClient(const std::string& rpc_socket);
  protocol::VmServer::Client server() { return server_; }
  protocol::Control::Client control() { return server_.controlRequest().send().getControl(); }

  template <class T>
  auto wait(kj::Promise<T> promise) {
    return promise.wait(io_.waitScope);
  }
  template <class T>
  auto wait(capnp::RemotePromise<T> promise) {
    return promise.wait(io_.waitScope);
  }
  /// Answers what the server asks until it has disconnected this peer.
  void serve_until_disconnected() { network_.onDisconnect().wait(io_.waitScope); }
  kj::AsyncIoContext& io() { return io_; }

 private:
  kj::AsyncIoContext io_ = kj::setupAsyncIo();
  kj::Own<kj::AsyncCapabilityStream> stream_;
  capnp::TwoPartyVatNetwork network_;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc_;
  protocol::VmServer::Client server_;
};

/// A connected stream socket. Fails the test when there is no server.
int connect_raw(const std::string& path);

}  // namespace test
