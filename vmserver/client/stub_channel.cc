#include "vmserver/client/stub_channel.h"

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol/trap_frame.h"

namespace server {

using Descriptor = boost::asio::posix::stream_descriptor;

namespace {

// What the last answer brought; the stubs' thread is one.
std::vector<std::byte>& content() {
  static thread_local std::vector<std::byte> bytes(
      hal::bytes_from_pages(protocol::kMaxOrderPages));
  return bytes;
}

}  // namespace

StubChannel::StubChannel(boost::asio::io_context& stubs, hal::SharedDescriptor socket,
                         hal::SharedDescriptor pipe, std::uint64_t most_pages,
                         std::function<void(const std::string&)> broken)
    : stubs_(stubs),
      socket_(std::move(socket)),
      pipe_(std::move(pipe)),
      most_pages_(most_pages),
      broken_(std::move(broken)),
      readable_(stubs) {}

void StubChannel::start() {
  const int flags = fcntl(pipe_.get(), F_GETFL);
  fcntl(pipe_.get(), F_SETFL, flags | O_NONBLOCK);
  boost::asio::post(stubs_, [self = shared_from_this()] {
    boost::system::error_code error;
    if (self->readable_.assign(fcntl(self->socket_.get(), F_DUPFD_CLOEXEC, 0), error)) {
      return self->end();
    }
    self->wait();
  });
}

void StubChannel::close() {
  boost::asio::post(stubs_, [self = shared_from_this()] { self->end(); });
}

void StubChannel::take(hal::VirtualRange range, hal::Taking how, hal::LeftDone done) {
  protocol::StubOrder order{};
  order.address = range.start().value();
  order.pages = static_cast<std::uint32_t>(std::min(range.pages(), most_pages_));
  switch (how) {
    case hal::Taking::move:
      order.kind = protocol::StubOrder::kMove;
      break;
    case hal::Taking::copy:
      order.kind = protocol::StubOrder::kCopy;
      break;
    case hal::Taking::unshare:
      order.kind = protocol::StubOrder::kUnshare;
      break;
  }
  {
    const std::lock_guard guard(lock_);
    if (!closed_ && !pending_.done) {
      pending_ = {order.pages, how == hal::Taking::unshare, std::move(done)};
      const ssize_t sent =
          send(socket_.get(), &order, sizeof(order), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent == static_cast<ssize_t>(sizeof(order))) return;
      done = std::exchange(pending_.done, nullptr);
    }
  }
  done({});
}

void StubChannel::wait() {
  readable_.async_wait(Descriptor::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         std::string why;
                         if (!error && self->read_answer(why)) return self->wait();
                         self->end();
                         if (!why.empty()) self->broken_(why);
                       });
}

StubChannel::Pending StubChannel::take_pending() {
  const std::lock_guard guard(lock_);
  return std::exchange(pending_, {});
}

bool StubChannel::read_answer(std::string& why) {
  protocol::StubAnswer answer{};
  const ssize_t got = recv(socket_.get(), &answer, sizeof(answer), MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (got <= 0) return false;  // the thread has ended
  const Pending pending = take_pending();
  const bool beyond = pending.pages < protocol::kMaxOrderPages &&
                      (answer.pages >> pending.pages) != 0;
  if (got != static_cast<ssize_t>(sizeof(answer)) || !pending.done || beyond ||
      (pending.unshare && answer.pages != 0)) {
    why = "its stub answered what it was not asked";
  } else if (!read_content(static_cast<std::uint64_t>(std::popcount(answer.pages)))) {
    why = "its stub took pages out without their content";
  }
  if (pending.done) {
    pending.done(why.empty() ? hal::Left{answer.pages, content().data()} : hal::Left{});
  }
  return why.empty();
}

bool StubChannel::read_content(std::uint64_t pages) {
  std::byte* into = content().data();
  std::size_t rest = hal::bytes_from_pages(pages);
  while (rest != 0) {
    const ssize_t got = read(pipe_.get(), into, rest);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into += got;
    rest -= static_cast<std::size_t>(got);
  }
  return true;
}

void StubChannel::end() {
  // What it has said counts, also of one that has been killed: children may need the pages.
  std::string of_no_use_now;
  if (readable_.is_open()) read_answer(of_no_use_now);
  boost::system::error_code ignored;
  readable_.close(ignored);
  {
    const std::lock_guard guard(lock_);
    closed_ = true;
  }
  if (const Pending pending = take_pending(); pending.done) pending.done({});
}

}  // namespace server
