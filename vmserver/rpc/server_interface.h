// VmServerInterface: the bootstrap capability that one connection gets (VmServer in server.capnp).
#pragma once

#include <functional>

#include "protocol/server.capnp.h"
#include "vmserver/rpc/pager_hub.h"
#include "vmserver/vm/report.h"

namespace server {

class VmServerInterface final : public protocol::VmServer::Server {
 public:
  /// `disconnect` ends the connection, from the event loop.
  VmServerInterface(PagerHub& hub, vm::Inspector& inspector, std::function<void()> disconnect)
      : hub_(hub), inspector_(inspector), disconnect_(std::move(disconnect)) {}

  kj::Promise<void> registerPager(RegisterPagerContext context) override;
  kj::Promise<void> control(ControlContext context) override;

 private:
  PagerHub& hub_;
  vm::Inspector& inspector_;
  std::function<void()> disconnect_;
};

}  // namespace server
