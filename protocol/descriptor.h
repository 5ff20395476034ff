// File descriptors as capabilities: the two sides of `Descriptor` in pager.capnp.
#pragma once

#include <fcntl.h>

#include <memory>
#include <utility>

#include <kj/debug.h>
#include <kj/io.h>

#include "protocol/pager.capnp.h"

namespace protocol {

/// How many descriptors one message may bring; an open has two.
inline constexpr unsigned kMaxDescriptorsPerMessage = 4;

/// Offers one descriptor. `owner` keeps it open for as long as somebody holds the capability.
class DescriptorServer final : public Descriptor::Server {
 public:
  DescriptorServer(int fd, std::shared_ptr<const void> owner) : fd_(fd), owner_(std::move(owner)) {}
  kj::Maybe<int> getFd() override { return fd_; }

 private:
  int fd_;
  std::shared_ptr<const void> owner_;
};

/// Offers the descriptor that `file.get()` is for as long as a copy of `file` lives.
template <class File>
Descriptor::Client offer_descriptor(const File& file) {
  return kj::heap<DescriptorServer>(file.get(), std::make_shared<File>(file));
}

/// A duplicate of the descriptor behind the capability. Fails with a kj::Exception when none came
/// along or this process has none free.
inline kj::Promise<kj::AutoCloseFd> take_descriptor(Descriptor::Client capability) {
  auto promise = capability.getFd();
  return promise.then([capability = kj::mv(capability)](kj::Maybe<int> fd) mutable {
    int held = -1;
    KJ_IF_MAYBE (value, fd) {
      held = *value;
    }
    KJ_REQUIRE(held >= 0, "the capability carries no file descriptor");
    int copy;
    KJ_SYSCALL(copy = ::fcntl(held, F_DUPFD_CLOEXEC, 3), "duplicate a received descriptor");
    return kj::AutoCloseFd(copy);
  });
}

}  // namespace protocol
