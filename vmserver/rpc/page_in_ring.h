// PageInRing: the server's end of the ring that page-ins go through (protocol/page_in_ring.h).
//
// Whoever submits a page-in writes the request, from any thread; replies are for the RPC thread.
// All of it is under ObjectQueue's lock.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "hal/host_file.h"
#include "protocol/page_in_ring.h"
#include "vmserver/vm/pager.h"

namespace server {

class ObjectInbox;

class PageInRing {
 public:
  /// Throws std::system_error.
  PageInRing();
  ~PageInRing();
  PageInRing(const PageInRing&) = delete;
  PageInRing& operator=(const PageInRing&) = delete;

  // What the pager gets.
  const hal::SharedDescriptor& memory() const { return memory_; }
  const hal::SharedDescriptor& request_bell() const { return request_bell_; }
  const hal::SharedDescriptor& reply_bell() const { return reply_bell_; }

  /// Asks for these pages of the object with this number. False when there is no room, or for so
  /// many pages.
  bool submit(ObjectInbox& inbox, std::uint64_t number, vm::Transfer& transfer);

  struct Reply {
    ObjectInbox* inbox = nullptr;
    vm::Transfer* transfer = nullptr;
    bool filled = false;
    bool absurd = false;  ///< it answers nothing that was asked, and no more is read
  };
  std::optional<Reply> take_reply();
  /// Whether replies are still to come.
  bool awaits_replies() const { return free_count_ != Memory::kEntries; }
  /// The bell is not rung until sleep(): somebody looks for replies all the time.
  void stay_awake() { replies_.stay_awake(); }
  /// From here on the bell is rung for replies. False when there are some by now.
  bool sleep() { return !broken_ && replies_.sleep(); }
  /// Rings the bell for replies in the pager's place.
  void wake_reader() const;
  /// What was asked for of this object and has no reply, which is not awaited any more.
  std::vector<vm::Transfer*> take_back(const ObjectInbox& inbox);

 private:
  using Memory = protocol::PageInRing;
  struct Pending {
    bool asked = false;  ///< a reply may come
    ObjectInbox* inbox = nullptr;
    vm::Transfer* transfer = nullptr;  ///< null when nobody awaits the reply any more
  };

  hal::SharedDescriptor memory_;
  hal::SharedDescriptor request_bell_;
  hal::SharedDescriptor reply_bell_;
  Memory* mapped_;
  protocol::RingWriter<Memory::Request> requests_;
  protocol::RingReader<Memory::Reply> replies_;
  std::array<Pending, Memory::kEntries> pending_{};
  std::array<std::uint32_t, Memory::kEntries> free_{};  // tags: the first free_count_ of it
  std::uint32_t free_count_ = Memory::kEntries;
  bool broken_ = false;  // there was an absurd reply
};

}  // namespace server
