#include "vmserver/vm/swapped_pages.h"

#include <vector>

namespace vm {

using hal::PageRange;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

// The part of a run that lies in `within`.
SwappedPages::Run cut(const SwappedPages::Run& run, VirtualRange within) {
  const VirtualRange part = run.pages.intersect(within);
  if (part.empty()) return {};
  return {part, PageRange(run.slots.first() + ((part.start() - run.pages.start()) >> hal::kPageShift),
                          part.pages())};
}

}  // namespace

SwappedPages::Run SwappedPages::run_of(Runs::const_iterator it) {
  return {VirtualRange(it->first, it->first + hal::bytes_from_pages(it->second.count)),
          PageRange(it->second.slot, it->second.count)};
}

// The first run that contains the address or lies behind it.
SwappedPages::Runs::const_iterator SwappedPages::first_at(VirtualAddress address) const {
  auto it = runs_.upper_bound(address);
  if (it != runs_.begin() && run_of(std::prev(it)).pages.contains(address)) --it;
  return it;
}

std::optional<SwappedPages::Run> SwappedPages::run_at(VirtualAddress page,
                                                      VirtualAddress end) const {
  const auto it = first_at(page);
  if (it == runs_.end() || page < it->first) return std::nullopt;
  return cut(run_of(it), VirtualRange(page, end));
}

std::optional<SwappedPages::Run> SwappedPages::first_in(VirtualRange within) const {
  const auto it = first_at(within.start());
  if (it == runs_.end() || it->first >= within.end()) return std::nullopt;
  return cut(run_of(it), within);
}

void SwappedPages::for_each_in(VirtualRange within,
                               const std::function<void(const Run&)>& visit) const {
  for (auto it = first_at(within.start()); it != runs_.end() && it->first < within.end(); ++it) {
    visit(cut(run_of(it), within));
  }
}

void SwappedPages::insert(VirtualAddress first, PageRange slots) {
  if (slots.empty()) return;
  count_ += slots.count();
  // A run that it goes on from grows; so pages that left one behind the other stay one run.
  auto next = runs_.lower_bound(first);
  if (next != runs_.begin()) {
    const auto before = std::prev(next);
    const Run run = run_of(before);
    if (run.pages.end() == first && run.slots.end() == slots.first()) {
      before->second.count += slots.count();
      return;
    }
  }
  runs_.emplace_hint(next, first, Value{slots.count(), slots.first()});
}

void SwappedPages::erase(VirtualRange range, const std::function<void(PageRange)>& sink) {
  for (auto it = first_at(range.start()); it != runs_.end() && it->first < range.end();) {
    const Run whole = run_of(it);
    const Run part = cut(whole, range);
    it = runs_.erase(it);
    count_ -= whole.pages.pages();
    if (whole.pages.start() < part.pages.start()) {
      const std::uint64_t kept = (part.pages.start() - whole.pages.start()) >> hal::kPageShift;
      insert(whole.pages.start(), PageRange(whole.slots.first(), kept));
    }
    if (part.pages.end() < whole.pages.end()) {
      insert(part.pages.end(), PageRange::between(part.slots.end(), whole.slots.end()));
    }
    sink(part.slots);
    it = runs_.lower_bound(part.pages.end());
  }
}

void SwappedPages::move(VirtualRange range, VirtualAddress target) {
  std::vector<Run> moved;
  for_each_in(range, [&](const Run& run) { moved.push_back(run); });
  erase(range, [](PageRange) {});
  for (const Run& run : moved) insert(target + (run.pages.start() - range.start()), run.slots);
}

}  // namespace vm
