// An object and its file, which others change as well: see "One view of a file" in
// docs/architecture.md.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <spdlog/spdlog.h>
#include <unistd.h>

#include "vmserver/vm/machine.h"
#include "vmserver/vm/vm_object.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::PageIndex;
using hal::PageRange;
using hal::VirtualRange;

namespace {

/// So many pages are compared, or asked for by a scan, at a time.
constexpr std::uint64_t kComparedPages = 16;
constexpr std::uint64_t kScannedPages = 8192;

/// What the file has between an old end in the middle of a page and the end of that page; zero
/// where it ends before.
class Tail {
 public:
  Tail(const hal::HostFile& file, std::uint64_t old_end, std::uint64_t new_end) {
    const std::uint64_t page_end = PageIndex(hal::pages_for_bytes(old_end)).byte_offset();
    if (new_end <= old_end || page_end == old_end) return;
    bytes_ = page_end - old_end;
    std::uint64_t done = 0;
    while (done < bytes_) {
      const ssize_t got = ::pread(file.descriptor.get(), content_.data() + done, bytes_ - done,
                                  static_cast<off_t>(old_end + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) bytes_ = 0;  // nothing is known: what is there stays
      if (got <= 0) break;
      done += static_cast<std::uint64_t>(got);
    }
  }
  std::span<const std::byte> content() const { return std::span(content_).first(bytes_); }

 private:
  std::array<std::byte, hal::kPageSize> content_{};
  std::uint64_t bytes_ = 0;
};

}  // namespace

void VmObject::revalidate(Done done) { look_at_file(true, false, std::move(done)); }

// Of one call of write(2), to be sure. Where the times are not exact, or the host lets nobody wait, the
// syncer's passes have to do.
bool VmObject::may_be_written_to() const {
  constexpr std::int64_t kLongestWrite = 60'000'000'000;
  if (kind_ != Kind::file || !exact_) return false;
  const std::lock_guard guard(lock_);
  return hal::realtime_ns() - known_.changed_ns < kLongestWrite;
}

void VmObject::revalidate_when_written(Done done) {
  hal::await_writes(descriptor().get());
  revalidate(std::move(done));
}

void VmObject::look_at_file(bool for_new_mapping, bool writes_over, Done done) {
  if (kind_ == Kind::file) {
    hal::HostFile file;
    std::uint64_t old_bytes = 0;
    {
      const std::lock_guard guard(lock_);
      file = file_;
      old_bytes = bytes_;
    }
    const std::int64_t time = hal::realtime_ns();
    const std::optional<hal::FileStamp> now = hal::stamp_of(file.descriptor.get());
    const Tail tail(file, old_bytes, now ? now->bytes : 0);
    const std::lock_guard guard(lock_);
    // What our own page-outs change looks like a change by others until their answers are here.
    // So does a change by a program that has not said yet what it changes.
    const bool ours = writing_ != 0 || is_changing();
    if (now && (for_new_mapping || !ours)) {
      const bool changed =
          *now != known_ || changed_ || !settled_ || (for_new_mapping && doubtful_);
      if (changed) {
        outdate_flights();
        drop_clean(all_pages());
        if (!ours) {
          // A write sets the times before its data is there: what was read meanwhile is the old data,
          // or half of it, and has the new stamp.
          settled_ = writes_over && *now == known_ && (exact_ || now->settled(time));
          known_ = *now;
          changed_ = doubtful_ = false;
        }
      }
      set_size(now->bytes, old_bytes == bytes_ ? tail.content() : std::span<const std::byte>());
      if (outdated_in_flight() && done) {
        until_fresh_.push_back(std::move(done));
        return;
      }
    }
  }
  if (done) done(Error::none);
}

hal::SharedDescriptor VmObject::descriptor() const {
  const std::lock_guard guard(lock_);
  return file_.descriptor;
}

void VmObject::take_size(std::uint64_t bytes) {
  hal::HostFile file;
  std::uint64_t old_bytes = 0;
  {
    const std::lock_guard guard(lock_);
    if (bytes == bytes_) return;
    file = file_;
    old_bytes = bytes_;
  }
  const Tail tail(file, old_bytes, bytes);
  const std::lock_guard guard(lock_);
  set_size(bytes, old_bytes == bytes_ ? tail.content() : std::span<const std::byte>());
}

// `tail`: what the file has behind the old end, if that was within a page.
void VmObject::set_size(std::uint64_t bytes, std::span<const std::byte> tail) {
  if (bytes == bytes_) return;
  const std::uint64_t pages = hal::pages_for_bytes(bytes);
  const auto resident = [&](std::uint64_t at) {
    return !backing_->next_resident(PageRange(PageIndex(at >> hal::kPageShift), 1)).empty();
  };
  try {
    if (bytes < bytes_) {
      dirty_.subtract(PageSet::interval_type::right_open(pages, ~std::uint64_t{0}));
      if (const std::uint64_t within = bytes % hal::kPageSize; within != 0 && resident(bytes)) {
        const std::array<std::byte, hal::kPageSize> zeroes{};
        backing_->put(bytes, std::span(zeroes).subspan(within));
      }
    } else if (!tail.empty() && resident(bytes_)) {
      // The page was filled with zeroes there, and programs may have stored what never counted.
      backing_->put(bytes_, tail);
    }
    bytes_ = bytes;
    const PageIndex old_end(backing_->pages());
    backing_->resize(pages);
    if (PageIndex(pages) < old_end) track_anew(PageRange::between(PageIndex(pages), old_end));
  } catch (const std::system_error& error) {
    spdlog::error("{}: to {} bytes: {}", describe(), bytes, error.what());
  }
  pager_->resize(bytes);
}

void VmObject::invalidate(PageRange pages) {
  const std::lock_guard guard(lock_);
  if (!tracks_stores()) return;
  outdate_flights();
  drop_clean(pages);
}

bool VmObject::stores_possible() const {
  return std::any_of(mappings_.begin(), mappings_.end(),
                     [](const MapEntry& mapping) { return mapping.tracked(); });
}

void VmObject::drop_clean(PageRange pages) {
  pages = pages.intersect(all_pages());
  if (pages.empty() || own_memory_) return;
  const bool compare = stores_possible();
  PageSet clean;
  clean.add(interval(pages));
  clean -= dirty_;
  // What is on its way in, and out of date, is dropped when it is there.
  if (compare) clean -= outdated_pages();
  subtract_going_out(clean, pages);
  try {
    for (const auto& part : clean) {
      PageRange rest = page_range(part);
      if (!compare) {
        backing_->discard(rest);
        continue;
      }
      for (PageRange run = backing_->next_resident(rest); !run.empty();
           run = backing_->next_resident(rest)) {
        run = PageRange(run.first(), std::min(run.count(), kComparedPages));
        drop_unless_stored_to(run);
        rest = PageRange::between(run.end(), rest.end());
      }
    }
  } catch (const std::system_error& error) {
    // They stay, and are dropped the next time.
    changed_ = true;
    spdlog::error("{}: drop of pages that are out of date: {}", describe(), error.what());
  }
  for (MapEntry& mapping : mappings_) {
    if (mapping.wired) prefetch_locked(mapping.pages_of(mapping.range).intersect(pages));
  }
}

// A program may store to a page at any time, and a store that comes between the question what was
// written and the moment the page goes must not be lost: such a page is not what it was before.
void VmObject::drop_unless_stored_to(PageRange pages) {
  std::vector<std::byte> before(pages.bytes());
  std::vector<std::byte> after(pages.bytes());
  backing_->read(pages, before.data());
  collect_written(pages, true);
  PageSet clean;
  clean.add(interval(pages));
  clean -= dirty_;
  for (const auto& part : clean) {
    const PageRange run = page_range(part);
    backing_->take(run, after.data());
    track_anew(run);
    for (std::uint64_t i = 0; i < run.count(); ++i) {
      const PageIndex page = run.first() + i;
      const std::byte* const then = before.data() + hal::bytes_from_pages(page - pages.first());
      const std::byte* const now = after.data() + hal::bytes_from_pages(i);
      if (std::memcmp(then, now, hal::kPageSize) == 0) continue;
      backing_->put(page.byte_offset(), std::span(now, hal::kPageSize));
      dirty_.add(interval(PageRange(page, 1)));
    }
  }
}

// For absent pages that are not on their way in: nobody can store into one before this is done.
void VmObject::track_anew(PageRange pages) {
  for_each_view(pages, [](MapEntry& mapping, VirtualRange seen) {
    if (mapping.tracked()) mapping.space->pmap().track_anew(seen);
  });
}

void VmObject::written_out(const Transfer& part, Error error) {
  if (part.kind != Transfer::Kind::page_out) return;
  going_out_.subtract({interval(part.pages), 1U});
  if (error != Error::none) {
    ++failed_page_outs_;
    dirty_.add(interval(part.pages));
  } else if (kind_ == Kind::file) {
    unsynced_.add(interval(part.pages));
    // Rather some too many than a list without end.
    constexpr std::size_t kMostPieces = 1024;
    if (unsynced_.iterative_size() > kMostPieces) unsynced_ = PageSet(boost::icl::hull(unsynced_));
  }
  if (!part.stamps) return;
  const auto& [before, after] = *part.stamps;
  if (before != known_) changed_ = true;
  known_ = after;
  doubtful_ = true;
}

PageSet VmObject::begin_sync() { return std::exchange(unsynced_, {}); }

// The host lets go of what it could not write, and a sync after that would find nothing to do and
// succeed: so all of it is written once more.
void VmObject::sync_failed(const PageSet& pages) {
  ++failed_syncs_;
  for (const auto& part : pages) {
    resident(page_range(part), [&](PageRange run) { dirty_.add(interval(run)); });
  }
  show_stores();
}

// Whether what others were writing when the file was looked at last is there now.
bool VmObject::await_others() {
  // Where the host does not let one wait.
  constexpr std::int64_t kLongWrite = 1'000'000'000;
  std::int64_t begun = 0;
  {
    const std::lock_guard guard(lock_);
    if (settled_) return true;
    begun = known_.changed_ns;
  }
  return hal::await_writes(descriptor().get()) || hal::realtime_ns() - begun > kLongWrite;
}

void VmObject::sync_with_file() {
  if (kind_ != Kind::file || host_memory_) return;
  {
    const std::lock_guard guard(lock_);
    if (sync_pause_ != 0 && changes_.empty()) {
      --sync_pause_;
      return;
    }
  }
  overtake_slow_changes();
  look_at_file(false, await_others(), {});
  for (PageRange rest = all_pages(); !rest.empty();) {
    const PageRange piece(rest.first(), std::min(rest.count(), kScannedPages));
    const std::lock_guard guard(lock_);
    if (!stores_possible()) break;
    collect_written(piece, false);
    rest = PageRange::between(piece.end(), rest.end());
  }
  {
    const std::lock_guard guard(lock_);
    show_stores();
    // What a change keeps back goes in the next pass.
    if (dirty_.empty() || kept_back(all_pages())) return;
  }
  write_back(all_pages(), false, [self = shared_from_this()](Error error) {
    constexpr unsigned kMostDoublings = 7;
    const std::lock_guard guard(self->lock_);
    self->sync_failures_ =
        error == Error::none ? 0 : std::min(self->sync_failures_ + 1, kMostDoublings);
    self->sync_pause_ = (1U << self->sync_failures_) - 1;
  });
}

}  // namespace vm
