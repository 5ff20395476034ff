// UffdPmap: the page tables of a real program, through its userfaultfd and its pagemap.
//
// One userfaultfd serves a whole address space. Ranges of private memory, of read-only and private
// mappings and of shared anonymous memory are registered for missing pages only; shared file
// mappings that may be written also for write-protection, which the kernel resolves by itself
// (WP_ASYNC) and PAGEMAP_SCAN reads back. Missing-only keeps the kernel's own fault-around for
// pages that are resident.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>

#include "hal/host_file.h"
#include "hal/pmap.h"

namespace hal {

/// Has a program take pages out of its own address space, which nobody else can (UFFDIO_MOVE).
class PageTaker {
 public:
  virtual ~PageTaker() = default;
  /// As Pmap::take_pages(). Calls `done` in any case.
  virtual void take(VirtualRange range, Taking how, LeftDone done) = 0;
};

class UffdPmap final : public Pmap {
 public:
  /// What a read of the userfaultfd brought.
  struct Fault {
    VirtualAddress page;
    bool write = false;
  };
  struct Forked {
    int userfaultfd = -1;  ///< the child's; the receiver owns it
  };
  using Event = std::variant<Fault, Forked>;

  /// `userfaultfd`: of the program's address space, made from /dev/userfaultfd. `maps`, `pagemap`:
  /// the program's own /proc/self/maps and /proc/self/pagemap; either may be empty for a forked
  /// child that has not been heard of yet.
  UffdPmap(SharedDescriptor userfaultfd, SharedDescriptor maps, SharedDescriptor pagemap);

  /// Agrees with the kernel on what the userfaultfd can do. Needed once, not for a forked child's.
  /// Throws std::system_error: the kernel is too old, or it is no fresh userfaultfd.
  void enable();
  /// Registers private memory for missing pages. Throws std::system_error.
  void register_missing(VirtualRange range);
  /// Puts one page with this content at an absent place. Returns false when there is one already
  /// or the address space is gone.
  bool enter_page(VirtualAddress page, const void* content);

  /// The descriptors of a forked child, once it was heard of.
  void set_proc_files(SharedDescriptor maps, SharedDescriptor pagemap);

  /// A pidfd of the program, once it is known.
  void set_process(SharedDescriptor process, std::int32_t pid);

  /// Who takes pages out from here on; nobody: nullptr.
  void use_taker(std::shared_ptr<PageTaker> taker);

  const SharedDescriptor& userfaultfd() const { return userfaultfd_; }

  /// Reads events without waiting and hands them to `sink`; false when the userfaultfd is of no
  /// use any more. At most a few dozen a call, so that others get their turn; the descriptor stays
  /// readable if there are more.
  bool read_events(const std::function<void(const Event&)>& sink);
  /// Returns once what read_events() has read by now has been handled. A program goes on as soon as
  /// its fork has been read: what it asks for then must not be taken for what was before.
  void await_events();

  Entered enter_zero(VirtualRange range, bool shared) override;
  Entered enter_pages(VirtualRange range, const std::byte* content) override;
  bool can_take() override;
  void take_pages(VirtualRange range, Taking how, LeftDone done) override;
  void kill() override;
  std::string describe() const override;
  void wake(VirtualRange range) override;
  Outcome fail(VirtualRange range) override;
  void deactivate(VirtualRange range) override;
  bool alive() override;
  bool forking() override;
  bool collect_written(VirtualRange range,
                       const std::function<void(VirtualRange)>& sink) override;
  void track_anew(VirtualRange range) override;
  bool mapped_pages(VirtualRange range, const std::function<void(PageRun)>& sink) override;
  VirtualRange first_mapped(VirtualRange within, std::uint64_t most) override;
  std::optional<std::uint64_t> proportional_pages() override;
  std::optional<std::uint64_t> resident_limit() override;
  std::vector<HostMapping> host_mappings(VirtualRange within) override;

 private:
  /// Fills a page that is there, which tells: EEXIST, ESRCH once the address space is gone, EAGAIN
  /// from the moment that a fork copies it until the fork event has been read.
  int fill_probe() const;
  /// `content` of the range, or, without `advance`, of every part of it.
  Entered enter(VirtualRange range, const std::byte* content, bool advance, bool shared);
  SharedDescriptor process() const;
  SharedDescriptor maps() const;
  SharedDescriptor pagemap() const;

  const SharedDescriptor userfaultfd_;
  mutable std::mutex proc_lock_;
  SharedDescriptor maps_;     // proc_lock_
  SharedDescriptor pagemap_;  // proc_lock_
  SharedDescriptor process_;  // proc_lock_
  SharedDescriptor rollup_;   // proc_lock_  /proc/PID/smaps_rollup, once it was needed
  std::shared_ptr<PageTaker> taker_;  // proc_lock_
  std::atomic<std::int32_t> pid_{0};
  // A registered page that always exists: filling it tells whether the address space does.
  std::atomic<std::uint64_t> probe_{0};
  std::mutex reading_lock_;           // held while events are being read and handled
  std::atomic<bool> reading_{false};  // for as long
};

}  // namespace hal
