#include "libshim/stub_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "libshim/descriptors.h"
#include "libshim/syscall.h"
#include "protocol/trap_frame.h"

// Linux 6.8, include/uapi/linux/userfaultfd.h.
#ifndef UFFDIO_MOVE
struct uffdio_move {
  __u64 dst;
  __u64 src;
  __u64 len;
  __u64 mode;
  __s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace shim {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kMovedBytes = protocol::kMaxOrderPages * kPage;
// Pages that were moved, which takes a place that the userfaultfd knows, and behind them those that
// were copied, which takes one that it does not know.
constexpr uint64_t kHoldBytes = 2 * kMovedBytes;

constinit int forks = 0;     // under way
constinit int carrying = 0;  // 1: an order is being carried out

// Whoever forks says so first and then looks here; the other way round here.
class Carrying {
 public:
  Carrying() {
    __atomic_store_n(&carrying, 1, __ATOMIC_SEQ_CST);
    may_ = __atomic_load_n(&forks, __ATOMIC_SEQ_CST) == 0;
  }
  ~Carrying() {
    __atomic_store_n(&carrying, 0, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&forks, __ATOMIC_SEQ_CST) != 0) {
      constexpr int kAll = 0x7fffffff;
      sys(SYS_futex, &carrying, FUTEX_WAKE_PRIVATE, kAll, 0, 0, 0);
    }
  }
  Carrying(const Carrying&) = delete;
  Carrying& operator=(const Carrying&) = delete;

  bool may() const { return may_; }

 private:
  bool may_ = false;
};

long make_hold(int userfaultfd) {
  const long hold = sys(SYS_mmap, 0, kHoldBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (failed(hold)) return hold;
  uffdio_register request{};
  request.range = {static_cast<uint64_t>(hold), kMovedBytes};
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  long result = sys(SYS_madvise, hold, kHoldBytes, MADV_DONTFORK);
  if (!failed(result)) result = sys(SYS_ioctl, userfaultfd, UFFDIO_REGISTER, &request);
  if (!failed(result)) return hold;
  sys(SYS_munmap, hold, kHoldBytes);
  return result;
}

// Which of the pages are there.
uint64_t resident(uint64_t address, uint32_t pages) {
  uint8_t there[protocol::kMaxOrderPages] = {};
  if (failed(sys(SYS_mincore, address, pages * kPage, there))) return 0;
  uint64_t result = 0;
  for (uint32_t i = 0; i < pages; ++i) result |= uint64_t{there[i] & 1u} << i;
  return result;
}

// A store that changes nothing. A page that is there has no fault that the server would have to
// answer.
void unshare(uint64_t address, uint32_t pages) {
  const uint64_t there = resident(address, pages);
  for (uint32_t i = 0; i < pages; ++i) {
    if ((there >> i & 1) != 0) {
      sys(SYS_madvise, address + i * kPage, kPage, MADV_POPULATE_WRITE);
    }
  }
}

// A page that nobody may store to: what is read is what is dropped.
bool copy_page(const Hands& hands, uint64_t page, char* into) {
  if (hands.memory < 0 || resident(page, 1) == 0) return false;
  const long got = sys(SYS_pread64, hands.memory, into, kPage, page);
  return got == static_cast<long>(kPage) &&
         !failed(sys(SYS_madvise, page, kPage, MADV_DONTNEED));
}

struct Taken {
  uint64_t moved = 0;
  uint64_t copied = 0;
};

// What can be had of the pages goes to the same place in the hold. Returns which.
Taken take_pages(const Hands& hands, int userfaultfd, const protocol::StubOrder& order) {
  constexpr unsigned kMostTries = 4;  // of one page: the kernel was busy with it
  const uint64_t before = resident(order.address, order.pages);
  Taken taken;
  unsigned tries = 0;
  // In one go. What is one mapping to the server can be several to the host, which moves nothing of a
  // range that is not all in one.
  uint32_t most = order.pages;
  for (uint32_t at = 0; at < order.pages;) {
    const uint32_t wanted = most < order.pages - at ? most : order.pages - at;
    uffdio_move move{};
    move.src = order.address + at * kPage;
    move.dst = reinterpret_cast<uint64_t>(hands.hold) + at * kPage;
    move.len = wanted * kPage;
    // What may be stored to after all is moved.
    const long result = sys(SYS_ioctl, userfaultfd, UFFDIO_MOVE, &move);
    const uint64_t moved = result == 0 ? move.len : move.move > 0 ? move.move : 0;
    if (moved != 0) {
      for (uint64_t i = 0; i < moved / kPage; ++i) taken.moved |= uint64_t{1} << at++;
      tries = 0;
      if (most < order.pages) most *= 2;
      continue;
    }
    if (result == -EAGAIN && ++tries < kMostTries) continue;
    if (result == -EINVAL && wanted > 1) {
      most = wanted / 2;
      continue;
    }
    if (result == -EINVAL && order.kind == protocol::StubOrder::kCopy &&
        copy_page(hands, move.src, hands.hold + kMovedBytes + at * kPage)) {
      taken.copied |= uint64_t{1} << at;
    }
    // Else it is absent, shared, held by I/O, or none of what can be moved.
    ++at;
    tries = 0;
  }
  // Linux 6.18 does not count what it moves after it has had to look twice (EAGAIN): its content would be
  // dropped with the hold. Of what is in the hold, mlockall can have brought zeroes as well.
  uint64_t landed =
      before & ~taken.moved & resident(reinterpret_cast<uint64_t>(hands.hold), order.pages);
  if (landed != 0) landed &= ~resident(order.address, order.pages);
  taken.moved |= landed;
  return taken;
}

long send_run(const Hands& hands, char* from, uint64_t bytes) {
  iovec run{from, bytes};
  while (run.iov_len != 0) {
    const long sent = sys(SYS_vmsplice, hands.pipe, &run, 1, 0);
    if (sent == -EINTR) continue;
    if (failed(sent)) return sent;
    run.iov_base = static_cast<char*>(run.iov_base) + sent;
    run.iov_len -= static_cast<size_t>(sent);
  }
  return 0;
}

long send_content(const Hands& hands, const Taken& taken) {
  const auto has = [](uint64_t pages, uint32_t at) {
    return at < protocol::kMaxOrderPages && (pages >> at & 1) != 0;
  };
  for (uint32_t at = 0; at < protocol::kMaxOrderPages;) {
    const bool copied = has(taken.copied, at);
    const uint64_t pages = copied ? taken.copied : taken.moved;
    if (!has(pages, at)) {
      ++at;
      continue;
    }
    char* const from = hands.hold + (copied ? kMovedBytes : 0) + at * kPage;
    uint32_t count = 1;
    while (has(pages, at + count)) ++count;
    const long sent = send_run(hands, from, count * kPage);
    if (failed(sent)) return sent;
    at += count;
  }
  return 0;
}

}  // namespace

long make_hands(int socket, int userfaultfd, Hands& hands) {
  int pair[2] = {-1, -1};
  int pipe[2] = {-1, -1};
  long result = sys(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
  if (!failed(result)) result = sys(SYS_pipe2, pipe, O_CLOEXEC);
  if (!failed(result)) {
    // As large as an order, if this user may have that.
    sys(SYS_fcntl, pipe[1], F_SETPIPE_SZ, kMovedBytes);
    result = sys(SYS_fcntl, pipe[1], F_GETPIPE_SZ);
  }
  protocol::StubHello hello{};
  hello.magic = protocol::kStubMagic;
  hello.version = protocol::kVersion;
  if (!failed(result)) {
    const uint64_t room = static_cast<uint64_t>(result) / kPage;
    hello.most_pages =
        static_cast<uint32_t>(room < protocol::kMaxOrderPages ? room : protocol::kMaxOrderPages);
    result = make_hold(userfaultfd);
  }
  if (!failed(result)) {
    hello.hold = static_cast<uint64_t>(result);
    hands = {pair[0], pipe[1], reinterpret_cast<char*>(result), -1};
    const int theirs[] = {pair[1], pipe[0]};
    result = send(socket, &hello, sizeof(hello), theirs, 2);
    if (failed(result)) sys(SYS_munmap, hands.hold, kHoldBytes);
  }
  close_descriptor(pair[1]);
  close_descriptor(pipe[0]);
  if (!failed(result)) return 0;
  close_descriptor(pair[0]);
  close_descriptor(pipe[1]);
  hands = {};
  return result;
}

void open_memory(Hands& hands) {
  if (hands.orders < 0) return;
  const long memory = sys(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDONLY | O_CLOEXEC);
  hands.memory = failed(memory) ? -1 : static_cast<int>(memory);
}

void drop_hold(const Hands& hands) {
  if (hands.hold != nullptr) sys(SYS_munmap, hands.hold, kHoldBytes);
}

void close_hands(const Hands& hands) {
  close_descriptor(hands.orders);
  close_descriptor(hands.pipe);
  close_descriptor(hands.memory);
}

long take_order(const Hands& hands, int userfaultfd) {
  protocol::StubOrder order{};
  const long got = sys(SYS_recvfrom, hands.orders, &order, sizeof(order), MSG_DONTWAIT, 0, 0);
  if (got == -EAGAIN || got == -EINTR) return 0;
  if (failed(got)) return got;
  if (got == 0) return -ECONNRESET;
  if (got != static_cast<long>(sizeof(order)) || order.pages > protocol::kMaxOrderPages) {
    return -EPROTO;
  }
  protocol::StubAnswer answer{};
  const Carrying carried_out;
  if (!carried_out.may()) {
    // It stays where it is.
  } else if (order.kind == protocol::StubOrder::kUnshare) {
    unshare(order.address, order.pages);
  } else {
    // mlockall reaches the hold as well: nothing moves to what is locked, or to what is there.
    sys(SYS_munlock, hands.hold, kHoldBytes);
    sys(SYS_madvise, hands.hold, kHoldBytes, MADV_DONTNEED);
    const Taken taken = take_pages(hands, userfaultfd, order);
    answer.pages = taken.moved | taken.copied;
    const long sent = send_content(hands, taken);
    if (failed(sent)) return sent;
    sys(SYS_madvise, hands.hold, kHoldBytes, MADV_DONTNEED);
  }
  const long sent = sys(SYS_sendto, hands.orders, &answer, sizeof(answer), MSG_NOSIGNAL, 0, 0);
  return failed(sent) ? sent : 0;
}

void hold_orders() {
  __atomic_fetch_add(&forks, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&carrying, __ATOMIC_SEQ_CST) != 0) {
    sys(SYS_futex, &carrying, FUTEX_WAIT_PRIVATE, 1, 0, 0, 0);
  }
}

void resume_orders() { __atomic_fetch_sub(&forks, 1, __ATOMIC_SEQ_CST); }

void forget_held_orders() {
  forks = 0;
  carrying = 0;
}

}  // namespace shim
