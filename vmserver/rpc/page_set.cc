#include "vmserver/rpc/page_set.h"

#include <algorithm>
#include <iterator>

namespace server {

using hal::PageIndex;
using hal::PageRange;

void PageSet::add(PageRange pages) {
  if (pages.empty()) return;
  PageIndex first = pages.first();
  PageIndex end = pages.end();
  auto run = runs_.upper_bound(first);
  if (run != runs_.begin() && std::prev(run)->second >= first) --run;
  while (run != runs_.end() && run->first <= end) {
    first = std::min(first, run->first);
    end = std::max(end, run->second);
    run = runs_.erase(run);
  }
  runs_.emplace(first, end);
}

void PageSet::remove(PageRange pages) {
  for (const PageRange cut : inside(pages)) {
    auto run = std::prev(runs_.upper_bound(cut.first()));
    const PageIndex first = run->first;
    const PageIndex end = run->second;
    runs_.erase(run);
    if (first < cut.first()) runs_.emplace(first, cut.first());
    if (cut.end() < end) runs_.emplace(cut.end(), end);
  }
}

std::uint64_t PageSet::count() const {
  std::uint64_t pages = 0;
  for (const auto& [first, end] : runs_) pages += end - first;
  return pages;
}

std::vector<PageRange> PageSet::inside(PageRange within) const {
  std::vector<PageRange> found;
  auto run = runs_.upper_bound(within.first());
  if (run != runs_.begin()) --run;
  for (; run != runs_.end() && run->first < within.end(); ++run) {
    const PageRange part = PageRange::between(run->first, run->second).intersect(within);
    if (!part.empty()) found.push_back(part);
  }
  return found;
}

std::vector<PageRange> PageSet::all() const {
  std::vector<PageRange> found;
  for (const auto& [first, end] : runs_) found.push_back(PageRange::between(first, end));
  return found;
}

std::vector<PageRange> PageSet::outside(PageRange within) const {
  std::vector<PageRange> found;
  PageIndex at = within.first();
  for (const PageRange part : inside(within)) {
    if (at < part.first()) found.push_back(PageRange::between(at, part.first()));
    at = part.end();
  }
  if (at < within.end()) found.push_back(PageRange::between(at, within.end()));
  return found;
}

}  // namespace server
