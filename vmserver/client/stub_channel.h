// StubChannel: orders to the thread of a program that takes pages out of its address space, and what
// it answers (protocol/trap_frame.h, StubOrder).
//
// Orders come from any thread, one at a time; answers are read on the stubs' thread, which is where
// `done` is called. A program that answers what no shim answers loses its session.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "hal/host_file.h"
#include "hal/linux/uffd_pmap.h"

namespace server {

class StubChannel final : public hal::PageTaker,
                          public std::enable_shared_from_this<StubChannel> {
 public:
  /// `socket`, `pipe`: as they came with the StubHello. `broken` is told, once and on the stubs'
  /// thread, what the program did wrong.
  StubChannel(boost::asio::io_context& stubs, hal::SharedDescriptor socket,
              hal::SharedDescriptor pipe, std::uint64_t most_pages,
              std::function<void(const std::string&)> broken);

  void start();
  /// No order is answered any more; one that is under way and not answered has taken nothing.
  void close();

  void take(hal::VirtualRange range, hal::Taking how, hal::LeftDone done) override;

 private:
  struct Pending {
    std::uint64_t pages = 0;
    bool unshare = false;
    hal::LeftDone done;
  };

  void wait();
  /// False when the channel is of no use any more; `why` then says what the program did wrong, if
  /// it did.
  bool read_answer(std::string& why);
  bool read_content(std::uint64_t pages);
  void end();
  Pending take_pending();

  boost::asio::io_context& stubs_;
  const hal::SharedDescriptor socket_;
  const hal::SharedDescriptor pipe_;
  const std::uint64_t most_pages_;
  const std::function<void(const std::string&)> broken_;
  boost::asio::posix::stream_descriptor readable_;  // the stubs' thread

  std::mutex lock_;
  Pending pending_;      // lock_; no `done`: none
  bool closed_ = false;  // lock_
};

}  // namespace server
