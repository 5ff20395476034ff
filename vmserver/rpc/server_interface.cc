#include "vmserver/rpc/server_interface.h"

#include <kj/debug.h>

#include "vmserver/rpc/control_service.h"
#include "vmserver/rpc/peer_log.h"

namespace server {
namespace {

constexpr unsigned kMostClaims = 1024;
constexpr std::size_t kLongestName = 64;

/// Dropped by the pager or with its connection.
class RegistrationServer final : public protocol::Registration::Server {
 public:
  RegistrationServer(PagerHub& hub, kj::Own<RegisteredPager> pager)
      : hub_(hub), pager_(kj::mv(pager)) {}
  ~RegistrationServer() { hub_.lose(*pager_, "its connection or registration ended"); }

 private:
  PagerHub& hub_;
  kj::Own<RegisteredPager> pager_;
};

vm::PagerKind kind_of(protocol::Kind kind) {
  switch (kind) {
    case protocol::Kind::ANONYMOUS:
      return vm::PagerKind::anonymous;
    case protocol::Kind::FILE:
      return vm::PagerKind::file;
    case protocol::Kind::DEVICE:
      return vm::PagerKind::device;
  }
  KJ_FAIL_REQUIRE("registerPager: a kind of pager that this server does not know");
}

}  // namespace

kj::Promise<void> VmServerInterface::registerPager(RegisterPagerContext context) {
  const auto params = context.getParams();
  const vm::PagerKind kind = kind_of(params.getKind());
  KJ_REQUIRE(params.hasPager(), "registerPager: without a pager");
  const auto claims = params.getClaims();
  KJ_REQUIRE(claims.size() <= kMostClaims, "registerPager: too many claims");
  KJ_REQUIRE(claims.size() == 0 || kind == vm::PagerKind::device,
             "registerPager: only a device pager claims files");
  auto pager = kj::refcounted<RegisteredPager>(params.getPager());
  pager->kind = kind;
  pager->name = printable(params.getName().cStr(), kLongestName);
  pager->disconnect = disconnect_;
  pager->keeps = params.getKeeps();
  for (const auto claim : claims) pager->claims.push_back({claim.getDevice(), claim.getInode()});
  context.getResults().setRegistration(kj::heap<RegistrationServer>(hub_, kj::addRef(*pager)));
  hub_.add(kj::mv(pager));
  return kj::READY_NOW;
}

kj::Promise<void> VmServerInterface::control(ControlContext context) {
  context.getResults().setControl(kj::heap<ControlService>(inspector_, hub_));
  return kj::READY_NOW;
}

}  // namespace server
