#include "vmserver/rpc/object_queue.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
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
  if (may_go_to_ring(inbox, transfer) && inbox.ring_->submit(inbox, inbox.number_, transfer))
    return;
  if (transfer.kind == vm::Transfer::Kind::page_out) inbox.going_out_.push_back(transfer.pages);
  inbox.transfers_.push_back(transfer);
  queue(inbox);
}

bool ObjectQueue::may_go_to_ring(const ObjectInbox& inbox, const vm::Transfer& transfer) {
  return transfer.kind == vm::Transfer::Kind::page_in && inbox.ring_ != nullptr &&
         inbox.transfers_.empty() && inbox.commands_.empty() &&
         std::none_of(inbox.going_out_.begin(), inbox.going_out_.end(),
                      [&](hal::PageRange pages) { return pages.overlaps(transfer.pages); });
}

void ObjectQueue::written(ObjectInbox& inbox, hal::PageRange pages) {
  const std::lock_guard lock(mutex_);
  const auto known = std::find(inbox.going_out_.begin(), inbox.going_out_.end(), pages);
  if (known == inbox.going_out_.end()) return;
  *known = inbox.going_out_.back();
  inbox.going_out_.pop_back();
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
  delivery.unfilled.clear();
  delivery.unfilled.swap(inbox.unfilled_);
  delivery.commands = std::exchange(inbox.commands_, {});
  delivery.fresh = std::exchange(inbox.fresh_, false);
  delivery.closed = inbox.closed_;
  if (!delivery.commands.empty()) inbox.ring_ = nullptr;
  return true;
}

void ObjectQueue::allow(ObjectInbox& inbox, PageInRing& ring, std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  if (!inbox.commands_.empty()) return;
  inbox.ring_ = &ring;
  inbox.number_ = number;
}

std::vector<vm::Transfer*> ObjectQueue::forbid(ObjectInbox& inbox, PageInRing& ring) {
  const std::lock_guard lock(mutex_);
  inbox.ring_ = nullptr;
  return ring.take_back(inbox);
}

std::optional<PageInRing::Reply> ObjectQueue::take_reply(PageInRing& ring) {
  const std::lock_guard lock(mutex_);
  do {
    if (const auto reply = ring.take_reply()) return reply;
  } while (!ring.sleep());
  return {};
}

void ObjectQueue::add_ring(PageInRing& ring) {
  const std::lock_guard lock(mutex_);
  rings_.push_back(&ring);
}

void ObjectQueue::remove_ring(PageInRing& ring) {
  const std::lock_guard lock(mutex_);
  std::erase(rings_, &ring);
}

vm::PagerDirectory::Answers ObjectQueue::take_replies(std::vector<vm::Transfer*>& filled) {
  using Answers = vm::PagerDirectory::Answers;
  const std::lock_guard lock(mutex_);
  Answers answers = Answers::none_awaited;
  for (PageInRing* ring : rings_) {
    if (!ring->awaits_replies()) continue;
    if (answers == Answers::none_awaited) answers = Answers::awaited;
    ring->stay_awake();
    while (const auto reply = ring->take_reply()) {
      answers = Answers::taken;
      if (reply->absurd) break;  // let the RPC thread see it
      if (reply->transfer == nullptr) continue;
      if (reply->filled) {
        filled.push_back(reply->transfer);
      } else {
        reply->inbox->unfilled_.push_back(*reply->transfer);
        queue(*reply->inbox);
      }
    }
  }
  return answers;
}

vm::PagerDirectory::Answers ObjectQueue::take_answers() {
  static thread_local std::vector<vm::Transfer*> filled;
  const auto answers = take_replies(filled);
  for (vm::Transfer* transfer : filled) transfer->done(vm::Error::none);
  filled.clear();
  return answers;
}

void ObjectQueue::leave_answers() {
  const std::lock_guard lock(mutex_);
  for (PageInRing* ring : rings_)
    if (!ring->sleep()) ring->wake_reader();
}

}  // namespace server
