// One pager that registered, as the RPC thread knows it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <kj/async-unix.h>
#include <kj/refcount.h>

#include "protocol/pager.capnp.h"
#include "vmserver/rpc/page_in_ring.h"
#include "vmserver/vm/pager.h"

namespace server {

/// What log lines call pagers of a kind: "pager-file".
const char* program_of(vm::PagerKind kind);

struct RegisteredPager : public kj::Refcounted {
  RegisteredPager(protocol::Pager::Client client) : client(kj::mv(client)) {}

  struct Claim {
    std::uint64_t device;
    std::uint64_t inode;
  };

  bool claims_file(std::uint64_t device, std::uint64_t inode) const {
    for (const Claim& claim : claims)
      if (claim.device == device && claim.inode == inode) return true;
    return false;
  }
  /// "pager-file (NAME)"
  std::string title() const { return std::string(program_of(kind)) + " (" + name + ")"; }

  vm::PagerKind kind = vm::PagerKind::file;
  std::string name;
  protocol::Pager::Client client;
  std::vector<Claim> claims;
  std::function<void()> disconnect;  ///< ends its connection, later
  bool keeps = false;                ///< what it has outlives it
  bool settled = false;              ///< was told of every object that there is
  bool gone = false;                 ///< nothing is to be asked of it any more

  // For page-ins.
  std::unique_ptr<PageInRing> ring;
  kj::Own<kj::UnixEventPort::FdObserver> replies;  ///< once the pager reads from it
  kj::Promise<void> reading_replies = nullptr;
};

}  // namespace server
