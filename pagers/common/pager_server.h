// The capabilities that a pager offers: protocol::Pager and protocol::PagedObject over Pager and
// PagedStore.
#pragma once

#include <memory>

#include <kj/vector.h>

#include "pagers/common/page_in_ring.h"
#include "pagers/common/pager.h"
#include "pagers/common/workers.h"

namespace pager {

/// Threads for what would hold up the event loop. Who waits for a page-in is a program in a fault,
/// so those have some of their own.
struct PagerWorkers {
  Workers writing{2};
  Workers reading{8};
};

class PagerServer final : public protocol::Pager::Server {
 public:
  /// `name` begins the texts of failures: "pager-file".
  PagerServer(Pager& pager, PagerWorkers& workers, std::string name, kj::UnixEventPort& port)
      : pager_(pager),
        workers_(workers),
        name_(std::move(name)),
        ring_(std::make_shared<PageInRing>(port)) {}

  kj::Promise<void> open(OpenContext context) override;
  kj::Promise<void> settled(SettledContext context) override;
  kj::Promise<void> ring(RingContext context) override;
  kj::Promise<void> framebuffer(FramebufferContext context) override;

 private:
  void open_with(OpenContext& context, hal::SharedDescriptor content, hal::SharedDescriptor memory);

  Pager& pager_;
  PagerWorkers& workers_;
  std::string name_;
  std::shared_ptr<PageInRing> ring_;
  bool settled_ = false;
  kj::Vector<kj::Promise<void>> opening_;  ///< until settled(), of a pager that keeps
};

}  // namespace pager
