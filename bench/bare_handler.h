// BareHandler: memory whose faults a thread answers with nothing around the answer: what any server of
// faults costs at the least on a machine.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>

#include "bench/fail.h"

namespace bench {

/// A userfaultfd that has been told the API; `flags` may be O_NONBLOCK, without which poll(2) and its kin
/// call it an error. Throws std::system_error.
inline int make_userfaultfd(int flags = 0) {
  const int device = ::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (device < 0) fail("open /dev/userfaultfd");
  const int userfaultfd = ::ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | flags);
  ::close(device);
  if (userfaultfd < 0) fail("USERFAULTFD_IOC_NEW");
  uffdio_api api{};
  api.api = UFFD_API;
  if (::ioctl(userfaultfd, UFFDIO_API, &api) != 0) fail("UFFDIO_API");
  return userfaultfd;
}

class BareHandler {
 public:
  /// How it waits: in a read, or in epoll as event loops do, which ask about many and so arm the
  /// descriptor anew each time.
  enum class Waits { in_read, in_loop };

  static constexpr std::size_t kPage = 4096;
  /// Called with the userfaultfd and the start of the page that somebody waits for.
  using Answer = std::function<void(int userfaultfd, std::uint64_t page)>;

  /// Private anonymous memory or, with a memfd, a shared mapping of it, to which a page is added. By
  /// raw system calls, so that nobody serves it. Throws std::system_error.
  BareHandler(std::size_t bytes, int memfd, Answer answer, Waits waits = Waits::in_read)
      : bytes_(bytes), answer_(std::move(answer)), waits_(waits) {
    if (memfd >= 0 && ::ftruncate(memfd, static_cast<off_t>(bytes + kPage)) != 0) fail("ftruncate");
    const int flags = memfd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    const long memory =
        ::syscall(SYS_mmap, nullptr, bytes + kPage, PROT_READ | PROT_WRITE, flags, memfd, 0L);
    if (memory == -1) fail("mmap");
    memory_ = reinterpret_cast<volatile char*>(memory);
    userfaultfd_ = make_userfaultfd(waits_ == Waits::in_loop ? O_NONBLOCK : 0);
    if (waits_ == Waits::in_loop) {
      epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
      if (epoll_ < 0) fail("epoll_create1");
      arm(EPOLL_CTL_ADD);
    }
    uffdio_register range{};
    range.range = {static_cast<std::uint64_t>(memory), bytes + kPage};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (::ioctl(userfaultfd_, UFFDIO_REGISTER, &range) != 0) fail("UFFDIO_REGISTER");
    thread_ = std::thread([this] { serve(); });
  }
  ~BareHandler() {
    memory_[bytes_] = 1;  // ends the thread
    thread_.join();
    ::close(userfaultfd_);
    if (epoll_ >= 0) ::close(epoll_);
    ::syscall(SYS_munmap, memory_, bytes_ + kPage);
  }
  BareHandler(const BareHandler&) = delete;
  BareHandler& operator=(const BareHandler&) = delete;

  volatile char* memory() const { return memory_; }

 private:
  void arm(int how) const {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    if (::epoll_ctl(epoll_, how, userfaultfd_, &event) != 0) fail("epoll_ctl");
  }
  uffd_msg next() const {
    uffd_msg message;
    if (waits_ == Waits::in_read) {
      if (::read(userfaultfd_, &message, sizeof(message)) != sizeof(message)) fail("read userfaultfd");
      return message;
    }
    iovec vector{&message, sizeof(message)};
    for (;;) {
      epoll_event event;
      if (::epoll_wait(epoll_, &event, 1, -1) < 0) fail("epoll_wait");
      const ssize_t got = ::preadv2(userfaultfd_, &vector, 1, -1, RWF_NOWAIT);
      if (got < 0 && errno != EAGAIN) fail("read userfaultfd");
      arm(EPOLL_CTL_MOD);
      if (got == sizeof(message)) return message;
    }
  }
  void serve() {
    const std::uint64_t last = reinterpret_cast<std::uintptr_t>(memory_) + bytes_;
    for (;;) {
      const uffd_msg message = next();
      const std::uint64_t page = message.arg.pagefault.address & ~std::uint64_t{kPage - 1};
      if (page != last) {
        answer_(userfaultfd_, page);
        continue;
      }
      uffdio_zeropage zeroes{};
      zeroes.range = {last, kPage};
      if (::ioctl(userfaultfd_, UFFDIO_ZEROPAGE, &zeroes) != 0) fail("UFFDIO_ZEROPAGE");
      return;
    }
  }

  std::size_t bytes_;
  Answer answer_;
  Waits waits_;
  int epoll_ = -1;
  volatile char* memory_ = nullptr;
  int userfaultfd_ = -1;
  std::thread thread_;
};

}  // namespace bench
