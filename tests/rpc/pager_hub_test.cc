// PagerHub alone, on the event loop of the test: what comes in which order is the test's to say.
#include <catch2/catch.hpp>

#include <kj/async-io.h>

#include <string>

#include "support.h"
#include "vmserver/rpc/pager_hub.h"

namespace {

/// Keeps nothing, and says in which order it was asked what.
class KeepingPager final : public protocol::Pager::Server {
 public:
  explicit KeepingPager(std::string& asked) : asked_(asked) {}

  kj::Promise<void> open(OpenContext context) override {
    class Object final : public protocol::PagedObject::Server {};
    asked_ += "open ";
    context.getResults().initStatus();
    context.getResults().setObject(kj::heap<Object>());
    return kj::READY_NOW;
  }
  kj::Promise<void> settled(SettledContext) override {
    asked_ += "settled ";
    return kj::READY_NOW;
  }

 private:
  std::string& asked_;
};

/// Registered, as far as PagerHub can see; the caller's to add.
kj::Own<server::RegisteredPager> keeping_pager(std::string& asked) {
  auto pager = kj::refcounted<server::RegisteredPager>(kj::heap<KeepingPager>(asked));
  pager->kind = vm::PagerKind::anonymous;
  pager->name = "keeping";
  pager->keeps = true;
  return pager;
}

}  // namespace

// It would forget what it keeps of objects that are still with the one before it.
TEST_CASE("a pager that keeps is told that all objects are there when they are") {
  auto io = kj::setupAsyncIo();
  server::PagerHub hub;
  hub.begin(io.unixEventPort);
  std::string asked_first;
  std::string asked_second;
  auto first = keeping_pager(asked_first);
  hub.add(kj::addRef(*first));

  hal::MemfdFactory factory;
  const auto memory = factory.create("test", 8);
  std::unique_ptr<vm::PagedObject> object;
  hub.open(vm::PagerKind::anonymous, {}, hal::bytes_from_pages(8), memory,
           [&](vm::Result<vm::OpenedObject> opened) {
             REQUIRE(opened);
             object = std::move(opened.value().object);
           });
  REQUIRE(object);
  hub.take_queued();
  io.waitScope.poll();
  REQUIRE(asked_first == "settled open ");

  // The second comes when the first is gone and its objects are not taken from it yet.
  hub.lose(*first, "the test says so");
  hub.add(keeping_pager(asked_second));
  io.waitScope.poll();
  CHECK(asked_second == "open settled ");

  object.reset();
  hub.take_queued();
  hub.end();
}
