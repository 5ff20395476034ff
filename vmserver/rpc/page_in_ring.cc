#include "vmserver/rpc/page_in_ring.h"

#include <sys/eventfd.h>
#include <sys/mman.h>

#include <cerrno>
#include <limits>
#include <new>
#include <numeric>
#include <system_error>
#include <utility>

#include "hal/linux/sealed_memory.h"

namespace server {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

hal::SharedDescriptor owned(int fd, const char* what) {
  if (fd < 0) fail(what);
  return hal::SharedDescriptor(fd);
}

// It is zero already.
protocol::PageInRing* map(const hal::SharedDescriptor& memory) {
  return new (hal::map_sealed_memory(memory, sizeof(protocol::PageInRing))) protocol::PageInRing;
}

}  // namespace

PageInRing::PageInRing()
    : memory_(hal::make_sealed_memory("page-ins", sizeof(protocol::PageInRing))),
      request_bell_(owned(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd for page-ins")),
      reply_bell_(owned(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd for page-ins")),
      mapped_(map(memory_)),
      requests_(mapped_->requests),
      replies_(mapped_->replies) {
  std::iota(free_.begin(), free_.end(), 0);
}

PageInRing::~PageInRing() { ::munmap(mapped_, sizeof(Memory)); }

bool PageInRing::submit(ObjectInbox& inbox, std::uint64_t number, vm::Transfer& transfer) {
  const std::uint64_t count = transfer.pages.count();
  if (free_count_ == 0 || count > std::numeric_limits<std::uint32_t>::max()) return false;
  const std::uint32_t tag = free_[--free_count_];
  pending_[tag] = {true, &inbox, &transfer};
  if (requests_.write({number, transfer.pages.first().value(), static_cast<std::uint32_t>(count),
                       tag}))
    protocol::ring_bell(request_bell_.get());
  return true;
}

std::optional<PageInRing::Reply> PageInRing::take_reply() {
  Memory::Reply read;
  if (!broken_ && !replies_.read(read)) return {};
  Reply reply;
  broken_ = broken_ || read.tag >= pending_.size() || !pending_[read.tag].asked;
  if (broken_) {
    reply.absurd = true;
    return reply;
  }
  const Pending pending = std::exchange(pending_[read.tag], {});
  free_[free_count_++] = read.tag;
  reply.inbox = pending.inbox;
  reply.transfer = pending.transfer;
  reply.filled = read.outcome == Memory::Outcome::filled;
  return reply;
}

std::vector<vm::Transfer*> PageInRing::take_back(const ObjectInbox& inbox) {
  std::vector<vm::Transfer*> taken;
  for (Pending& pending : pending_) {
    if (pending.inbox != &inbox) continue;
    taken.push_back(pending.transfer);
    pending.inbox = nullptr;
    pending.transfer = nullptr;
  }
  return taken;
}

void PageInRing::wake_reader() const { protocol::ring_bell(reply_bell_.get()); }

}  // namespace server
