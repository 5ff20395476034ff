// ObjectQueue: how work for objects at pagers gets from any thread to the RPC thread.
//
//   ObjectInbox  one object's side: what was submitted to it and not yet taken
//   ObjectQueue  the inboxes that have something, and the eventfd that says so
//   Delivery     what the RPC thread takes out of one inbox
//
// Putting a Transfer in is a lock, two list operations and at most one write() to the eventfd;
// nothing is allocated.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <variant>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "hal/host_file.h"
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
  std::vector<Command> commands_;
  bool queued_ = false;
  bool fresh_ = true;
  bool closed_ = false;
};

class ObjectQueue {
 public:
  struct Delivery {
    ObjectInbox* inbox = nullptr;
    TransferList transfers;
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
  /// Takes the next of what begin() found; false when there is no more.
  bool take(Delivery& delivery);

 private:
  void queue(ObjectInbox& inbox);

  int event_ = -1;
  std::mutex mutex_;
  boost::intrusive::list<ObjectInbox> ready_;  ///< guarded by mutex_
  bool signalled_ = false;                     ///< guarded by mutex_; the eventfd was written
  bool stopped_ = false;                       ///< guarded by mutex_
  boost::intrusive::list<ObjectInbox> batch_;  ///< links guarded by mutex_, order by the RPC thread
};

}  // namespace server
