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
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pagers/anon/stored_pages.h"
#include "pagers/anon/swap_space.h"
#include "pagers/anon/workspace.h"
#include "pagers/common/pager.h"

namespace pager {

/// One request after the other, as the frame does it; stores that share `swap` and `workspaces`
/// need not wait for each other.
class AnonymousStore final : public PagedStore {
 public:
  AnonymousStore(SwapSpace& swap, WorkspacePool& workspaces)
      : swap_(swap), workspaces_(workspaces) {}
  ~AnonymousStore() override;

  void page_in(hal::PageRange pages, ObjectMemory& memory) override;
  /// Failure with ENOSPC when the swap is full.
  void page_out(hal::PageRange pages, ObjectMemory& memory) override;
  /// These pages are forgotten: they are zero until they are written out again.
  void discard(hal::PageRange pages) override;
  /// Pages past the new end are forgotten.
  void resize(std::uint64_t bytes) override;

 private:
  class PageOut;

  void load(hal::PageRange pages, Workspace& workspace) const;
  void read_run(const SwapRun& run, std::span<const StoredPage> pages, hal::PageIndex first,
                std::uint64_t at, Workspace& workspace) const;

  SwapSpace& swap_;
  WorkspacePool& workspaces_;
  StoredPages stored_;
};

}  // namespace pager
