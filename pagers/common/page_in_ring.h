// PageInRing: the pager's end of the ring that page-ins come through (protocol/page_in_ring.h).
//
// Objects that are open enter themselves under their numbers. Requests are read on the event loop:
// when the bell rings, and before every call for an object, so that a page-in that was asked for
// before the call is in line before it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include <kj/async-unix.h>

#include "hal/address.h"
#include "hal/host_file.h"
#include "protocol/linger.h"
#include "protocol/page_in_ring.h"

namespace pager {

class PageInRing final : private kj::TaskSet::ErrorHandler {
 public:
  /// One open object.
  class Filler {
   public:
    virtual ~Filler() = default;
    /// Whether these pages were filled; nothing when that has to wait for something.
    virtual std::optional<bool> fill_at_once(hal::PageRange pages) = 0;
    virtual kj::Promise<bool> fill(hal::PageRange pages) = 0;
  };

  explicit PageInRing(kj::UnixEventPort& port) : port_(port), tasks_(*this) {}
  ~PageInRing();
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
  void reply(std::uint32_t tag, bool filled);
  kj::Promise<void> listen();
  void taskFailed(kj::Exception&& exception) override;

  kj::UnixEventPort& port_;
  std::unordered_map<std::uint64_t, Filler*> fillers_;
  Ring* ring_ = nullptr;  // mapped by open()
  std::optional<protocol::RingReader<Ring::Request>> requests_;
  std::optional<protocol::RingWriter<Ring::Reply>> replies_;
  hal::SharedDescriptor bell_;        ///< rung for this one
  hal::SharedDescriptor reply_bell_;  ///< rung by this one
  kj::Own<kj::UnixEventPort::FdObserver> rings_;
  protocol::Linger linger_{std::chrono::microseconds(50)};  ///< for the next request
  kj::TaskSet tasks_;
};

}  // namespace pager
