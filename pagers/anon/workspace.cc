#include "pagers/anon/workspace.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "pagers/common/failure.h"

namespace pager {
namespace {

constexpr std::uint64_t kBytes = hal::bytes_from_pages(2 * Workspace::kPages);

}  // namespace

Workspace::Workspace(Compression compression) : compressor_(compression) {
  void* const address =
      ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) throw Failure(errno, "map a workspace of " + text_of_bytes(kBytes));
  memory_ = static_cast<char*>(address);
  // Without the right to lock, the kernel may show the start of a page when it has to wait for the
  // rest of what a page-in copies from here.
  ::mlock2(memory_, kBytes, MLOCK_ONFAULT);
}

Workspace::~Workspace() { ::munmap(memory_, kBytes); }

void WorkspacePool::GiveBack::operator()(Workspace* workspace) const {
  std::unique_ptr<Workspace> owned(workspace);
  const std::lock_guard lock(pool->mutex_);
  pool->idle_.push_back(std::move(owned));
}

WorkspacePool::Lease WorkspacePool::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Lease lease(idle_.back().release(), {this});
      idle_.pop_back();
      return lease;
    }
    // So that giving it back takes no memory.
    idle_.reserve(++made_);
  }
  return Lease(std::make_unique<Workspace>(compression_).release(), {this});
}

}  // namespace pager
