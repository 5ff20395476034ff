// Memory: how much there is, who has it, and who waits for some.
//
//   private pages   in the programs themselves, as far as the server gave them or has counted them
//   object pages    in the memory of files and of what programs share
//   swap pages      in the memory of the swap space: on their way out, or just back in
//
// Without a limit nothing is counted. With one, nobody is given a page that is not free: a fault
// asks first (admit()), and is put off where there is none. The page-out daemon (vm/pageout.h) is
// kicked before that point and has what was put off tried again.
//
// Locks: its own comes last, and is held for a few instructions only.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "hal/address.h"

namespace vm {

class VmSpace;

class Memory {
 public:
  explicit Memory(std::uint64_t limit_pages) : limit_(limit_pages) {}

  bool limited() const { return limit_ != 0; }
  std::uint64_t limit() const { return limit_; }

  // What there is in use, in pages. Any thread.
  std::uint64_t private_pages() const { return clamped(private_); }
  std::uint64_t object_pages() const { return clamped(objects_); }
  std::uint64_t swap_pages() const { return clamped(swap_); }
  std::uint64_t used() const { return clamped(private_ + objects_ + swap_); }
  std::uint64_t free() const {
    const std::uint64_t in_use = used();
    return in_use < limit_ ? limit_ - in_use : 0;
  }
  /// Below the first the daemon works, until there is as much as the second: what it does for one
  /// page it could as well do for many. FreeBSD's v_free_min and v_free_target.
  std::uint64_t free_min() const;
  std::uint64_t free_target() const { return free_min() + free_min() / 2; }

  void add_private(std::int64_t pages) { private_ += pages; }
  void add_objects(std::int64_t pages) { objects_ += pages; }
  void add_swap(std::int64_t pages) { swap_ += pages; }

  /// As many of `wanted` pages as are free, counted as private ones right away. Kicks the daemon
  /// when few are left.
  std::uint64_t admit(std::uint64_t wanted);

  /// What is free, for what is counted elsewhere. Kicks the daemon as admit() does.
  std::uint64_t room();
  /// Pages that were admitted until now.
  std::uint64_t granted() const { return granted_; }

  /// Pages that a pager was given and has not answered for: it may be slow, but nobody is stuck.
  void add_paging_out(std::int64_t pages) { paging_out_ += pages; }
  bool is_paging_out() const { return paging_out_ != 0; }

  /// A fault that found no memory: tried again once there is some.
  struct PutOff {
    std::weak_ptr<VmSpace> space;
    hal::VirtualAddress page;
    bool write = false;
  };
  void put_off(PutOff fault);
  /// The same for one whose program has to make room itself first.
  void put_off_again(PutOff fault);
  std::vector<PutOff> take_put_off();
  bool anybody_waits() const { return waiting_ != 0; }

  /// Whom to tell that memory is short; set before the first program. Any thread calls it.
  void use_daemon(std::function<void()> kick) { kick_ = std::move(kick); }
  void kick() const {
    if (kick_) kick_();
  }

 private:
  static std::uint64_t clamped(std::int64_t pages) {
    return pages < 0 ? 0 : static_cast<std::uint64_t>(pages);
  }

  const std::uint64_t limit_;
  std::atomic<std::int64_t> private_{0};
  std::atomic<std::int64_t> objects_{0};
  std::atomic<std::int64_t> swap_{0};
  std::atomic<std::int64_t> paging_out_{0};
  std::atomic<std::uint64_t> granted_{0};
  std::atomic<std::size_t> waiting_{0};
  std::function<void()> kick_;
  std::mutex lock_;
  std::vector<PutOff> put_off_;  // lock_
};

}  // namespace vm
