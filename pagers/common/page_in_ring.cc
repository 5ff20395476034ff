#include "pagers/common/page_in_ring.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>

#include <spdlog/spdlog.h>

#include "pagers/common/failure.h"

namespace pager {

using hal::PageIndex;
using hal::PageRange;

namespace {

/// What else there is to do on the event loop waits for so long, at most.
constexpr std::chrono::milliseconds kMostAtOnce{1};

void ring(const hal::SharedDescriptor& bell) {
  // Can only fail when the count is full, and then it is readable.
  [[maybe_unused]] const int result = ::eventfd_write(bell.get(), 1);
}

}  // namespace

PageInRing::~PageInRing() {
  if (ring_ != nullptr) ::munmap(ring_, sizeof(Ring));
}

void PageInRing::leave(std::uint64_t object, const Filler& filler) {
  const auto known = fillers_.find(object);
  if (known != fillers_.end() && known->second == &filler) fillers_.erase(known);
}

void PageInRing::open(const hal::SharedDescriptor& memory, const hal::SharedDescriptor& requests,
                      const hal::SharedDescriptor& replies) {
  if (ring_ != nullptr) throw Failure(EALREADY, "ring: there is one already");
  struct stat status;
  if (!memory || !requests || !replies || ::fstat(memory.get(), &status) != 0 ||
      static_cast<std::uint64_t>(status.st_size) < sizeof(Ring))
    throw Failure(EINVAL, "ring: not the descriptors of one");
  void* const at =
      ::mmap(nullptr, sizeof(Ring), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) throw Failure(errno, "map the ring of page-ins");
  ring_ = static_cast<Ring*>(at);
  requests_.emplace(ring_->requests);
  replies_.emplace(ring_->replies);
  bell_ = requests;
  reply_bell_ = replies;
  rings_ = kj::heap<kj::UnixEventPort::FdObserver>(
      port_, bell_.get(), kj::UnixEventPort::FdObserver::OBSERVE_READ);
  tasks_.add(listen());
}

kj::Promise<void> PageInRing::listen() {
  using Clock = std::chrono::steady_clock;
  // Each ring of the bell is an event, whether or not its count is read.
  auto rung = rings_->whenBecomesReadable();
  for (const auto until = Clock::now() + kMostAtOnce; drain() && Clock::now() < until;) {
    if (!linger_.look([this] { return requests_->any(); })) break;
  }
  if (!requests_->sleep()) ring(bell_);
  return rung.then([this] { return listen(); });
}

bool PageInRing::drain() {
  bool any = false;
  if (!requests_) return any;
  for (Ring::Request request; requests_->read(request); any = true) begin(request);
  return any;
}

void PageInRing::begin(const Ring::Request& request) {
  const auto known = fillers_.find(request.object);
  if (known == fillers_.end()) return reply(request.tag, false);
  const PageRange pages(PageIndex(request.first_page), request.page_count);
  if (const auto filled = known->second->fill_at_once(pages)) return reply(request.tag, *filled);
  tasks_.add(known->second->fill(pages).then(
      [this, tag = request.tag](bool filled) { reply(tag, filled); },
      [this, tag = request.tag](kj::Exception&&) { reply(tag, false); /* the call says why */ }));
}

void PageInRing::reply(std::uint32_t tag, bool filled) {
  using Outcome = Ring::Outcome;
  if (replies_->write({tag, filled ? Outcome::filled : Outcome::not_filled})) ring(reply_bell_);
}

void PageInRing::taskFailed(kj::Exception&& exception) {
  spdlog::error("ring: {}", exception.getDescription().cStr());
}

}  // namespace pager
