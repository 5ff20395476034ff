#include "pagers/anon/anonymous_store.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "pagers/common/failure.h"

namespace pager {

using hal::PageIndex;
using hal::PageRange;

namespace {

/// As many zero pages between others are filled together with them; more get a write of their own.
constexpr std::uint64_t kShortGap = 16;
/// How many pages are forgotten at once.
constexpr std::size_t kForgetPages = 16384;

constexpr PageIndex kNoEnd(std::numeric_limits<std::uint64_t>::max());

bool is_zero(const char* page) {
  return page[0] == 0 && std::memcmp(page, page + 1, hal::kPageSize - 1) == 0;
}

std::string subject(PageRange pages) {
  return text_of_span(pages.bytes(), pages.byte_offset()) + " of an anonymous object";
}

bool is_no_space(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

}  // namespace

/// One request to write pages out: their new places, which are released again unless they take
/// effect.
class AnonymousStore::PageOut {
 public:
  PageOut(AnonymousStore& store, PageRange request, Workspace& workspace)
      : store_(store), request_(request), workspace_(workspace) {}
  ~PageOut() { give_back(0); }
  PageOut(const PageOut&) = delete;
  PageOut& operator=(const PageOut&) = delete;

  /// Writes these pages, whose content is in the workspace. `are_all`: that is the whole request.
  void write(const std::vector<PageIndex>& pages, bool are_all);
  /// Of these pages there is nothing to write.
  void leave_out(PageRange pages);
  /// What was written takes effect.
  void commit();

 private:
  using Moved = SwapIndex::Change;
  struct Packed {
    PageIndex page;
    std::uint64_t bytes;
  };

  void pack(const std::vector<PageIndex>& pages);
  std::vector<SwapRun> place(const std::vector<PageIndex>* replaceable);
  std::vector<SwapRun> replace(const std::vector<PageIndex>& pages);
  void give_back(std::size_t first);

