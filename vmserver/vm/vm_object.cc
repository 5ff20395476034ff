#include "vmserver/vm/vm_object.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include <spdlog/spdlog.h>

#include "vmserver/vm/machine.h"
#include "vmserver/vm/vm_space.h"

namespace vm {

using hal::PageIndex;
using hal::PageRange;
using hal::VirtualRange;

// A run on its way in. Lives in the object's pool between uses, so that a fault allocates nothing
// once the object has had as many in flight before.
class VmObject::PageIn final : public Transfer {
 public:
  void start(std::shared_ptr<VmObject> object, PageRange run) {
    object_ = std::move(object);
    kind = Kind::page_in;
    pages = run;
    outdated = false;
  }

  bool outdated = false;  ///< the file changed meanwhile: what arrives is dropped

  void done(Error error) override {
    // The object may go with the last reference to it, and this Transfer with the object's pool.
    const std::shared_ptr<VmObject> object = std::move(object_);
    object->page_in_done(*this, error);
  }

 private:
  std::shared_ptr<VmObject> object_;
};

// One write_back(): as many page-outs as there are dirty runs, then perhaps a sync. Until it ends
// the object counts it among its writing_.
//
// Its page-outs are submitted under the lock under which their pages were taken off the dirty ones:
// somebody else finds these clean, and has nothing to wait for but what it asks the pager for behind
// them. With the page-outs not there yet, an msync would end before what it is about is in the file.
class VmObject::WriteBack : public std::enable_shared_from_this<WriteBack> {
 public:
  WriteBack(std::shared_ptr<VmObject> object, bool durable, Done done)
      : object_(std::move(object)), durable_(durable), done_(std::move(done)) {
    object_->machine_.write_back_started();
  }
  ~WriteBack() { object_->machine_.write_back_ended(); }

  /// Needs the object's lock. `with_others`: pages that this is about are on their way out already.
  void submit(const std::vector<PageRange>& runs, bool with_others) {
    // One more than there are: it does not end before submitted().
    pending_ = runs.size() + 1;
    failed_syncs_before_ = object_->failed_syncs_;
    failed_page_outs_before_ = object_->failed_page_outs_;
    with_others_ = with_others;
    for (PageRange run : runs) {
      auto* part = new Part(shared_from_this());
      part->kind = Transfer::Kind::page_out;
      part->pages = run;
      object_->machine_.memory().add_paging_out(static_cast<std::int64_t>(run.count()));
      object_->pager_->submit(*part);
    }
  }
  /// Without the lock.
  void submitted() { part_done(Error::none, nullptr).tell(); }

 private:
  /// Who is to hear that all is over. By then neither this nor, perhaps, the object is there: who
  /// unmapped a program and goes on to execute it must not find that we have it open for writing.
  struct Ending {
    Done done;
    Error error = Error::none;
    std::vector<Done> waiting;

    void tell() const {
      if (done) done(error);
      for (const Done& one : waiting) one(Error::none);
    }
  };

  class Part final : public Transfer {
   public:
    explicit Part(std::shared_ptr<WriteBack> whole) : whole_(std::move(whole)) {}
    void done(Error error) override {
      std::unique_ptr<Part> self(this);
      std::shared_ptr<WriteBack> whole = std::move(whole_);
      const Ending ending = whole->part_done(error, this);
      self.reset();
      whole.reset();
      ending.tell();
    }

   private:
    std::shared_ptr<WriteBack> whole_;
  };

