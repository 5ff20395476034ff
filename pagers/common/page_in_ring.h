// PageInRing: the pager's end of the ring that page-ins come through (protocol/page_in_ring.h).
//
// Objects that are open enter themselves under their numbers. Requests are read on the event loop:
// when the bell rings, and before every call for an object, so that a page-in that was asked for
// before the call is in line before it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include <kj/async-unix.h>

#include "hal/address.h"
#include "hal/host_file.h"
#include "pagers/common/patience.h"
#include "protocol/linger.h"
#include "protocol/page_in_ring.h"

namespace pager {

/// Where replies go: the memory of both lines, and the bell for replies. Any thread.
class ReplyLine {
 public:
  /// Throws Failure.
  ReplyLine(const hal::SharedDescriptor& memory, hal::SharedDescriptor bell);
  ~ReplyLine();
  ReplyLine(const ReplyLine&) = delete;
  ReplyLine& operator=(const ReplyLine&) = delete;

  protocol::PageInRing& ring() { return *ring_; }
  void reply(std::uint32_t tag, bool filled);

  std::atomic<unsigned> under_way{0};  ///< requests that wait for somebody else than the event loop

 private:
  protocol::PageInRing* ring_;
  std::mutex mutex_;
  protocol::RingWriter<protocol::PageInRing::Reply> replies_;  // mutex_
  hal::SharedDescriptor bell_;
};

/// The one reply that a request gets; "not filled" if nobody says anything else.
class PageInReply {
 public:
  PageInReply(std::shared_ptr<ReplyLine> line, std::uint32_t tag)
      : line_(std::move(line)), tag_(tag) {
    ++line_->under_way;
  }
  ~PageInReply() {
    --line_->under_way;
    line_->reply(tag_, filled_);
  }
  PageInReply(const PageInReply&) = delete;
  PageInReply& operator=(const PageInReply&) = delete;

  /// Said when this is destroyed.
  void set_filled(bool filled) { filled_ = filled; }

 private:
  const std::shared_ptr<ReplyLine> line_;
  const std::uint32_t tag_;
  bool filled_ = false;
};

class PageInRing final : private kj::TaskSet::ErrorHandler {
 public:
  /// One open object.
  class Filler {
   public:
    virtual ~Filler() = default;
    enum class Wait { none, for_disk };
    /// Whether these pages were filled; nothing when that has to wait for more than it may.
    virtual std::optional<bool> fill_at_once(hal::PageRange pages, Wait wait) = 0;
    /// Fills them, and says so on any thread: to wake the event loop for it would take longer than
    /// many a disk.
    virtual kj::Promise<void> fill(hal::PageRange pages, std::shared_ptr<PageInReply> reply) = 0;
  };

  explicit PageInRing(kj::UnixEventPort& port) : port_(port), tasks_(*this) {}
  PageInRing(const PageInRing&) = delete;
  PageInRing& operator=(const PageInRing&) = delete;

  void enter(std::uint64_t object, Filler& filler) { fillers_[object] = &filler; }
  void leave(std::uint64_t object, const Filler& filler);

  /// Takes requests from this memory from here on. Throws Failure.
  void open(const hal::SharedDescriptor& memory, const hal::SharedDescriptor& requests,
            const hal::SharedDescriptor& replies);
  /// Begins every request that is there. False when there is none.
  bool drain();

 private:
  using Ring = protocol::PageInRing;

  void begin(const Ring::Request& request);
  std::optional<bool> fill_at_once(Filler& filler, hal::PageRange pages);
  kj::Promise<void> listen();
  void taskFailed(kj::Exception&& exception) override;

  kj::UnixEventPort& port_;
  std::unordered_map<std::uint64_t, Filler*> fillers_;
  std::shared_ptr<ReplyLine> replies_;  // both are made by open()
  std::optional<protocol::RingReader<Ring::Request>> requests_;
  hal::SharedDescriptor bell_;  ///< for requests
  kj::Own<kj::UnixEventPort::FdObserver> rings_;
  protocol::Linger linger_{50};  ///< for the next request
  Patience patience_;
  kj::TaskSet tasks_;
};

}  // namespace pager