  AnonymousStore& store_;
  const PageRange request_;
  Workspace& workspace_;
  std::vector<Moved> moved_;
  SwapSpace::FileSet full_;  ///< files whose file system had no space
  // The piece that is being written: what it is packed to, and how many sectors each page takes.
  const char* data_ = nullptr;
  std::vector<Packed> packed_;
  std::vector<std::uint8_t> sizes_;
};

/// Leaves out zero pages and puts the rest one behind the other, each at the start of a sector.
void AnonymousStore::PageOut::pack(const std::vector<PageIndex>& pages) {
  packed_.clear();
  sizes_.clear();
  const bool compresses = store_.workspaces_.compression() != Compression::none;
  char* to = compresses ? workspace_.packed() : workspace_.pages();
  data_ = to;
  for (std::uint64_t i = 0; i < pages.size(); ++i) {
    const char* const page = workspace_.page(i);
    if (is_zero(page)) {
      // Kept, it is to be told from one that is gone.
      moved_.push_back({pages[i], store_.index_ != nullptr ? StoredPage::zero() : StoredPage()});
      continue;
    }
    std::uint64_t bytes = compresses ? workspace_.compressor().compress(page, to) : 0;
    if (bytes == 0) {
      bytes = hal::kPageSize;
      if (to != page) std::memmove(to, page, bytes);
    }
    const std::uint64_t sectors = sectors_for_bytes(bytes);
    std::memset(to + bytes, 0, bytes_from_sectors(sectors) - bytes);
    to += bytes_from_sectors(sectors);
    packed_.push_back({pages[i], bytes});
    sizes_.push_back(static_cast<std::uint8_t>(sectors));
  }
}

std::vector<SwapRun> AnonymousStore::PageOut::place(const std::vector<PageIndex>* replaceable) {
  if (auto runs = store_.swap_.allocate(sizes_, full_)) return *std::move(runs);
  if (replaceable != nullptr) {
    auto runs = replace(*replaceable);
    if (!runs.empty()) return runs;
  }
  throw Failure(ENOSPC, "keep " + subject(request_) + ": " + store_.swap_.text_when_full() +
                            (full_.any() ? ", no space left in its file system" : ""));
}

/// In the room of older copies of these pages; empty when that is not enough.
std::vector<SwapRun> AnonymousStore::PageOut::replace(const std::vector<PageIndex>& pages) {
  std::vector<Moved> before;
  std::vector<Moved> lost;
  std::vector<SwapRun> older;
  {
    const std::lock_guard lock(store_.mutex_);
    for (const PageIndex page : pages) {
      const StoredPage known = store_.stored_.get(page);
      if (!known.is_stored()) continue;
      before.push_back({page, known});
      lost.push_back({page, StoredPage::lost()});
      older.push_back(known.run());
    }
  }
  if (older.empty()) return {};
  store_.record(lost);
  auto runs = store_.swap_.exchange(older, sizes_, full_);
  if (!runs) {
    store_.record(before);
    return {};
  }
  const std::lock_guard lock(store_.mutex_);
  for (const Moved& one : lost) store_.stored_.exchange(one.page, one.now);
  return *std::move(runs);
}

void AnonymousStore::PageOut::write(const std::vector<PageIndex>& pages, bool are_all) {
  pack(pages);
  // Before older copies may have to make room.
  if (store_.index_ != nullptr) {
    std::vector<Moved> to_come;
    for (const PageIndex page : pages) to_come.push_back({page, StoredPage::zero()});
    store_.index_->prepare(store_.object_, to_come);
  }
  const std::size_t first = moved_.size();
  moved_.reserve(first + packed_.size());
  while (!packed_.empty()) {
    const std::vector<SwapRun> runs = place(are_all ? &pages : nullptr);
    for (std::size_t i = 0; i < runs.size(); ++i)
      moved_.push_back({packed_[i].page, StoredPage::at(runs[i], packed_[i].bytes)});
    SwapRun joined;
    try {
      const char* from = data_;
      for (std::size_t i = 0; i < runs.size();) {
        joined = runs[i];
        for (++i; i < runs.size() && joined.joins(runs[i]); ++i)
          joined.sectors.count += runs[i].sectors.count;
        store_.swap_.write(joined, from);
        from += bytes_from_sectors(joined.sectors.count);
      }
      return;
    } catch (const Failure& failure) {
      // Another file may have the space that this one's file system has not.
      if (!is_no_space(failure.error())) throw;
      give_back(first);
      full_.set(joined.file);
    }
  }
}

/// Kept, they are to be told from pages that are gone: of every page that somebody wrote out the
/// index says something.
void AnonymousStore::PageOut::leave_out(PageRange pages) {
  if (store_.index_ == nullptr) return;
  const std::lock_guard lock(store_.mutex_);
  for (PageIndex page = pages.first(); page < pages.end(); page = page + 1)
    if (!store_.stored_.get(page).is_known()) moved_.push_back({page, StoredPage::zero()});
}

/// Releases what was placed from moved_[first] on.
void AnonymousStore::PageOut::give_back(std::size_t first) {
  std::vector<SwapRun> runs;
  runs.reserve(moved_.size() - first);
  for (std::size_t i = first; i < moved_.size(); ++i)
    if (moved_[i].now.is_stored()) runs.push_back(moved_[i].now.run());
  if (!runs.empty()) store_.swap_.release(runs);
  moved_.resize(first);
}

void AnonymousStore::PageOut::commit() {
  std::vector<SwapRun> older;
  older.reserve(moved_.size());
  if (store_.index_ != nullptr) {
    std::sort(moved_.begin(), moved_.end(),
              [](const Moved& one, const Moved& other) { return one.page < other.page; });
    store_.index_->prepare(store_.object_, moved_);
  }
  std::unique_lock lock(store_.mutex_, std::defer_lock);
  try {
    store_.record(moved_);
    lock.lock();
    for (const Moved& moved : moved_)
      if (moved.now.is_known()) store_.stored_.reserve(moved.page);
  } catch (const std::exception&) {
    // The index may lead to the new places now, or to the old ones: both stay taken.
    if (store_.index_ != nullptr) moved_.clear();
    throw;
  }
  // From here on nothing throws. What is forgotten comes last: it could take a reserved chunk away.
  for (const bool known : {true, false}) {
    for (const Moved& moved : moved_) {
      if (moved.now.is_known() != known) continue;
      const StoredPage before = store_.stored_.exchange(moved.page, moved.now);
      if (before.is_stored()) older.push_back(before.run());
    }
  }
  lock.unlock();
  moved_.clear();
  if (!older.empty()) store_.swap_.release(older);
}

AnonymousStore::~AnonymousStore() {
  if (index_ == nullptr) {
    forget_pages(PageRange::between(PageIndex(0), kNoEnd));
  } else if (!forgotten_) {
    index_->give_back(object_, std::move(stored_));
  }
}

void AnonymousStore::record(std::span<const SwapIndex::Change> changes) {
  if (index_ != nullptr) index_->record(object_, changes);
}

void AnonymousStore::page_out(PageRange pages, ObjectMemory& memory) {
  const auto workspace = workspaces_.take();
  PageOut out(*this, pages, *workspace);
  PageRange rest = pages;
  PageRange resident;
  const auto find_resident = [&] {
    resident = memory.next_resident(rest);
    out.leave_out(PageRange::between(rest.first(), resident.first()));
    rest = PageRange::between(resident.first(), rest.end());
  };
  find_resident();
  std::vector<PageIndex> piece;
  for (bool first = true; !rest.empty(); first = false) {
    piece.clear();
    while (!rest.empty() && piece.size() < Workspace::kPages) {
      const PageRange part(resident.first(),
                           std::min(resident.count(), Workspace::kPages - piece.size()));
      memory.read(part.byte_offset(), part.bytes(), workspace->page(piece.size()));
      for (PageIndex page = part.first(); page < part.end(); page = page + 1) piece.push_back(page);
      rest = PageRange::between(part.end(), rest.end());
      find_resident();
    }
    out.write(piece, first && rest.empty());
  }
  out.commit();
}

void AnonymousStore::page_in(PageRange pages, ObjectMemory& memory) {
  for (PageIndex at = pages.first(); at < pages.end();) {
    PageIndex end = at;
    {
      const std::lock_guard lock(mutex_);
      end = stored_.next_known(at, pages.end());
    }
    memory.fill_zero(PageRange::between(at, end));
    at = end;
    if (at >= pages.end()) break;
    const PageIndex most = std::min(pages.end(), at + Workspace::kPages);
    {
      const std::lock_guard lock(mutex_);
      while (end < most) {
        const PageIndex next = stored_.next_known(end, most);
        if (next - end > kShortGap) break;
        end = next < most ? next + 1 : most;
      }
    }
    const auto workspace = workspaces_.take();
    const PageRange piece = PageRange::between(at, end);
    load(piece, Reading::any, *workspace);
    memory.fill(piece, workspace->pages());
    at = end;
  }
}

bool AnonymousStore::page_in_at_once(PageRange pages, ObjectMemory& memory) {
  if (pages.count() > Workspace::kPages) return false;
  PageIndex known;
  {
    const std::lock_guard lock(mutex_);
    known = stored_.next_known(pages.first(), pages.end());
  }
  if (known == pages.end()) {
    memory.fill_zero(pages);
    return true;
  }
  const auto workspace = workspaces_.take();
  if (!load(pages, Reading::cached, *workspace)) return false;
  memory.fill(pages, workspace->pages());
  return true;
}

std::vector<StoredPage> AnonymousStore::stored(PageRange pages) const {
  std::vector<StoredPage> stored;
  stored.reserve(pages.count());
  {
    const std::lock_guard lock(mutex_);
    for (PageIndex page = pages.first(); page < pages.end(); page = page + 1)
      stored.push_back(stored_.get(page));
  }
  for (std::uint64_t i = 0; i < pages.count(); ++i)
    if (stored[i].is_lost())
      throw Failure(EIO, "fill " + subject(PageRange(pages.first() + i, 1)) +
                             ", which was lost when writing it out failed");
  return stored;
}

/// Puts these pages, at most Workspace::kPages, into the workspace. False when that is more than
/// `reading` allows.
bool AnonymousStore::load(PageRange pages, Reading reading, Workspace& workspace) const {
  const std::vector<StoredPage> stored = this->stored(pages);
  for (std::uint64_t i = 0; i < pages.count();) {
    if (!stored[i].is_stored()) {
      std::memset(workspace.page(i++), 0, hal::kPageSize);
      continue;
    }
    // What lies in a row comes with one read, also where zero pages are in between.
    SwapRun run = stored[i].run();
    std::uint64_t end = i + 1;
    for (std::uint64_t next = end; next < pages.count(); ++next) {
      if (!stored[next].is_stored()) continue;
      if (!run.joins(stored[next].run())) break;
      run.sectors.count += stored[next].run().sectors.count;
      end = next + 1;
    }
    if (!read_run(run, std::span(stored).subspan(i, end - i), pages.first(), i, reading, workspace))
      return false;
    i = end;
  }
  return true;
}

/// Reads `run`, in which `pages` lie one behind the other, and puts them into the workspace from
/// its page `at` on. `first` is the object's page that is the workspace's page 0.
bool AnonymousStore::read_run(const SwapRun& run, std::span<const StoredPage> pages,
                              PageIndex first, std::uint64_t at, Reading reading,
                              Workspace& workspace) const {
  const auto read = [&](char* to) {
    if (reading == Reading::cached) return swap_.read_cached(run, to);
    swap_.read(run, to);
    return true;
  };
  // All as they are, and nothing in between.
  if (run.sectors.count == pages.size() * kPageSectors) return read(workspace.page(at));
  if (!read(workspace.packed())) return false;
  const char* from = workspace.packed();
  for (const StoredPage& page : pages) {
    char* const to = workspace.page(at);
    if (!page.is_stored()) {
      std::memset(to, 0, hal::kPageSize);
    } else if (!page.is_compressed()) {
      std::memcpy(to, from, hal::kPageSize);
    } else if (!workspace.compressor().decompress(from, page.bytes(), to)) {
      throw Failure(EIO, "decompress " + subject(PageRange(first + at, 1)));
    }
    from += bytes_from_sectors(page.run().sectors.count);
    ++at;
  }
  return true;
}

void AnonymousStore::discard(PageRange pages) { forget_pages(pages); }

void AnonymousStore::resize(std::uint64_t bytes) {
  forget_pages(PageRange::between(PageIndex(hal::pages_for_bytes(bytes)), kNoEnd));
}

void AnonymousStore::forget_pages(PageRange pages) {
  std::vector<SwapIndex::Change> changes;
  std::vector<SwapRun> runs;
  for (PageIndex page = pages.first(); page < pages.end();) {
    changes.clear();
    runs.clear();
    {
      const std::lock_guard lock(mutex_);
      for (page = stored_.next_known(page, pages.end());
           page < pages.end() && changes.size() < kForgetPages;
           page = stored_.next_known(page + 1, pages.end())) {
        changes.push_back({page, StoredPage()});
        const StoredPage known = stored_.get(page);
        if (!known.is_stored()) continue;
        if (!runs.empty() && runs.back().joins(known.run())) {
          runs.back().sectors.count += known.run().sectors.count;
        } else {
          runs.push_back(known.run());
        }
      }
    }
    const auto forget = [&] {
      const std::lock_guard lock(mutex_);
      for (const auto& [forgotten, now] : changes) stored_.exchange(forgotten, now);
    };
    try {
      record(changes);
    } catch (const Failure&) {
      // The index may still lead to these pages' sectors: they stay taken.
      forget();
      throw;
    }
    forget();
    if (!runs.empty()) swap_.release(runs);
  }
}

void AnonymousStore::forget() {
  if (index_ == nullptr || forgotten_) return;
  index_->forget(object_);
  forgotten_ = true;
  std::vector<SwapRun> runs;
  {
    const std::lock_guard lock(mutex_);
    for (PageIndex page = stored_.next_known(PageIndex(0), kNoEnd); page < kNoEnd;
         page = stored_.next_known(page + 1, kNoEnd))
      if (const StoredPage known = stored_.get(page); known.is_stored())
        runs.push_back(known.run());
    stored_ = StoredPages();
  }
  if (!runs.empty()) swap_.release(runs);
}

std::vector<PageRange> AnonymousStore::kept(PageIndex first, std::size_t most) const {
  std::vector<PageRange> runs;
  const std::lock_guard lock(mutex_);
  for (PageIndex page = stored_.next_known(first, kNoEnd); page < kNoEnd;
       page = stored_.next_known(page + 1, kNoEnd)) {
    if (stored_.get(page).is_lost()) continue;
    if (!runs.empty() && runs.back().end() == page) {
      runs.back() = PageRange(runs.back().first(), runs.back().count() + 1);
    } else if (runs.size() == most) {
      break;
    } else {
      runs.emplace_back(page, 1);
    }
  }
  return runs;
}

}  // namespace pager
