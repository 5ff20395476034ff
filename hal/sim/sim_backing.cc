#include "hal/sim/sim_backing.h"

#include <algorithm>
#include <cstring>
#include <system_error>

#include "hal/sim/sim_pmap.h"

namespace hal {

void SimBacking::resize(std::uint64_t pages) {
  const std::lock_guard guard(memory_->lock());
  if (pages < pages_) {
    const PageRange gone = PageRange::between(PageIndex(pages), PageIndex(pages_));
    frames_.erase(frames_.lower_bound(pages), frames_.end());
    // Past the end even a program's own copies go, as with a file that is truncated.
    for (const auto& [pmap, regions] : viewers_) pmap->drop_pages_of(*this, gone, true);
  }
  pages_ = pages;
}

std::uint64_t SimBacking::pages() const {
  const std::lock_guard guard(memory_->lock());
  return pages_;
}

PageRange SimBacking::next_absent(PageRange within) const {
  const std::lock_guard guard(memory_->lock());
  const std::uint64_t end = std::min(within.end().value(), pages_);
  std::uint64_t first = within.first().value();
  auto it = frames_.lower_bound(first);
  while (first < end && it != frames_.end() && it->first == first) {
    ++first;
    ++it;
  }
  if (first >= end) return PageRange(PageIndex(end), 0);
  const std::uint64_t stop = it == frames_.end() ? end : std::min(end, it->first);
  return PageRange(PageIndex(first), stop - first);
}

PageRange SimBacking::next_resident(PageRange within) const {
  const std::lock_guard guard(memory_->lock());
  const std::uint64_t end = std::min(within.end().value(), pages_);
  auto it = frames_.lower_bound(within.first().value());
  if (it == frames_.end() || it->first >= end) return PageRange(PageIndex(end), 0);
  const std::uint64_t first = it->first;
  std::uint64_t stop = first;
  for (; it != frames_.end() && it->first == stop && stop < end; ++it) ++stop;
  return PageRange(PageIndex(first), stop - first);
}

std::uint64_t SimBacking::resident_pages() const {
  const std::lock_guard guard(memory_->lock());
  return frames_.size();
}

void SimBacking::discard(PageRange pages) {
  const std::lock_guard guard(memory_->lock());
  frames_.erase(frames_.lower_bound(pages.first().value()),
                frames_.lower_bound(pages.end().value()));
  for (const auto& [pmap, regions] : viewers_) pmap->drop_pages_of(*this, pages, false);
}

void SimBacking::zero_fill(PageRange pages) {
  const std::lock_guard guard(memory_->lock());
  const std::uint64_t end = std::min(pages.end().value(), pages_);
  for (std::uint64_t page = pages.first().value(); page < end; ++page) {
    SimFramePointer& frame = frames_[page];
    if (!frame) frame = std::make_shared<SimFrame>();
  }
}

void SimBacking::read(PageRange pages, std::byte* into) const {
  const std::lock_guard guard(memory_->lock());
  copy_out(pages, into);
}

void SimBacking::take(PageRange pages, std::byte* into) {
  const std::lock_guard guard(memory_->lock());
  copy_out(pages, into);
  frames_.erase(frames_.lower_bound(pages.first().value()),
                frames_.lower_bound(pages.end().value()));
  for (const auto& [pmap, regions] : viewers_) pmap->drop_pages_of(*this, pages, false);
}

void SimBacking::copy_out(PageRange pages, std::byte* into) const {
  for (std::uint64_t i = 0; i < pages.count(); ++i) {
    const SimFramePointer found = frame(pages.first() + i);
    if (!found) throw std::system_error(ENXIO, std::generic_category(), "frame of " + name_);
    std::memcpy(into + bytes_from_pages(i), found->bytes.data(), kPageSize);
  }
}

void SimBacking::put(std::uint64_t offset, std::span<const std::byte> bytes) {
  const std::lock_guard guard(memory_->lock());
  while (!bytes.empty()) {
    const std::size_t at = offset % kPageSize;
    const std::size_t count = std::min<std::size_t>(bytes.size(), kPageSize - at);
    SimFramePointer& frame = frames_[offset >> kPageShift];
    if (!frame) frame = std::make_shared<SimFrame>();
    std::memcpy(frame->bytes.data() + at, bytes.data(), count);
    offset += count;
    bytes = bytes.subspan(count);
  }
}

void SimBacking::copy_to(PageRange pages, Backing& to, PageIndex at) const {
  auto& target = static_cast<SimBacking&>(to);
  const std::lock_guard guard(memory_->lock());
  for (auto it = frames_.lower_bound(pages.first().value());
       it != frames_.end() && it->first < pages.end().value(); ++it) {
    const PageIndex into = at + (it->first - pages.first().value());
    if (into.value() < target.pages_) {
      target.frames_.emplace(into.value(), std::make_shared<SimFrame>(*it->second));
    }
  }
}

bool SimBacking::write(PageIndex page, std::span<const std::byte> content) {
  auto frame = std::make_shared<SimFrame>();
  std::memcpy(frame->bytes.data(), content.data(),
              std::min<std::size_t>(content.size(), kPageSize));
  const std::lock_guard guard(memory_->lock());
  if (page.value() >= pages_) return false;
  return frames_.emplace(page.value(), std::move(frame)).second;
}

bool SimBacking::read(PageIndex page, std::span<std::byte> content) const {
  const std::lock_guard guard(memory_->lock());
  const SimFramePointer found = frame(page);
  if (!found) return false;
  std::memcpy(content.data(), found->bytes.data(),
              std::min<std::size_t>(content.size(), kPageSize));
  return true;
}

SimFramePointer SimBacking::frame(PageIndex page) const {
  auto it = frames_.find(page.value());
  return it == frames_.end() ? nullptr : it->second;
}

void SimBacking::remove_viewer(SimPmap& pmap) {
  auto it = viewers_.find(&pmap);
  if (--it->second == 0) viewers_.erase(it);
}

std::shared_ptr<Backing> SimBackingFactory::create(const std::string& name, std::uint64_t pages) {
  if (const int error = fail_next_.exchange(0); error != 0) {
    throw std::system_error(error, std::generic_category(), "frames for " + name);
  }
  return std::make_shared<SimBacking>(memory_, name, pages);
}

}  // namespace hal
