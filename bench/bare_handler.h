// BareHandler: memory whose faults a thread answers with nothing around the answer: what any server of
// faults costs at the least on a machine.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <system_error>
#include <thread>
#include <utility>

namespace bench {

class BareHandler {
 public:
  static constexpr std::size_t kPage = 4096;
  /// Called with the userfaultfd and the start of the page that somebody waits for.
  using Answer = std::function<void(int userfaultfd, std::uint64_t page)>;

  /// Private anonymous memory or, with a memfd, a shared mapping of it, to which a page is added. By
  /// raw system calls, so that nobody serves it. Throws std::system_error.
  BareHandler(std::size_t bytes, int memfd, Answer answer)
      : bytes_(bytes), answer_(std::move(answer)) {
    if (memfd >= 0 && ::ftruncate(memfd, static_cast<off_t>(bytes + kPage)) != 0) fail("ftruncate");
    const int flags = memfd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    const long memory =
        ::syscall(SYS_mmap, nullptr, bytes + kPage, PROT_READ | PROT_WRITE, flags, memfd, 0L);
    if (memory == -1) fail("mmap");
    memory_ = reinterpret_cast<volatile char*>(memory);
    const int device = ::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) fail("open /dev/userfaultfd");
    userfaultfd_ = ::ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC);
    ::close(device);
    if (userfaultfd_ < 0) fail("USERFAULTFD_IOC_NEW");
    uffdio_api api{};
    api.api = UFFD_API;
    if (::ioctl(userfaultfd_, UFFDIO_API, &api) != 0) fail("UFFDIO_API");
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
    ::syscall(SYS_munmap, memory_, bytes_ + kPage);
  }
  BareHandler(const BareHandler&) = delete;
  BareHandler& operator=(const BareHandler&) = delete;

  volatile char* memory() const { return memory_; }

  [[noreturn]] static void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
  }

 private:
  void serve() {
    const std::uint64_t last = reinterpret_cast<std::uintptr_t>(memory_) + bytes_;
    for (;;) {
      uffd_msg message;
      if (::read(userfaultfd_, &message, sizeof(message)) != sizeof(message)) fail("read userfaultfd");
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
  volatile char* memory_ = nullptr;
  int userfaultfd_ = -1;
  std::thread thread_;
};

}  // namespace bench
