// BareFile: a file's pages through a bare handler of faults, which copies them the way pager-file does.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/bare_handler.h"
#include "bench/fail.h"

namespace bench {

class BareFile {
 public:
  /// How much comes with a fault: its page; or a window of 512 pages, and the next one while the
  /// program is busy with it.
  enum class Reads { page, windows };

  BareFile(int file, std::size_t bytes, Reads reads)
      : content_(file, bytes, reads),
        handler_(bytes, content_.memfd(), [this](int userfaultfd, std::uint64_t page) {
          content_.answer(userfaultfd, page, reinterpret_cast<std::uintptr_t>(handler_.memory()));
        }) {}

  void read(std::size_t page) const {
    static_cast<void>(handler_.memory()[page * BareHandler::kPage]);
  }

 private:
  class Content {
   public:
    Content(int file, std::size_t bytes, Reads reads)
        : file_(file),
          window_(reads == Reads::windows ? 512 * BareHandler::kPage : BareHandler::kPage),
          ahead_(reads == Reads::windows),
          filled_(bytes / window_) {
      memfd_ = ::memfd_create("bare", MFD_CLOEXEC);
      if (memfd_ < 0) fail("memfd_create");
      if (::pipe2(pipe_, O_CLOEXEC) != 0) fail("pipe2");
      ::fcntl(pipe_[1], F_SETPIPE_SZ, 1 << 20);
    }
    ~Content() {
      for (const int one : {memfd_, pipe_[0], pipe_[1]}) ::close(one);
    }
    Content(const Content&) = delete;
    Content& operator=(const Content&) = delete;

    int memfd() const { return memfd_; }

    void answer(int userfaultfd, std::uint64_t page, std::uint64_t start) {
      const std::size_t number = (page - start) / window_;
      fill(number);
      uffdio_range range{start + number * window_, window_};
      if (::ioctl(userfaultfd, UFFDIO_WAKE, &range) != 0) fail("UFFDIO_WAKE");
      if (ahead_ && number + 1 < filled_.size()) fill(number + 1);
    }

   private:
    /// Windows that the disk is asked for before they are copied: as far as the kernel's own read-ahead
    /// goes on a fast disk.
    static constexpr off_t kReadAhead = 4;

    void fill(std::size_t number) {
      if (filled_[number]) return;
      filled_[number] = true;
      loff_t from = static_cast<loff_t>(number * window_);
      loff_t to = from;
      if (ahead_) {
        const auto window = static_cast<off_t>(window_);
        ::posix_fadvise(file_, from, (1 + kReadAhead) * window, POSIX_FADV_WILLNEED);
      }
      for (std::size_t rest = window_; rest > 0;) {
        ssize_t held = ::splice(file_, &from, pipe_[1], nullptr, rest, SPLICE_F_MOVE);
        if (held <= 0) fail("splice from a file");
        rest -= static_cast<std::size_t>(held);
        while (held > 0) {
          const ssize_t put = ::splice(pipe_[0], nullptr, memfd_, &to,
                                       static_cast<std::size_t>(held), SPLICE_F_MOVE);
          if (put <= 0) fail("splice into a memfd");
          held -= put;
        }
      }
    }

    int file_;
    std::size_t window_;
    bool ahead_;
    std::vector<bool> filled_;
    int memfd_ = -1;
    int pipe_[2] = {-1, -1};
  };

  Content content_;
  BareHandler handler_;
};

}  // namespace bench