  Ending part_done(Error error, const Transfer* part) {
    if (part != nullptr) {
      if (part->kind == Transfer::Kind::page_out) {
        object_->machine_.page_out_over(part->pages.count(), error == Error::none);
      }
      std::vector<Done> granted;
      {
        const std::lock_guard guard(object_->lock_);
        object_->written_out(*part, error);
        granted = object_->begin_waiting();
      }
      for (const Done& begin : granted) begin(Error::none);
    }
    if (error != Error::none) {
      int none = 0;
      error_.compare_exchange_strong(none, to_errno(error));
    }
    if (part != nullptr && part->kind == Transfer::Kind::sync) {
      const std::lock_guard guard(object_->lock_);
      if (error != Error::none) {
        object_->sync_failed(syncing_);
      } else if (object_->failed_syncs_ != failed_syncs_before_ ||
                 (with_others_ && object_->failed_page_outs_ != failed_page_outs_before_)) {
        // The host told another sync of a failure, and tells nobody twice; or the pager another
        // write-back. It may have been about what this one is to be sure of.
        error_ = EIO;
      }
    }
    if (--pending_ != 0) return {};
    if (durable_ && error_ == 0) {
      durable_ = false;
      pending_ = 1;
      auto* part = new Part(shared_from_this());
      part->kind = Transfer::Kind::sync;
      {
        const std::lock_guard guard(object_->lock_);
        syncing_ = object_->begin_sync();
      }
      object_->pager_->submit(*part);
      return {};
    }
    // It is over before anybody hears of it.
    Ending ending;
    ending.done = std::move(done_);
    ending.error = error_from_errno(error_);
    const std::lock_guard guard(object_->lock_);
    if (--object_->writing_ == 0) ending.waiting.swap(object_->until_written_);
    object_->show_stores();
    return ending;
  }

