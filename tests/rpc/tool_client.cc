#include "tool_client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <catch2/catch.hpp>
#include <cstring>

#include "protocol/descriptor.h"

namespace test {
namespace {

protocol::VmServer::Client bootstrap(capnp::RpcSystem<capnp::rpc::twoparty::VatId>& rpc) {
  capnp::MallocMessageBuilder message;
  auto id = message.initRoot<capnp::rpc::twoparty::VatId>();
  id.setSide(capnp::rpc::twoparty::Side::SERVER);
  return rpc.bootstrap(id).castAs<protocol::VmServer>();
}

}  // namespace

int connect_raw(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

ToolClient::ToolClient(const std::string& rpc_socket)
    : stream_(io_.lowLevelProvider->wrapUnixSocketFd(kj::AutoCloseFd(connect_raw(rpc_socket)),
                                                     kj::LowLevelAsyncIoProvider::ALREADY_CLOEXEC)),
      network_(*stream_, protocol::kMaxDescriptorsPerMessage, capnp::rpc::twoparty::Side::CLIENT),
      rpc_(capnp::makeRpcClient(network_)),
      server_(bootstrap(rpc_)) {}

}  // namespace test
