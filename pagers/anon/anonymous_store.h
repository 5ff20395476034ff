// AnonymousStore: one anonymous object. It has a page's content only after the page was written
// out; all other pages are zero.
//
// One page-out, step by step. The resident pages are read from the object's memory, up to 1 MiB at
// a time. Pages that are all zero take no room. The others are packed one behind the other,
// compressed where that makes them 3/4 or less, each beginning a sector; they get room in the swap
// space and are written there with one write for each run of sectors. Only when all of the request
// is written the new places take effect and the old ones are released: a page-out that fails
// changes nothing.
//
// One case is different: when the swap is full and the request is small enough to be written at
// once, it may take the room of the same pages' older copies. Without that, a full swap could never
// take a page again that it has. Should that write fail then, those pages are lost here (page_in()
// says EIO), while the memory still has them.
//
// Where the content is kept (swap_index.h), the index says the same as what is known here, and is
// told first: of new places before they take effect, of pages that are lost or forgotten before
// anything else gets their sectors.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "pagers/anon/stored_pages.h"
#include "pagers/anon/swap_index.h"
#include "pagers/anon/swap_space.h"
#include "pagers/anon/workspace.h"
#include "pagers/common/pager.h"

namespace pager {

/// Requests of different pages may come at the same time, on any threads; what is kept of a page
/// then stays where it is while a request for it is under way. Stores may share `swap` and
/// `workspaces`.
class AnonymousStore final : public PagedStore {
 public:
  AnonymousStore(SwapSpace& swap, WorkspacePool& workspaces)
      : swap_(swap), workspaces_(workspaces) {}
  /// One that is kept, `object` in the index, which has given `stored` for it. When the store goes,
  /// the index has it back, unless it was forgotten.
  AnonymousStore(SwapSpace& swap, WorkspacePool& workspaces, SwapIndex& index, std::uint64_t object,
                 StoredPages stored)
      : swap_(swap),
        workspaces_(workspaces),
        index_(&index),
        object_(object),
        stored_(std::move(stored)) {}
  ~AnonymousStore() override;

  void page_in(hal::PageRange pages, ObjectMemory& memory) override;
  /// False where a swap file's pages are not in the host's memory.
  bool page_in_at_once(hal::PageRange pages, ObjectMemory& memory) override;
  bool waits_for_disk_only() const override { return true; }
  bool page_outs_together() const override { return true; }
  /// Failure with ENOSPC when the swap is full.
  void page_out(hal::PageRange pages, ObjectMemory& memory) override;
  /// These pages are forgotten: they are zero until they are written out again.
  void discard(hal::PageRange pages) override;
  /// Pages past the new end are forgotten.
  void resize(std::uint64_t bytes) override;
  void forget() override;
  std::vector<hal::PageRange> kept(hal::PageIndex first, std::size_t most) const override;

 private:
  class PageOut;

  enum class Reading { any, cached };

  void forget_pages(hal::PageRange pages);
  void record(std::span<const SwapIndex::Change> changes);
  std::vector<StoredPage> stored(hal::PageRange pages) const;
  bool load(hal::PageRange pages, Reading reading, Workspace& workspace) const;
  bool read_run(const SwapRun& run, std::span<const StoredPage> pages, hal::PageIndex first,
                std::uint64_t at, Reading reading, Workspace& workspace) const;

  SwapSpace& swap_;
  WorkspacePool& workspaces_;
  SwapIndex* const index_ = nullptr;  ///< nothing where the content ends with this process
  const std::uint64_t object_ = 0;    ///< in the index
  bool forgotten_ = false;            ///< the index has nothing of it any more
  mutable std::mutex mutex_;          ///< not held while anything is read or written
  StoredPages stored_;                ///< guarded by mutex_
};

}  // namespace pager
