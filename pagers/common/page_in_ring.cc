#include "pagers/common/page_in_ring.h"

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
/// The event loop itself waits for a disk to read so many.
constexpr std::uint64_t kFewPages = 16;

protocol::PageInRing* map(const hal::SharedDescriptor& memory) {
  constexpr std::size_t kBytes = sizeof(protocol::PageInRing);
  struct stat status;
  if (!memory || ::fstat(memory.get(), &status) != 0 ||
      static_cast<std::uint64_t>(status.st_size) < kBytes)
    throw Failure(EINVAL, "ring: not the memory of one");
  void* const at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) throw Failure(errno, "map the ring of page-ins");
  return static_cast<protocol::PageInRing*>(at);
}

}  // namespace

ReplyLine::ReplyLine(const hal::SharedDescriptor& memory, hal::SharedDescriptor bell)
    : ring_(map(memory)), replies_(ring_->replies), bell_(std::move(bell)) {}

ReplyLine::~ReplyLine() { ::munmap(ring_, sizeof(*ring_)); }

void ReplyLine::reply(std::uint32_t tag, bool filled) {
  using Outcome = protocol::PageInRing::Outcome;
  const std::lock_guard lock(mutex_);
  if (replies_.write({tag, filled ? Outcome::filled : Outcome::not_filled}))
    protocol::ring_bell(bell_.get());
}

void PageInRing::leave(std::uint64_t object, const Filler& filler) {
  const auto known = fillers_.find(object);
  if (known != fillers_.end() && known->second == &filler) fillers_.erase(known);
}

void PageInRing::open(const hal::SharedDescriptor& memory, const hal::SharedDescriptor& requests,
                      const hal::SharedDescriptor& replies) {
  if (replies_) throw Failure(EALREADY, "ring: there is one already");
  if (!requests || !replies) throw Failure(EINVAL, "ring: without its bells");
  replies_ = std::make_shared<ReplyLine>(memory, replies);
  requests_.emplace(replies_->ring().requests);
  bell_ = requests;
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
  if (!requests_->sleep()) protocol::ring_bell(bell_.get());
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
  if (known == fillers_.end()) return replies_->reply(request.tag, false);
  const PageRange pages(PageIndex(request.first_page), request.page_count);
  if (const auto filled = fill_at_once(*known->second, pages))
    return replies_->reply(request.tag, *filled);
  tasks_.add(known->second->fill(pages, std::make_shared<PageInReply>(replies_, request.tag)));
}

std::optional<bool> PageInRing::fill_at_once(Filler& filler, PageRange pages) {
  using Clock = std::chrono::steady_clock;
  if (const auto filled = filler.fill_at_once(pages, Filler::Wait::none)) return filled;
  const bool alone = replies_->under_way == 0 && !requests_->any();
  if (!alone || pages.count() > kFewPages || !patience_.may_wait()) return {};
  const auto since = Clock::now();
  const auto filled = filler.fill_at_once(pages, Filler::Wait::for_disk);
  if (filled) patience_.waited(Clock::now() - since, requests_->any());
  return filled;
}

void PageInRing::taskFailed(kj::Exception&& exception) {
  spdlog::error("ring: {}", exception.getDescription().cStr());
}

}  // namespace pager
