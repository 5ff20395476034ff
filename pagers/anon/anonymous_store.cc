#include "pagers/anon/anonymous_store.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace pager {

using hal::PageIndex;
using hal::PageRange;

namespace {

constexpr std::uint64_t kPiecePages = 64;

}  // namespace

AnonymousStore::~AnonymousStore() { resize(0); }

AnonymousStore::Run AnonymousStore::run_at(std::map<PageIndex, std::uint64_t>::const_iterator page,
                                           PageIndex end, std::uint64_t most) const {
  Run run{PageRange(page->first, 1), {page->second, 1}};
  for (++page; page != slots_.end() && run.slots.count < most; ++page) {
    if (page->first >= end || page->first != run.pages.end() ||
        page->second != run.slots.first + run.slots.count)
      break;
    run.pages = PageRange(run.pages.first(), run.pages.count() + 1);
    ++run.slots.count;
  }
  return run;
}

void AnonymousStore::page_in(PageRange pages, ObjectMemory& memory) {
  std::vector<char> data;
  PageIndex at = pages.first();
  while (at < pages.end()) {
    const auto known = slots_.lower_bound(at);
    const PageIndex next =
        known == slots_.end() ? pages.end() : std::min(known->first, pages.end());
    memory.fill_zero(PageRange::between(at, next));
    at = next;
    if (at >= pages.end()) break;
    const Run run = run_at(known, pages.end(), kPiecePages);
    data.resize(run.pages.bytes());
    swap_.read(run.slots, data.data());
    memory.fill(run.pages, data.data());
    at = run.pages.end();
  }
}

void AnonymousStore::take_slots(PageRange pages) {
  std::vector<PageIndex> without;
  for (PageIndex page = pages.first(); page < pages.end(); page = page + 1)
    if (!slots_.contains(page)) without.push_back(page);
  auto page = without.begin();
  for (const SlotRun run : swap_.allocate(without.size()))
    for (std::uint64_t i = 0; i < run.count; ++i) slots_.emplace(*page++, run.first + i);
}

void AnonymousStore::page_out(PageRange pages, ObjectMemory& memory) {
  std::vector<char> data(hal::bytes_from_pages(std::min(pages.count(), kPiecePages)));
  for (PageRange rest = pages; !rest.empty();) {
    const PageRange resident = memory.next_resident(rest);
    if (resident.empty()) break;
    rest = PageRange::between(resident.end(), rest.end());
    take_slots(resident);
    for (PageIndex at = resident.first(); at < resident.end();) {
      const Run run = run_at(slots_.find(at), resident.end(), kPiecePages);
      memory.read(run.pages.byte_offset(), run.pages.bytes(), data.data());
      swap_.write(run.slots, data.data());
      at = run.pages.end();
    }
  }
}

void AnonymousStore::resize(std::uint64_t bytes) {
  const auto cut = slots_.lower_bound(PageIndex(hal::pages_for_bytes(bytes)));
  const PageIndex no_end(std::numeric_limits<std::uint64_t>::max());
  for (auto page = cut; page != slots_.end();) {
    const Run run = run_at(page, no_end, std::numeric_limits<std::uint64_t>::max());
    swap_.release(run.slots);
    page = slots_.lower_bound(run.pages.end());
  }
  slots_.erase(cut, slots_.end());
}

}  // namespace pager
