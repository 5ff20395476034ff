// PageInRing: page-ins without a message each, through memory that a server shares with a pager.
//
// A program that touches its memory here and there has one page brought in for each touch, and a
// message takes either side more system calls than the page does. So where a pager takes it
// (Pager.ring in pager.capnp), the server asks for pages through two lines in a file of shared
// memory, which it makes and seals so that it stays as large as it is:
//
//   requests  the server writes, the pager reads
//   replies   the pager writes, the server reads
//
// A reader that has read everything says that it sleeps and looks once more; a writer that finds
// it asleep rings its bell, an eventfd. No line can overflow: at most kEntries requests are without
// a reply.
//
// Neither side believes what the other one writes: a line's end is a number that wraps, and what
// is read is copied before it is looked at. That is why these are no queues of a library's.
#pragma once

#include <sys/eventfd.h>

#include <atomic>
#include <cstdint>

namespace protocol {

struct PageInRing {
  static constexpr std::uint32_t kEntries = 256;

  struct Request {
    std::uint64_t object;  ///< Attributes.object of an object that is open at the pager
    std::uint64_t first_page;
    std::uint32_t page_count;
    std::uint32_t tag;  ///< comes back with the reply; below kEntries
  };
  enum class Outcome : std::uint32_t {
    filled,
    not_filled  ///< or not all of it: a call of PagedObject.pageIn will say why, or do it
  };
  struct Reply {
    std::uint32_t tag;
    Outcome outcome;
  };

  template <class Entry>
  struct Line {
    alignas(64) std::atomic<std::uint32_t> written;  ///< entries so far
    alignas(64) std::atomic<std::uint32_t> asleep;   ///< 1 when the reader wants its bell rung
    alignas(64) Entry entries[kEntries];
  };
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
  static_assert((kEntries & (kEntries - 1)) == 0, "so that numbers may wrap");

  Line<Request> requests;
  Line<Reply> replies;
};

/// Of a reader that sleeps. `bell`: an eventfd.
inline void ring_bell(int bell) {
  // Can only fail when the count is full, and then it is readable.
  [[maybe_unused]] const int result = ::eventfd_write(bell, 1);
}

/// One at a time.
template <class Entry>
class RingWriter {
 public:
  explicit RingWriter(PageInRing::Line<Entry>& line) : line_(line) {}

  /// True when the reader's bell is to be rung.
  bool write(const Entry& entry) {
    line_.entries[next_ % PageInRing::kEntries] = entry;
    line_.written.store(++next_);
    return line_.asleep.load() != 0 && line_.asleep.exchange(0) != 0;
  }

 private:
  PageInRing::Line<Entry>& line_;
  std::uint32_t next_ = 0;
};

template <class Entry>
class RingReader {
 public:
  explicit RingReader(PageInRing::Line<Entry>& line) : line_(line) {}

  /// False when there is no more.
  bool read(Entry& entry) {
    if (line_.written.load(std::memory_order_acquire) == next_) return false;
    entry = line_.entries[next_++ % PageInRing::kEntries];
    return true;
  }
  /// Whether there is something to read.
  bool any() const { return line_.written.load(std::memory_order_acquire) != next_; }
  /// The bell is not rung until sleep().
  void stay_awake() { line_.asleep.store(0); }
  /// From here on the bell is rung. False when there is something to read by now.
  bool sleep() {
    line_.asleep.store(1);
    if (line_.written.load() == next_) return true;
    line_.asleep.store(0);
    return false;
  }

 private:
  PageInRing::Line<Entry>& line_;
  std::uint32_t next_ = 0;
};

}  // namespace protocol
