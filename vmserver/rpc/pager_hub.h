// PagerHub: finds the pager for each object, and carries on when one dies.
//
// The VM core calls open(), claims() and the objects that open() gives from any thread; that side
// only queues (object_queue.h). Everything else happens on the RPC thread, which owns the pagers in
// line and a RemoteObject (remote_object.h) for every open object.
//
// For each kind the pager that registered first serves; the others wait in line. A device that a
// pager claims goes to that pager. When a pager dies, its objects are opened again at the next
// pager of the kind, at once or when one registers. A pager that only broke its connection and
// lives on could still write to the memory it was given: nothing here can take a descriptor back.
//
// Locks: claims_mutex_ and the queue's own mutex are leaves; no two are held together, and none
// while `done` of an open or of a Transfer is called.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include <kj/async.h>
#include <kj/timer.h>

#include "protocol/server.capnp.h"
#include "vmserver/rpc/object_queue.h"
#include "vmserver/rpc/peer_log.h"
#include "vmserver/rpc/registered_pager.h"
#include "vmserver/rpc/remote_object.h"
#include "vmserver/vm/pager.h"

namespace server {

class PagerHub final : public vm::PagerDirectory, private RemoteObjectOwner {
 public:
  /// Throws std::system_error.
  PagerHub();
  /// Every PagedObject that open() gave has to be destroyed before.
  ~PagerHub() override;

  // Any thread.

  void open(vm::PagerKind kind, const hal::HostFile& file, std::uint64_t bytes,
            std::shared_ptr<hal::Backing> backing, vm::OpenDone done) override;
  bool claims(const hal::FileAttributes& file) const override;
  Answers take_answers() override { return queue_.take_answers(); }
  void leave_answers() override { queue_.leave_answers(); }
  std::uint64_t registered() const { return registered_.load(std::memory_order_relaxed); }
  ObjectQueue& queue() { return queue_; }

  // The RPC thread.

  /// The event loop runs: pagers may be added from here on.
  void begin(kj::UnixEventPort& port);
  /// Takes what the queue holds.
  void take_queued();
  void add(kj::Own<RegisteredPager> pager);
  /// The pager's connection or registration ended. Acts later, from the event loop.
  void lose(RegisteredPager& pager, const std::string& why);
  /// Asks the device pagers for a framebuffer by name and copies the answer.
  kj::Promise<void> framebuffer(kj::StringPtr name,
                                protocol::Control::FramebufferResults::Builder results);
  /// Ends every Transfer with Error::no_device, gives every object up and waits until the pagers
  /// have seen that, a second at the most. Transfers submitted after it never end.
  kj::Promise<void> shut_down(kj::Timer& timer);
  /// Drops everything that belongs to the event loop.
  void end();

 private:
  class Handle;
  class Tasks;

  static constexpr std::size_t kKinds = 3;
  static std::size_t index(vm::PagerKind kind) { return static_cast<std::size_t>(kind); }

  kj::Promise<void> ask_framebuffer(std::size_t position, kj::String name,
                                    protocol::Control::FramebufferResults::Builder results);
  RegisteredPager* pager_for(const RemoteObject& object);
  void attach_waiting(vm::PagerKind kind);
  void settle(RegisteredPager& pager);
  bool serves_all(const RegisteredPager& pager) const;
  void offer_ring(RegisteredPager& pager);
  void ring_taken(RegisteredPager& pager);
  kj::Promise<void> read_replies(RegisteredPager& pager);
  void drop(RegisteredPager& pager, const std::string& why);
  void publish();

  // RemoteObjectOwner
  void pager_failed(RegisteredPager& pager, const std::string& why) override;
  void device_opened(RemoteObject& object, vm::Result<vm::OpenedObject> result) override;
  void allow_ring(RemoteObject& object, PageInRing& ring, std::uint64_t number) override {
    queue_.allow(object, ring, number);
  }
  std::vector<vm::Transfer*> forbid_ring(RemoteObject& object, PageInRing& ring) override {
    return queue_.forbid(object, ring);
  }
  void written(RemoteObject& object, hal::PageRange pages) override {
    queue_.written(object, pages);
  }
  void complain(const std::string& line) override { log_.error(line); }

  const ServerId id_;
  std::atomic<std::uint64_t> last_object_ = 0;
  ObjectQueue queue_;
  std::array<std::atomic<bool>, kKinds> ever_registered_{};
  std::atomic<std::uint64_t> registered_ = 0;
  std::atomic<std::uint64_t> devices_registered_ = 0;
  mutable std::mutex claims_mutex_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, unsigned> claims_;  ///< by claims_mutex_

  // The RPC thread's own.
  std::unique_ptr<Tasks> tasks_;         ///< between begin() and end()
  kj::UnixEventPort* port_ = nullptr;    ///< the same
  std::array<std::deque<kj::Own<RegisteredPager>>, kKinds> lines_;
  std::unordered_map<RemoteObject*, std::unique_ptr<RemoteObject>> objects_;
  PeerLog log_;
};

}  // namespace server
