// ControlService: what tools see of the server (Control in server.capnp), read from vm::Inspector.
#pragma once

#include "protocol/server.capnp.h"
#include "vmserver/rpc/pager_hub.h"
#include "vmserver/vm/report.h"

namespace server {

class ControlService final : public protocol::Control::Server {
 public:
  ControlService(vm::Inspector& inspector, PagerHub& hub) : inspector_(inspector), hub_(hub) {}

  kj::Promise<void> spaces(SpacesContext context) override;
  kj::Promise<void> map(MapContext context) override;
  kj::Promise<void> statistics(StatisticsContext context) override;
  kj::Promise<void> framebuffer(FramebufferContext context) override;
  kj::Promise<void> limit(LimitContext context) override;
  kj::Promise<void> drain(DrainContext context) override;
  kj::Promise<void> traceExec(TraceExecContext context) override;

 private:
  vm::Inspector& inspector_;
  PagerHub& hub_;
};

}  // namespace server