  const std::shared_ptr<VmObject> object_;
  bool durable_;
  Done done_;
  std::atomic<std::size_t> pending_{0};
  std::atomic<int> error_{0};
  PageSet syncing_;               // what the sync is about
  // Of the object's, when this began.
  unsigned failed_syncs_before_ = 0;
  unsigned failed_page_outs_before_ = 0;
  bool with_others_ = false;
};

VmObject::VmObject(Machine& machine, Kind kind, hal::HostFile file,
                   std::shared_ptr<hal::Backing> backing, std::uint64_t bytes)
    : machine_(machine),
      kind_(kind),
      tracks_stores_(kind == Kind::anonymous ? machine.memory().limited()
                                             : static_cast<bool>(file.descriptor)),
      file_(std::move(file)),
      backing_(std::move(backing)),
      bytes_(bytes),
      on_board_(kind == Kind::file),
      exact_(hal::stamps_are_exact(file_.descriptor.get())),
      known_(file_.attributes.stamp()),
      settled_(exact_ || known_.settled(hal::realtime_ns())) {
  machine_.object_made(*this);
  if (on_board_) {
    machine_.file_board().set_mapped(file_.attributes.device, file_.attributes.inode, true);
  }
}

VmObject::~VmObject() {
  if (kind_ != Kind::anonymous && !dirty_.empty()) {
    spdlog::error("{}: {} written pages are lost: they could not be given to the pager",
                  describe(), boost::icl::cardinality(dirty_));
  }
  if (on_board_) {
    const hal::FileAttributes& file = file_.attributes;
    if (shown_stored_) machine_.file_board().set_stored(file.device, file.inode, false);
    machine_.file_board().set_mapped(file.device, file.inode, false);
  }
  machine_.memory().add_objects(-counted_);
  machine_.object_gone(*this);
}

std::string VmObject::describe() const {
  if (kind_ == Kind::anonymous) return "anonymous object";
  const hal::FileAttributes& file = file_.attributes;
  return fmt::format("inode {}:{}/{} ({})", file.device >> 8, file.device & 0xff, file.inode,
                     file.path);
}

void VmObject::attach(OpenedObject opened) {
  pager_ = std::move(opened.object);
  host_memory_ = opened.host_memory;
  own_memory_ = opened.own_memory != nullptr;
  if (own_memory_) backing_ = std::move(opened.own_memory);
  if (opened.bytes != 0) {
    bytes_ = opened.bytes;
    if (backing_) backing_->resize(hal::pages_for_bytes(bytes_));
  }
}

std::uint64_t VmObject::bytes() const {
  const std::lock_guard guard(lock_);
  return bytes_;
}

void VmObject::grant(const hal::HostFile& file) {
  const std::lock_guard guard(lock_);
  if (file_.attributes.writable || !file.attributes.writable) return;
  file_.attributes.writable = true;
  file_.descriptor = file.descriptor;
  pager_->grant(file.descriptor);
}

void VmObject::add_mapping(MapEntry& entry) {
  const std::lock_guard guard(lock_);
  mappings_.push_back(entry);
  show_stores();
}

void VmObject::remove_mapping(MapEntry& entry) {
  bool last = false;
  {
    const std::lock_guard guard(lock_);
    mappings_.erase(mappings_.iterator_to(entry));
    last = mappings_.empty() && !dirty_.empty() && kind_ != Kind::anonymous;
    // When these arrive nobody wakes whoever waits for them here, and the host does not at an
    // unmapping. Whoever does looks again and finds what is there then.
    for (const auto& transfer : flight_) {
      const VirtualRange seen = entry.range_of(transfer->pages);
      if (!seen.empty()) entry.space->pmap().wake(seen);
    }
    show_stores();
  }
  if (last) {
    write_back(all_pages(), false, [self = shared_from_this()](Error error) {
      if (error != Error::none) {
        spdlog::error("{}: writing back after the last unmapping: {}", self->describe(),
                      std::strerror(to_errno(error)));
      }
    });
  }
}

void VmObject::split_mapping(MapEntry& entry, VirtualRange lower, MapEntry& upper) {
  const std::lock_guard guard(lock_);
  entry.range = lower;
  mappings_.push_back(upper);
}

void VmObject::join_mappings(MapEntry& entry, MapEntry& upper) {
  const std::lock_guard guard(lock_);
  entry.range = VirtualRange(entry.range.start(), upper.range.end());
  mappings_.erase(mappings_.iterator_to(upper));
}

void VmObject::set_sharing(MapEntry& entry, hal::Sharing sharing) {
  const std::lock_guard guard(lock_);
  entry.sharing = sharing;
  show_stores();
}

bool VmObject::is_mapped() const {
  const std::lock_guard guard(lock_);
  return !mappings_.empty();
}

bool VmObject::in_flight(PageIndex page) const {
  for (const auto& transfer : flight_) {
    if (transfer->pages.contains(page)) return true;
  }
  return false;
}

void VmObject::start_page_in(PageRange run) {
  std::unique_ptr<PageIn> transfer;
  if (pool_.empty()) {
    transfer = std::make_unique<PageIn>();
  } else {
    transfer = std::move(pool_.back());
    pool_.pop_back();
  }
  transfer->start(shared_from_this(), run);
  count(static_cast<std::int64_t>(run.count()));
  returned_ += part_of(dropped_, interval(run));
  if (!used_up_.empty()) used_up_ -= interval(run);
  flight_.push_back(std::move(transfer));
  pager_->submit(*flight_.back());
}

void VmObject::recount() {
  const std::lock_guard guard(lock_);
  if (!counts()) return;
  auto pages = static_cast<std::int64_t>(backing_->resident_pages());
  for (const auto& transfer : flight_) pages += static_cast<std::int64_t>(transfer->pages.count());
  count(pages - counted_);
}

VmObject::FaultIn VmObject::fault_in(PageIndex page, FaultWindow::Span window) {
  const std::lock_guard guard(lock_);
  const PageRange all(PageIndex(0), backing_->pages());
  if (!all.contains(page)) return FaultIn::beyond;
  if (in_flight(page)) return FaultIn::waiting;

  const std::uint64_t before = std::min<std::uint64_t>(window.before, page.value());
  PageRange rest =
      PageRange::between(page - before, page + (window.count - window.before)).intersect(all);
  // Whoever was through with these, somebody is not.
  if (!used_up_.empty()) used_up_ -= interval(rest);
  PageRange run = backing_->next_absent(rest);
  while (!run.empty() && run.end() <= page) {
    rest = PageRange::between(run.end(), rest.end());
    run = backing_->next_absent(rest);
  }
  if (!run.contains(page)) return FaultIn::resident;
  for (const auto& transfer : flight_) {
    if (!transfer->pages.overlaps(run)) continue;
    run = transfer->pages.first() > page ? PageRange::between(run.first(), transfer->pages.first())
                                         : PageRange::between(transfer->pages.end(), run.end());
  }
  start_page_in(run);
  return FaultIn::waiting;
}

void VmObject::prefetch(PageRange pages) {
  // What there is no room for would only push out what has just come.
  Memory& memory = machine_.memory();
  if (memory.limited()) pages = PageRange(pages.first(), std::min(pages.count(), memory.room() / 2));
  const std::lock_guard guard(lock_);
  prefetch_locked(pages);
}

void VmObject::bring_in(PageRange pages, Done done) {
  {
    const std::lock_guard guard(lock_);
    if (prefetch_locked(pages)) {
      waiting_.push_back({pages, std::move(done)});
      return;
    }
  }
  done(Error::none);
}

bool VmObject::copy_if_resident(PageRange pages, hal::Backing& to) {
  constexpr std::uint64_t kPiece = 256;  // pages; faults wait for so long
  for (PageIndex at = pages.first(); at < pages.end();) {
    const PageRange piece(at, std::min(kPiece, pages.end() - at));
    // With the lock, or a page that is out of date would go in between and be taken for zeroes.
    const std::lock_guard guard(lock_);
    const PageRange known = piece.intersect(PageRange(PageIndex(0), backing_->pages()));
    if (!backing_->next_absent(known).empty()) return false;
    backing_->copy_to(piece, to, PageIndex(piece.first() - pages.first()));
    at = piece.end();
  }
  return true;
}

bool VmObject::prefetch_locked(PageRange pages) {
  bool missing = false;
  PageRange rest = pages.intersect(PageRange(PageIndex(0), backing_->pages()));
  while (!rest.empty()) {
    PageRange run = backing_->next_absent(rest);
    if (run.empty()) return missing;
    missing = true;
    for (const auto& transfer : flight_) {
      if (!transfer->pages.overlaps(run)) continue;
      run = transfer->pages.contains(run.first())
                ? PageRange(transfer->pages.end(), 0)
                : PageRange::between(run.first(), transfer->pages.first());
    }
    run = PageRange(run.first(), std::min<std::uint64_t>(run.count(), FaultWindow::kMost));
    if (!run.empty()) start_page_in(run);
    rest = PageRange::between(run.end(), rest.end());
  }
  return missing;
}

void VmObject::wake(PageRange pages) {
  for_each_view(pages, [](MapEntry& mapping, VirtualRange seen) {
    mapping.space->pmap().wake(seen);
  });
}

void VmObject::page_in_done(PageIn& transfer, Error error) {
  const PageRange pages = transfer.pages;
  std::vector<Done> resident;
  std::vector<Done> fresh;
  {
    const std::lock_guard guard(lock_);
    page_in_ended(transfer, error);
    if (!outdated_in_flight()) fresh.swap(until_fresh_);
    std::erase_if(waiting_, [&](Waiting& waiting) {
      if (!waiting.pages.overlaps(pages)) return false;
      if (error == Error::none && prefetch_locked(waiting.pages)) return false;
      resident.push_back(std::move(waiting.done));
      return true;
    });
  }
  for (const Done& done : resident) done(error);
  for (const Done& done : fresh) done(Error::none);
}

bool VmObject::outdated_in_flight() const {
  return std::any_of(flight_.begin(), flight_.end(),
                     [](const auto& transfer) { return transfer->outdated; });
}

PageSet VmObject::outdated_pages() const {
  PageSet pages;
  for (const auto& transfer : flight_) {
    if (transfer->outdated) pages.add(interval(transfer->pages));
  }
  return pages;
}

void VmObject::outdate_flights() {
  for (const auto& transfer : flight_) transfer->outdated = true;
}

void VmObject::page_in_ended(PageIn& transfer, Error error) {
  const PageRange pages = transfer.pages;
  const bool outdated = transfer.outdated;
  for (auto it = flight_.begin(); it != flight_.end(); ++it) {
    if (it->get() != &transfer) continue;
    pool_.push_back(std::move(*it));
    flight_.erase(it);
    break;
  }
  machine_.counters().pageins += pages.count();
  if (error != Error::none) {
    // Part of it may have come; what did not is a bus error for whoever touches it.
    PageRange rest = pages;
    for (PageRange run = backing_->next_absent(rest); !run.empty();
         run = backing_->next_absent(rest)) {
      machine_.counters().failed_faults += 1;
      machine_.counters().pageins -= run.count();
      for_each_view(run, [](MapEntry& mapping, VirtualRange seen) {
        mapping.space->pmap().fail(seen);
      });
      rest = PageRange::between(run.end(), rest.end());
    }
  }
  // Whoever waits asks again.
  if (outdated) drop_clean(pages);
  wake(pages);
}

void VmObject::collect_written() {
  const std::lock_guard guard(lock_);
  collect_written(all_pages(), true);
}

void VmObject::collect_written(PageRange pages, bool even_no_sync) {
  for_each_view(pages, [&](MapEntry& mapping, VirtualRange seen) {
    if (!mapping.tracked() || (mapping.no_sync && !even_no_sync)) return;
    const bool told = mapping.space->pmap().collect_written(seen, [&](VirtualRange written) {
      dirty_.add(interval(mapping.pages_of(written)));
    });
    if (told) return;
    resident(mapping.pages_of(seen), [&](PageRange run) { dirty_.add(interval(run)); });
  });
}

void VmObject::presume_written(PageRange pages) {
  const std::lock_guard guard(lock_);
  resident(pages, [&](PageRange run) { dirty_.add(interval(run)); });
}

void VmObject::write_back(PageRange pages, bool durable, Done done) {
  // Memory without a file has no other home that somebody would look into.
  if (kind_ != Kind::anonymous) return launder(pages, durable, std::move(done));
  if (done) done(Error::none);
}

void VmObject::launder(PageRange pages, bool durable, Done done) {
  std::shared_ptr<WriteBack> write_back;
  if (pager_ != nullptr) {
    const std::lock_guard guard(lock_);
    if (kept_back(pages)) {
      put_off_.push_back({pages, durable, std::move(done)});
      return;
    }
    const PageRange inside(PageIndex(0), hal::pages_for_bytes(bytes_));
    const PageSet taken = part_of(dirty_, interval(pages.intersect(inside)));
    // In pieces: what a pager has taken of a large run counts before it has taken all.
    constexpr std::uint64_t kMostAtOnce = 1024;
    std::vector<PageRange> runs;
    for (const auto& part : taken) {
      for (PageRange rest = page_range(part); !rest.empty();) {
        const PageRange piece(rest.first(), std::min(rest.count(), kMostAtOnce));
        runs.push_back(piece);
        rest = PageRange::between(piece.end(), rest.end());
      }
    }
    dirty_.subtract(interval(pages));
    if (!runs.empty() || durable) {
      ++writing_;
      write_back = std::make_shared<WriteBack>(shared_from_this(), durable, std::move(done));
      write_back->submit(runs, is_going_out(pages));
    } else if (writing_ != 0 && done) {
      // Nothing new, but what others collected is still on its way. A pager takes one object's
      // pages in order, so only who has none of its own to wait for waits here.
      until_written_.push_back(std::move(done));
      return;
    }
    for (PageRange run : runs) going_out_.add({interval(run), 1U});
  }
  if (write_back) {
    write_back->submitted();
  } else if (done) {
    done(Error::none);
  }
}

PageRange VmObject::all_pages() const {
  return PageRange(PageIndex(0), backing_ ? backing_->pages() : 0);
}

void VmObject::resident(PageRange pages, const std::function<void(PageRange)>& sink) const {
  if (!backing_) return;
  PageRange rest = pages.intersect(all_pages());
  for (PageRange run = backing_->next_resident(rest); !run.empty();
       run = backing_->next_resident(rest)) {
    sink(run);
    rest = PageRange::between(run.end(), rest.end());
  }
}

bool VmObject::is_written(PageIndex page) const {
  const std::lock_guard guard(lock_);
  return boost::icl::contains(dirty_, page.value());
}

}  // namespace vm
