// Changes of a file that a served program makes by write and its kin, see "One view of a file" in
// docs/architecture.md.
//
// A change and a page-out of the same page must not mix: the page-out would put back what the page
// held before. So page-outs of its pages wait for the change, and the change for page-outs that are
// under way. When it has ended, the bytes that it changed are taken from the file into the pages that
// are there; what programs stored beside them stays.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <spdlog/spdlog.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmserver/vm/machine.h"
#include "vmserver/vm/vm_object.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::PageIndex;
using hal::PageRange;

namespace {

/// How long somebody waits for a change. Natively it would be in the kernel for that long.
constexpr std::chrono::seconds kPatience{2};
/// So many pages are taken from the file at a time; of more than the most, those that nobody can
/// store into are dropped instead.
constexpr std::uint64_t kTakenPages = 16;
constexpr std::uint64_t kMostTakenPages = 256;

}  // namespace

bool VmObject::is_going_out(PageRange pages) const {
  return !pages.empty() && boost::icl::intersects(going_out_, interval(pages));
}

void VmObject::subtract_going_out(PageSet& set, PageRange pages) const {
  if (pages.empty()) return;
  const auto [first, last] = going_out_.equal_range(interval(pages));
  for (auto it = first; it != last; ++it) set.subtract(it->first);
}

bool VmObject::kept_back(PageRange pages) const {
  return std::any_of(changes_.begin(), changes_.end(), [&](const Change& change) {
    const PageRange both = change.pages.intersect(pages);
    return !change.granted && !change.overtaken && !both.empty() &&
           boost::icl::intersects(dirty_, interval(both));
  });
}

bool VmObject::is_changing() const {
  const auto now = std::chrono::steady_clock::now();
  return std::any_of(changes_.begin(), changes_.end(),
                     [&](const Change& change) { return now - change.since < kPatience; });
}

// None once it has been abandoned.
std::vector<VmObject::Change>::iterator VmObject::change_of(std::uint64_t number) {
  return std::find_if(changes_.begin(), changes_.end(),
                      [&](const Change& change) { return change.number == number; });
}

void VmObject::begin_change(std::uint64_t number, PageRange pages, Done granted) {
  const std::optional<hal::FileStamp> now = hal::stamp_of(descriptor().get());
  {
    const std::lock_guard guard(lock_);
    // What others did until now is not taken for part of this.
    if (now && writing_ == 0 && changes_.empty() && *now != known_) changed_ = true;
    Change change;
    change.number = number;
    change.pages = pages;
    change.since = std::chrono::steady_clock::now();
    // Who waits for a change to end comes before the next one.
    if (is_going_out(pages) || !put_off_.empty()) {
      change.granted = std::move(granted);
      changes_.push_back(std::move(change));
      return;
    }
    changes_.push_back(std::move(change));
  }
  granted(Error::none);
}

std::vector<VmObject::Done> VmObject::begin_waiting() {
  std::vector<Done> granted;
  if (!put_off_.empty()) return granted;
  for (Change& change : changes_) {
    if (!change.granted || is_going_out(change.pages)) continue;
    change.since = std::chrono::steady_clock::now();
    granted.push_back(std::exchange(change.granted, nullptr));
  }
  return granted;
}

std::vector<VmObject::PutOff> VmObject::take_put_off() { return std::exchange(put_off_, {}); }

void VmObject::resume(std::vector<PutOff> put_off) {
  for (PutOff& one : put_off) write_back(one.pages, one.durable, std::move(one.done));
  std::vector<Done> granted;
  {
    const std::lock_guard guard(lock_);
    granted = begin_waiting();
  }
  for (const Done& begin : granted) begin(Error::none);
}

void VmObject::end_change(std::uint64_t number, ByteRange changed,
                          std::function<void(Ended)> done) {
  {
    const std::lock_guard guard(lock_);
    outdate_flights();
  }
  take_change(number, changed);
  look_after_change();
  auto finish = [self = shared_from_this(), number, changed, done = std::move(done)](bool again) {
    // What has come in meanwhile may be older, and may have been touched since, so that it was not
    // dropped.
    if (again) self->take_change(number, changed);
    bool overtaken = false;
    std::vector<PutOff> put_off;
    {
      const std::lock_guard guard(self->lock_);
      if (const auto it = self->change_of(number); it != self->changes_.end()) {
        overtaken = it->overtaken;
        self->changes_.erase(it);
      }
      put_off = self->take_put_off();
    }
    self->resume(std::move(put_off));
    done(overtaken ? Ended::overtaken : Ended::well);
  };
  {
    const std::lock_guard guard(lock_);
    if (outdated_in_flight()) {
      until_fresh_.push_back([finish = std::move(finish)](Error) { finish(true); });
      return;
    }
  }
  finish(false);
}

