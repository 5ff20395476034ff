// Workspace: the memory in which pages are packed and unpacked on their way to the swap space and
// back. A pool keeps as many as are in use at once; whoever needs one takes it and gives it back.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "hal/address.h"
#include "pagers/anon/compressor.h"

namespace pager {

class Workspace {
 public:
  /// What goes through at once: 1 MiB.
  static constexpr std::uint64_t kPages = 256;

  /// Throws Failure.
  explicit Workspace(Compression compression);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// kPages pages as programs see them.
  char* pages() { return memory_; }
  char* page(std::uint64_t index) { return memory_ + hal::bytes_from_pages(index); }
  /// As much again, for how the swap space has them.
  char* packed() { return page(kPages); }
  Compressor& compressor() { return compressor_; }

 private:
  Compressor compressor_;
  char* memory_ = nullptr;
};

class WorkspacePool {
 public:
  explicit WorkspacePool(Compression compression) : compression_(compression) {}

  Compression compression() const { return compression_; }

  struct GiveBack {
    WorkspacePool* pool;
    void operator()(Workspace* workspace) const;
  };
  using Lease = std::unique_ptr<Workspace, GiveBack>;
  /// Any thread. The pool has to outlive the lease. Throws Failure.
  Lease take();

 private:
  const Compression compression_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;  ///< guarded by mutex_; has room for all there are
  std::size_t made_ = 0;                          ///< guarded by mutex_
};

}  // namespace pager
