#include "vmserver/rpc/object_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace server {

ObjectQueue::ObjectQueue() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (event_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd for pager work");
}

ObjectQueue::~ObjectQueue() {
  ready_.clear();
  batch_.clear();
  ::close(event_);
}

bool ObjectQueue::announce(ObjectInbox& inbox) {
  const std::lock_guard lock(mutex_);
  if (stopped_) return false;
  queue(inbox);
  return true;
}

void ObjectQueue::submit(ObjectInbox& inbox, vm::Transfer& transfer) {
  const std::lock_guard lock(mutex_);
  inbox.transfers_.push_back(transfer);
  queue(inbox);
}

void ObjectQueue::command(ObjectInbox& inbox, Command::What what) {
  const std::lock_guard lock(mutex_);
  inbox.commands_.push_back({inbox.transfers_.size(), std::move(what)});
  queue(inbox);
}

void ObjectQueue::close(ObjectInbox& inbox) {
  const std::lock_guard lock(mutex_);
  inbox.closed_ = true;
  queue(inbox);
}

void ObjectQueue::queue(ObjectInbox& inbox) {
  if (!inbox.queued_) {
    inbox.queued_ = true;
    ready_.push_back(inbox);
  }
  if (!signalled_) {
    signalled_ = true;
    // Can only fail when the counter is full, and then it is readable.
    [[maybe_unused]] const int result = ::eventfd_write(event_, 1);
  }
}

void ObjectQueue::wake() {
  const std::lock_guard lock(mutex_);
  [[maybe_unused]] const int result = ::eventfd_write(event_, 1);
}

void ObjectQueue::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
}

void ObjectQueue::begin() {
  const std::lock_guard lock(mutex_);
  eventfd_t ignored;
  [[maybe_unused]] const int result = ::eventfd_read(event_, &ignored);
  signalled_ = false;
  batch_.splice(batch_.end(), ready_);
}

bool ObjectQueue::take(Delivery& delivery) {
  const std::lock_guard lock(mutex_);
  if (batch_.empty()) return false;
  ObjectInbox& inbox = batch_.front();
  batch_.pop_front();
  inbox.queued_ = false;
  delivery.inbox = &inbox;
  delivery.transfers.clear();
  delivery.transfers.swap(inbox.transfers_);
  delivery.commands = std::exchange(inbox.commands_, {});
  delivery.fresh = std::exchange(inbox.fresh_, false);
  delivery.closed = inbox.closed_;
  return true;
}

}  // namespace server