// Where pages went out meanwhile that may have hidden the change, the file may hold old bytes. They are
// no news.
void VmObject::take_change(std::uint64_t number, ByteRange changed) {
  {
    const std::lock_guard guard(lock_);
    const auto it = change_of(number);
    if (it != changes_.end() && it->overtaken) return;
  }
  take_from_file(changed);
}

void VmObject::abandon_change(std::uint64_t number) {
  std::vector<PutOff> put_off;
  Done waiting;
  {
    const std::lock_guard guard(lock_);
    const auto it = change_of(number);
    if (it == changes_.end()) return;
    // Where a program stored, that counts: the change was never acknowledged.
    changed_ = true;
    waiting = std::move(it->granted);
    changes_.erase(it);
    put_off = take_put_off();
  }
  resume(std::move(put_off));
  if (waiting) waiting(Error::io);
}

// Where `got` is short the file ends. False where the disk has to be waited for.
bool VmObject::read_now(std::uint64_t from, std::span<std::byte> into, ssize_t& got) const {
  const iovec vector{into.data(), into.size()};
  for (;;) {
    got = ::preadv2(file_.descriptor.get(), &vector, 1, static_cast<off_t>(from), RWF_NOWAIT);
    if (got < 0 && errno == EAGAIN) return false;
    if (got < 0 && errno == EOPNOTSUPP) {  // tmpfs: there is no disk
      got = ::pread(file_.descriptor.get(), into.data(), into.size(), static_cast<off_t>(from));
    }
    if (got >= 0 || errno != EINTR) return true;
  }
}

// Under the lock what is there stays there: to put bytes into a page that has just gone would make a
// page of zeroes around them.
void VmObject::take_from_file(ByteRange changed) {
  std::array<std::byte, kTakenPages * hal::kPageSize> content;
  for (PageRange rest = changed.pages();;) {
    const std::lock_guard guard(lock_);
    rest = rest.intersect(all_pages());
    const bool only_read = !stores_possible() && dirty_.empty();
    if (rest.count() > kMostTakenPages && only_read) return drop_clean(rest);
    try {
      PageRange run = backing_->next_resident(rest);
      if (run.empty()) return;
      run = PageRange(run.first(), std::min(run.count(), kTakenPages));
      const std::uint64_t from = std::max(changed.from, run.byte_offset());
      const std::uint64_t to = std::min(changed.to, run.end().byte_offset());
      const std::span into = std::span(content).first(to - from);
      ssize_t got = 0;
      if (!read_now(from, into, got)) {
        // After a write past the cache (O_DIRECT). Where nobody can have stored, the next touch
        // brings it; elsewhere it has to be had now.
        if (only_read) {
          drop_clean(run);
        } else {
          got = ::pread(file_.descriptor.get(), into.data(), into.size(),
                        static_cast<off_t>(from));
        }
      }
      if (got > 0) backing_->put(from, into.first(static_cast<std::size_t>(got)));
      if (got < 0) {
        // Whoever touches them hears of it from the pager.
        spdlog::error("{}: read of what a program changed: {}", describe(), std::strerror(errno));
        drop_clean(run);
      }
      rest = PageRange::between(run.end(), rest.end());
    } catch (const std::system_error& error) {
      changed_ = true;
      spdlog::error("{}: taking over what a program changed: {}", describe(), error.what());
      return;
    }
  }
}

void VmObject::look_after_change() {
  const std::int64_t time = hal::realtime_ns();
  const std::optional<hal::FileStamp> now = hal::stamp_of(descriptor().get());
  if (!now) return;
  take_size(now->bytes);
  const std::lock_guard guard(lock_);
  known_ = *now;
  doubtful_ = true;
  if (!exact_) settled_ = now->settled(time);
}

void VmObject::flush(PageRange pages, Done done) {
  {
    const std::lock_guard guard(lock_);
    collect_written(pages, true);
  }
  write_back(pages, false, std::move(done));
}

void VmObject::overtake_slow_changes() {
  std::vector<PutOff> put_off;
  {
    const std::lock_guard guard(lock_);
    if (put_off_.empty()) return;
    const auto now = std::chrono::steady_clock::now();
    for (Change& change : changes_) {
      if (change.granted || now - change.since < kPatience) continue;
      if (!change.overtaken) {
        spdlog::warn("{}: a program has been changing it for {} s, and is waited for no longer",
                     describe(), kPatience.count());
      }
      change.overtaken = true;
    }
    put_off = take_put_off();
  }
  resume(std::move(put_off));
}

void VmObject::show_stores() {
  if (!on_board_) return;
  const bool stored = stores_possible() || !dirty_.empty() || writing_ != 0;
  if (stored == shown_stored_) return;
  shown_stored_ = stored;
  machine_.file_board().set_stored(file_.attributes.device, file_.attributes.inode, stored);
}

}  // namespace vm
