#include "pagers/anon/stored_pages.h"

#include <algorithm>

namespace pager {

using hal::PageIndex;

StoredPage StoredPages::get(PageIndex page) const {
  const auto chunk = chunks_.find(page.value() / kChunkPages);
  return chunk == chunks_.end() ? StoredPage() : chunk->second.pages[page.value() % kChunkPages];
}

PageIndex StoredPages::next_known(PageIndex from, PageIndex end) const {
  for (auto chunk = chunks_.lower_bound(from.value() / kChunkPages); chunk != chunks_.end();
       ++chunk) {
    const PageIndex first(chunk->first * kChunkPages);
    if (first >= end) break;
    for (PageIndex page = std::max(from, first); page < std::min(end, first + kChunkPages);
         page = page + 1)
      if (chunk->second.pages[page - first].is_known()) return page;
  }
  return end;
}

void StoredPages::reserve(PageIndex page) { chunks_.try_emplace(page.value() / kChunkPages); }

StoredPage StoredPages::exchange(PageIndex page, StoredPage now) {
  const std::uint64_t number = page.value() / kChunkPages;
  auto chunk = chunks_.find(number);
  if (chunk == chunks_.end()) {
    if (!now.is_known()) return {};
    chunk = chunks_.try_emplace(number).first;
  }
  StoredPage& entry = chunk->second.pages[page.value() % kChunkPages];
  const StoredPage before = entry;
  entry = now;
  chunk->second.known += now.is_known() ? 1 : 0;
  chunk->second.known -= before.is_known() ? 1 : 0;
  // Not a chunk that is only reserved.
  if (before.is_known() && chunk->second.known == 0) chunks_.erase(chunk);
  return before;
}

}  // namespace pager
