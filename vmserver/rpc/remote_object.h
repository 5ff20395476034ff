// RemoteObject: one object of the VM core at the pager that serves it. Lives on the RPC thread.
//
// One page-in, step by step. The hub takes the Transfer from the object's inbox and calls accept().
// The Transfer becomes a Job and, when a pager serves the object, a pageIn call. The pager fills
// the memfd and answers; the Job ends and Transfer::done() is called. If the pager goes away first,
// the Job stays. attach() with the next pager opens the object there and sends every Job again: a
// page-in only for what is still absent, because the pages that did arrive are visible to programs
// and may hold their stores by now.
//
// Anonymous pages that were written out exist only at their pager. When it dies they are lost: a
// page-in of them ends with Error::io and never with a page of zeroes. When it had registered as
// one that keeps, they may be with the next pager: Jobs wait for that, and before any of them is
// sent the two sides settle what there is (take_over()). What the next pager has not is lost then.
// What it has and should not have, because it was forgotten here while there was no pager, or
// written and never acknowledged, is forgotten there, too.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include <kj/async.h>

#include "hal/backing.h"
#include "hal/host_file.h"
#include "protocol/pager.capnp.h"
#include "vmserver/rpc/object_queue.h"
#include "vmserver/rpc/page_set.h"
#include "vmserver/rpc/registered_pager.h"
#include "vmserver/vm/pager.h"

namespace server {

class RemoteObject;

/// By which a pager knows again whose content it keeps.
using ServerId = std::array<std::uint8_t, 16>;

/// What an object tells the hub. Called on the RPC thread; nothing is destroyed from inside.
class RemoteObjectOwner {
 public:
  virtual ~RemoteObjectOwner() = default;
  /// The pager broke off or broke the rules and is to be dropped.
  virtual void pager_failed(RegisteredPager& pager, const std::string& why) = 0;
  /// A device pager's answer to the first open; on an error the object is to be destroyed.
  virtual void device_opened(RemoteObject& object, vm::Result<vm::OpenedObject> result) = 0;
  /// Page-ins of the object may go to its pager's ring, or may not. In that case: those that did
  /// and have no reply.
  virtual void allow_ring(RemoteObject& object, PageInRing& ring, std::uint64_t number) = 0;
  virtual std::vector<vm::Transfer*> forbid_ring(RemoteObject& object, PageInRing& ring) = 0;
  /// A page-out of the object has ended.
  virtual void written(RemoteObject& object, hal::PageRange pages) = 0;
  /// A line for the log, at error level.
  virtual void complain(const std::string& line) = 0;
};

class RemoteObject final : public ObjectInbox, private kj::TaskSet::ErrorHandler {
 public:
  struct Description {
    vm::PagerKind kind = vm::PagerKind::file;
    hal::FileAttributes attributes;
    hal::SharedDescriptor content;
    std::uint64_t bytes = 0;
    ServerId server{};         ///< this server's
    std::uint64_t number = 0;  ///< never given to another object of this server
    std::shared_ptr<hal::Backing> backing;
    vm::OpenDone device_done;  ///< devices only
  };

  RemoteObject(Description description, RemoteObjectOwner& owner);
  ~RemoteObject() override;

  vm::PagerKind kind() const { return description_.kind; }
  const hal::FileAttributes& attributes() const { return description_.attributes; }
  bool served_by(const RegisteredPager& pager) const;
  bool attached() const { return attachment_ != nullptr; }
  /// The memory is the pager's or the host's: it stays as it is when the pager goes.
  bool has_own_memory() const { return own_memory_; }
  /// Waits for a device pager's first answer.
  bool opening() const { return description_.device_done != nullptr; }
  vm::OpenDone take_device_done() { return std::exchange(description_.device_done, nullptr); }

  /// What came through the inbox, in order.
  void accept(ObjectQueue::Delivery& delivery);
  /// Opens the object at this pager and sends every Job that has not ended.
  void attach(kj::Own<RegisteredPager> pager);
  /// A page-in that went to the ring and was not done there: it becomes a Job.
  void call_instead(vm::Transfer& transfer);
  /// Has page-ins go to the pager's ring if there is one and nothing speaks against it.
  void use_ring();
  /// The pager is given up; Jobs stay.
  void detach();
  /// The same, because it has died. What only it had is lost, unless it keeps that.
  void pager_died();
  /// Nobody needs what the pager has of it.
  void forget();
  /// Ends every Job with this error.
  void fail_all(vm::Error error);

 private:
  struct Job {
    vm::Transfer* transfer;
    unsigned outstanding = 0;  ///< calls without an answer, and 1 while calls are being made
    vm::Error error = vm::Error::none;
    bool repeated = false;  ///< was sent to a pager before
  };
  using Jobs = std::list<Job>;

  struct Attachment;

  void start(Jobs::iterator job);
  void start_page_in(Jobs::iterator job);
  std::vector<hal::PageRange> runs_to_fill(Job& job);
  void call_page_in(Jobs::iterator job, hal::PageRange run);
  void call_page_out(Jobs::iterator job);
  void call_sync(Jobs::iterator job);
  template <class Request>
  void call(Jobs::iterator job, Request&& request);
  template <class Request>
  void tell(Request&& request);
  void answered(Jobs::iterator job, protocol::Status::Reader status);
  kj::Promise<void> call_failed(Jobs::iterator job, kj::Exception&& exception);
  void one_less(Jobs::iterator job);
  void finish(Jobs::iterator job);
  std::string text(const Job& job) const;

  kj::Promise<void> send_open();
  kj::Promise<void> open_answered(capnp::Response<protocol::Pager::OpenResults>&& response);
  kj::Promise<void> layout_answered(protocol::Layout::Reader layout);
  void open_ended(vm::Error error, vm::OpenedObject&& opened);
  void apply(const Command& command);
  void carry_out(const Command::Resize& resize);
  void carry_out(const Command::Grant& grant);
  void carry_out(const Command::Discard& discard);
  void carry_out(const Command::OnLost& on_lost);
  kj::Promise<void> take_over(bool kept);
  kj::Promise<void> ask_kept(std::uint64_t first_page);
  void kept_answered();
  void begin_jobs();
  void lose(const std::vector<hal::PageRange>& pages);
  void pager_failed(const std::string& why);
  void taskFailed(kj::Exception&& exception) override;

  Description description_;
  RemoteObjectOwner& owner_;
  bool own_memory_ = false;
  std::unique_ptr<Attachment> attachment_;
  Jobs jobs_;  ///< in order of submission

  bool attached_before_ = false;
  PageSet held_;  ///< anonymous pages that this pager has, or the next one should have
  PageSet lost_;  ///< anonymous pages that a dead pager had
  std::function<void()> tell_lost_;
};

/// errno of a pager's answer as an Error; a number that is none becomes EIO.
vm::Error error_of(protocol::Status::Reader status);

}  // namespace server
