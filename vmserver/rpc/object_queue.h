// ObjectQueue: how work for objects at pagers gets from any thread to the RPC thread.
//
//   ObjectInbox  one object's side: what was submitted to it and not yet taken
//   ObjectQueue  the inboxes that have something, and the eventfd that says so
//   Delivery     what the RPC thread takes out of one inbox
//
// Putting a Transfer in is a lock, two list operations and at most one write() to the eventfd;
// nothing is allocated.
//
// A page-in need not come to the RPC thread at all: where it has said so for the inbox (allow()),
// and nothing is in there or under way that goes before it, submit() puts it into the pager's ring at
// once (page_in_ring.h). Those are guarded by the queue's lock, too.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "hal/host_file.h"
#include "vmserver/rpc/page_in_ring.h"
#include "vmserver/vm/pager.h"

namespace server {

using TransferList = boost::intrusive::list<vm::Transfer>;

/// What is said of an object besides Transfers, and how many Transfers of the same inbox go before it.
struct Command {
  struct Resize {
    std::uint64_t bytes;
  };
  struct Grant {
    hal::SharedDescriptor content;
  };
  struct Discard {
    std::vector<hal::PageRange> pages;
  };
  struct OnLost {
    std::function<void()> lost;
  };
  using What = std::variant<Resize, Grant, Discard, OnLost>;

  std::size_t after = 0;
  What what;
};

class ObjectInbox : public boost::intrusive::list_base_hook<> {
 public:
  virtual ~ObjectInbox() = default;

 private:
  friend class ObjectQueue;

  // Guarded by ObjectQueue::mutex_.
  TransferList transfers_;
  TransferList unfilled_;  ///< went to the ring and came back without having been done
  std::vector<Command> commands_;
  bool queued_ = false;
  bool fresh_ = true;
  bool closed_ = false;
  std::vector<hal::PageRange> going_out_;  ///< page-outs that have not ended
  PageInRing* ring_ = nullptr;  ///< for page-ins; null when they come to the RPC thread
  std::uint64_t number_ = 0;    ///< of the object there
};

class ObjectQueue {
 public:
  struct Delivery {
    ObjectInbox* inbox = nullptr;
    TransferList transfers;
    TransferList unfilled;  ///< page-ins that a ring's reply says to make calls of
    std::vector<Command> commands;
    bool fresh = false;   ///< never taken before
    bool closed = false;  ///< nothing will come any more; the taker destroys it
  };

  /// Throws std::system_error when there is no eventfd to be had.
  ObjectQueue();
  ~ObjectQueue();
  ObjectQueue(const ObjectQueue&) = delete;
  ObjectQueue& operator=(const ObjectQueue&) = delete;

  // Any thread.

  /// Makes the inbox known to the RPC thread, which owns it from here on. False when the queue was
  /// stopped: then it stays the caller's.
  bool announce(ObjectInbox& inbox);
  void submit(ObjectInbox& inbox, vm::Transfer& transfer);
  void command(ObjectInbox& inbox, Command::What what);
  /// See PagerDirectory: of page-ins that went to a ring. The RPC thread is not woken for any until
  /// leave_answers().
  vm::PagerDirectory::Answers take_answers();
  void leave_answers();
  void close(ObjectInbox& inbox);
  /// Makes the eventfd readable.
  void wake();
  /// No announce() succeeds any more. What was put in already can still be taken out.
  void stop();

  // The RPC thread.

  /// Readable when there is something to take or wake() was called.
  int event_descriptor() const { return event_; }
  /// Everything that is in the queue now. The inboxes are valid until taken.
  void begin();
  /// Takes the next of what begin() found; false when there is no more. An inbox that had commands
  /// has no ring from here on.
  bool take(Delivery& delivery);
  /// From here on page-ins of the inbox may go to this ring, under this number, until commands are
  /// taken out of the inbox or forbid() is called. Not when there are some by now.
  void allow(ObjectInbox& inbox, PageInRing& ring, std::uint64_t number);
  /// From here on they come here. Returns those that have no reply yet from `ring`; it will not be
  /// taken for an answer any more.
  std::vector<vm::Transfer*> forbid(ObjectInbox& inbox, PageInRing& ring);
  /// Nothing when there is none; from then on the bell is rung for the next one.
  std::optional<PageInRing::Reply> take_reply(PageInRing& ring);
  /// A page-out of these pages has ended.
  void written(ObjectInbox& inbox, hal::PageRange pages);
  /// Rings that take_answers() is to know of.
  void add_ring(PageInRing& ring);
  void remove_ring(PageInRing& ring);

 private:
  void queue(ObjectInbox& inbox);
  static bool may_go_to_ring(const ObjectInbox& inbox, const vm::Transfer& transfer);
  vm::PagerDirectory::Answers take_replies(std::vector<vm::Transfer*>& filled);

  int event_ = -1;
  std::mutex mutex_;
  boost::intrusive::list<ObjectInbox> ready_;  ///< guarded by mutex_
  bool signalled_ = false;                     ///< guarded by mutex_; the eventfd was written
  bool stopped_ = false;                       ///< guarded by mutex_
  std::vector<PageInRing*> rings_;             ///< guarded by mutex_
  boost::intrusive::list<ObjectInbox> batch_;  ///< links guarded by mutex_, order by the RPC thread
};

}  // namespace server
