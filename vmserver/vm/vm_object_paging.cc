// Pages of objects that leave memory: the part of VmObject that is about paging.
//
// A page can be dropped when the pager has it as it is. What programs stored to is given to the pager
// first, and looked at again the next time round; a store that comes in between is found when the page
// is taken out (drop_unless_stored_to). Memory that programs share is treated as a file is, whose
// pager is the anonymous one.
//
// Nothing tells which pages are used. Instead, the hand takes them in turn, and a page that is asked
// for again before it has come round is left alone once: what is used again and again stays, and what
// is read once goes. What lies behind a walk through memory goes first of all, as in FreeBSD's
// vm_fault_dontneed().
#include <system_error>

#include <spdlog/spdlog.h>

#include "vmserver/vm/machine.h"
#include "vmserver/vm/vm_object.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::PageIndex;
using hal::PageRange;
using hal::VirtualRange;

namespace {

// Pages that are asked about, and taken out, in one go; and those that one call looks at.
constexpr std::uint64_t kPiece = 16;
constexpr std::uint64_t kMostLookedAt = 1024;

}  // namespace

void VmObject::stay(bool on) {
  const std::lock_guard guard(lock_);
  stays_ += on ? 1 : -1;
}

bool VmObject::is_resident(PageIndex page) const {
  return !backing_->next_resident(PageRange(page, 1)).empty();
}

PageSet VmObject::idle(PageRange pages) {
  PageSet result;
  result.add(interval(pages));
  result -= dirty_;
  subtract_going_out(result, pages);
  for (PageIndex page = pages.first(); page < pages.end(); page = page + 1) {
    if (in_flight(page)) result.subtract(interval(PageRange(page, 1)));
  }
  for_each_view(pages, [&](MapEntry& mapping, VirtualRange seen) {
    if (mapping.wired) result.subtract(interval(mapping.pages_of(seen)));
  });
  const PageSet returned = result & returned_;
  returned_ -= returned;
  return result - returned;
}

std::uint64_t VmObject::drop_idle(PageRange pages) {
  std::uint64_t dropped = 0;
  const bool compare = stores_possible();
  for (const auto& part : idle(pages)) {
    const PageRange run = page_range(part);
    if (compare) {
      drop_unless_stored_to(run);
    } else {
      backing_->discard(run);
    }
    for (PageIndex page = run.first(); page < run.end(); page = page + 1) {
      if (is_resident(page)) continue;
      dropped_ += interval(PageRange(page, 1));
      ++dropped;
    }
  }
  count(-static_cast<std::int64_t>(dropped));
  return dropped;
}

void VmObject::count(std::int64_t pages) {
  if (!counts()) return;
  counted_ += pages;
  machine_.memory().add_objects(pages);
}

void VmObject::use_up(PageRange pages) {
  const std::lock_guard guard(lock_);
  if (!counts()) return;
  pages = pages.intersect(all_pages());
  if (!pages.empty()) used_up_ += interval(pages);
}

std::uint64_t VmObject::drop_used_up(std::uint64_t most) {
  std::uint64_t dropped = 0;
  const std::lock_guard guard(lock_);
  if (!pager_ || stays_ != 0) return 0;
  try {
    while (dropped < most && !used_up_.empty()) {
      PageRange part = page_range(*used_up_.begin());
      part = PageRange(part.first(), std::min(part.count(), kPiece));
      used_up_ -= interval(part);
      const PageRange run = backing_->next_resident(part);
      if (!run.empty()) dropped += drop_idle(run);
    }
  } catch (const std::system_error& error) {
    spdlog::error("{}: drop of pages: {}", describe(), error.what());
  }
  return dropped;
}

std::uint64_t VmObject::page_out(std::uint64_t most) {
  std::uint64_t dropped = 0;
  std::uint64_t looked_at = 0;
  PageRange passed;
  {
    const std::lock_guard guard(lock_);
    if (!pager_ || !counts() || stays_ != 0) return 0;
    const PageIndex from = std::min(hand_, all_pages().end());
    try {
      while (dropped < most && looked_at < kMostLookedAt) {
        PageRange run = backing_->next_resident(PageRange::between(hand_, all_pages().end()));
        if (run.empty()) break;
        run = PageRange(run.first(), std::min(run.count(), kPiece));
        hand_ = run.end();
        looked_at += run.count();
        dropped += drop_idle(run);
      }
    } catch (const std::system_error& error) {
      spdlog::error("{}: drop of pages: {}", describe(), error.what());
    }
    passed = PageRange::between(from, hand_);
    if (looked_at < kMostLookedAt && dropped < most) {
      hand_ = PageIndex(0);
      dropped_.clear();
    }
  }
  if (!passed.empty()) launder(passed, false, [&machine = machine_](Error) { machine.memory().kick(); });
  return dropped;
}

void VmObject::punch(PageRange pages) {
  const std::lock_guard guard(lock_);
  pages = pages.intersect(all_pages());
  if (pages.empty()) return;
  outdate_flights();
  dirty_.subtract(interval(pages));
  backing_->discard(pages);
  track_anew(pages);
  pager_->discard({pages});
}

void VmObject::filled(PageRange pages) {
  if (tracks_stores_ && kind_ == Kind::anonymous) presume_written(pages);
}

}  // namespace vm
