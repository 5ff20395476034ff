// AnonymousStore: one anonymous object. It has a page's content only after the page was written
// out; all other pages are zero.
#pragma once

#include <cstdint>
#include <map>

#include "pagers/anon/swap_file.h"
#include "pagers/common/pager.h"

namespace pager {

class AnonymousStore final : public PagedStore {
 public:
  explicit AnonymousStore(SwapFile& swap) : swap_(swap) {}
  ~AnonymousStore() override;

  void page_in(hal::PageRange pages, ObjectMemory& memory) override;
  void page_out(hal::PageRange pages, ObjectMemory& memory) override;
  /// Pages past the new end are forgotten.
  void resize(std::uint64_t bytes) override;

 private:
  /// Pages that are known, in runs of successive pages in successive slots.
  struct Run {
    hal::PageRange pages;
    SlotRun slots;
  };
  Run run_at(std::map<hal::PageIndex, std::uint64_t>::const_iterator page, hal::PageIndex end,
             std::uint64_t most) const;
  void take_slots(hal::PageRange pages);

  SwapFile& swap_;
  std::map<hal::PageIndex, std::uint64_t> slots_;
};

}  // namespace pager
