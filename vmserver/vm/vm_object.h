// VmObject: what a range of an address space is backed by, when that is more than one program's
// private memory: a file, memory shared between programs, a device.
//
//   Backing      where the resident pages are; the truth about which are (hal/backing.h)
//   PagedObject  the object at its pager
//   mappings     every MapEntry that shows pages of it
//   dirty set    pages known to be written and not yet given to the pager
//   changes      programs that are changing the file otherwise than through mappings
//
// A fault, step by step. VmSpace::fault() finds the entry and calls fault_in(). If the page is
// resident, the program is woken. If it is on its way in, there is nothing to do: its arrival wakes
// everybody who maps it. Otherwise the run of absent pages around it becomes a Transfer, is marked
// as in flight and goes to the pager. Transfer::done() then unmarks the run and wakes every mapping
// of it, under the lock, so that a fault either sees the page resident or is woken later.
//
// The last mapping gone, an object's dirty pages go to the pager, and with that the object goes,
// unless somebody maps it again before: the ObjectCache finds it for as long as it lives.
//
// Locks: lock_ comes after any space's lock. No callback is called with it held.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <boost/icl/interval_map.hpp>
#include <boost/intrusive/list.hpp>

#include "hal/address.h"
#include "hal/backing.h"
#include "hal/host_file.h"
#include "vmserver/vm/fault_window.h"
#include "vmserver/vm/map_entry.h"
#include "vmserver/vm/page_set.h"
#include "vmserver/vm/pager.h"
#include "vmserver/vm/result.h"

namespace vm {

class Machine;

/// Bytes of a file, from one up to another.
struct ByteRange {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  bool empty() const { return from >= to; }
  /// The pages that they are on.
  hal::PageRange pages() const {
    if (empty()) return {};
    const hal::PageIndex first(from >> hal::kPageShift);
    return hal::PageRange::between(first, hal::PageIndex(((to - 1) >> hal::kPageShift) + 1));
  }
};

class VmObject : public std::enable_shared_from_this<VmObject> {
 public:
  enum class Kind { anonymous, file, device };
  enum class FaultIn {
    resident,  ///< the page is there
    waiting,   ///< it is on its way; every mapping is woken when it arrives
    beyond     ///< the object has no such page
  };
  using Done = std::function<void(Error)>;

  VmObject(Machine& machine, Kind kind, hal::HostFile file, std::shared_ptr<hal::Backing> backing,
           std::uint64_t bytes);
  ~VmObject();
  VmObject(const VmObject&) = delete;
  VmObject& operator=(const VmObject&) = delete;

  Kind kind() const { return kind_; }
  const hal::FileAttributes& attributes() const { return file_.attributes; }
  const hal::HostFile& file() const { return file_; }
  /// For messages: "inode 8:1/1234 (/path)" or "anonymous object".
  std::string describe() const;
  const std::shared_ptr<hal::Backing>& backing() const { return backing_; }
  /// Whether a writable shared mapping has to tell what was written: there is a content that it
  /// goes back to.
  bool tracks_stores() const { return tracks_stores_ && !own_memory_; }
  /// The memory is the host device's: programs map their own descriptor, nothing is paged.
  bool host_memory() const { return host_memory_; }

  /// The pager's side, once it took the object; called once, before the object is mapped.
  void attach(OpenedObject opened);

  std::uint64_t bytes() const;
  /// A later mapping came with a descriptor that may write.
  void grant(const hal::HostFile& file);

  // The object and its file (vm_object_file.cc). Others change the file too, whom nobody tells the
  // server of. What a program stored into a page stays until it is written back, whatever became of
  // the file; all else is read anew.

  /// Takes the size that the file has now, and drops what is resident if it changed since it was
  /// read, or may have. Calls `done` once no page is there, or on its way, that is older than this
  /// call.
  void revalidate(Done done);
  /// Whether others may be writing to the file for as long as it has the times that it has.
  bool may_be_written_to() const;
  /// revalidate(), once what others were writing before is over. Waits for that, and so stands aside
  /// (Machine::aside()).
  void revalidate_when_written(Done done);
  /// What the syncer does, from time to time: the same, as far as that can be said while pages are
  /// on their way out; and what programs stored goes to the file, if not all mappings that it was
  /// stored through ask for that not to be done.
  void sync_with_file();
  /// Drops what is resident of `pages`, so that it is read anew.
  void invalidate(hal::PageRange pages);

  // Changes of the file by programs that announce them (vm_object_changes.cc). From begin_change()
  // to its end no page of the range is given to the pager; whoever wants that waits, for a while.

  enum class Ended {
    well,
    overtaken  ///< somebody would not wait any longer: pages went out that may have hidden the change
  };
  /// Calls `granted` once no page of `pages` is on its way out.
  void begin_change(std::uint64_t number, hal::PageRange pages, Done granted);
  /// What is resident of `changed` becomes as the file is now; of everything else only the size
  /// counts. Calls `done` once no page is on its way in that is older.
  void end_change(std::uint64_t number, ByteRange changed, std::function<void(Ended)> done);
  /// Nobody will end it, and what it changed is not known.
  void abandon_change(std::uint64_t number);
  /// Gives the file what programs have stored into `pages`, and calls `done` when it has that.
  void flush(hal::PageRange pages, Done done);

  // Mappings; the caller holds the entry's space lock.
  void add_mapping(MapEntry& entry);
  void remove_mapping(MapEntry& entry);
  /// Cuts `entry` down to `lower` and adds `upper` for the rest.
  void split_mapping(MapEntry& entry, hal::VirtualRange lower, MapEntry& upper);
  /// The reverse: `entry` grows over `upper`, which is no mapping any more.
  void join_mappings(MapEntry& entry, MapEntry& upper);
  void set_sharing(MapEntry& entry, hal::Sharing sharing);
  bool is_mapped() const;

  /// Sees to it that `page` becomes resident, and with it what `window` says is around it.
  FaultIn fault_in(hal::PageIndex page, FaultWindow::Span window);
  /// Starts to bring in what is absent of `pages`; for madvise(WILLNEED).
  void prefetch(hal::PageRange pages);

  /// Calls `done` once all of `pages` that the object has are resident, or with the first error.
  void bring_in(hal::PageRange pages, Done done);
  /// Copies them to the first pages of `to`, piece by piece; false when one of them is absent.
  bool copy_if_resident(hal::PageRange pages, hal::Backing& to);

  /// Asks every program that maps it what it wrote, and remembers it.
  void collect_written();
  /// Every resident page of these counts as written: a program that could have is gone.
  void presume_written(hal::PageRange pages);
  /// Gives the dirty pages among `pages` to the pager; with `durable` also has it sync them. Calls
  /// `done` when the content has them and what others gave it before, with the first error of its
  /// own; pages that failed are dirty again.
  void write_back(hal::PageRange pages, bool durable, Done done);
  /// From the first page to the last.
  hal::PageRange all_pages() const;

  // Where memory is limited (vm_object_paging.cc).

  /// Drops up to `most` pages that the pager has as they are, those that it came across longest ago,
  /// and gives it others that it passes. A page that came back since it was last dropped is passed by
  /// once. Returns how many it dropped.
  std::uint64_t page_out(std::uint64_t most);
  /// Somebody is through with these, and is not likely to be back: they go before all others do.
  void use_up(hal::PageRange pages);
  /// Drops up to `most` of them that the pager has as they are. Returns how many.
  std::uint64_t drop_used_up(std::uint64_t most);
  /// Nothing is dropped until as many calls with false.
  void stay(bool on);
  /// Punches a hole: the pages are zero from now on. Of anonymous memory only.
  void punch(hal::PageRange pages);
  /// The pages were filled otherwise than through a mapping or by the pager.
  void filled(hal::PageRange pages);
  bool is_resident(hal::PageIndex page) const;
  /// Whether its resident pages count as memory in use: they are this server's.
  bool counts() const { return backing_ && !own_memory_ && !host_memory_; }

  /// Sets right what Memory counts of it: what is in memory, and what is on its way there.
  void recount();
  std::uint64_t resident_pages() const { return backing_ ? backing_->resident_pages() : 0; }
  /// Tells `sink` the resident pages among `pages`; for mincore.
  void resident(hal::PageRange pages, const std::function<void(hal::PageRange)>& sink) const;
  bool is_written(hal::PageIndex page) const;

 private:
  class PageIn;
  class WriteBack;
  friend class PageIn;
  friend class WriteBack;

  void page_in_done(PageIn& transfer, Error error);
  bool await_others();
  /// `writes_over`: no write that others had begun before is under way.
  void look_at_file(bool for_new_mapping, bool writes_over, Done done);

  using Mappings =
      boost::intrusive::list<MapEntry, boost::intrusive::base_hook<ObjectHook>>;

  struct Waiting {
    hal::PageRange pages;
    Done done;
  };

  struct Change {
    std::uint64_t number = 0;
    hal::PageRange pages;
    std::chrono::steady_clock::time_point since;
    bool overtaken = false;
    Done granted;  // as long as it waits for pages on their way out
  };
  struct PutOff {
    hal::PageRange pages;
    bool durable = false;
    Done done;
  };

  // All of these need lock_.
  bool in_flight(hal::PageIndex page) const;
  bool outdated_in_flight() const;
  PageSet outdated_pages() const;
  void outdate_flights();
  void collect_written(hal::PageRange pages, bool even_no_sync);
  /// A page-out has ended.
  void written_out(const Transfer& part, Error error);
  /// Has a sync cover what the pager has until now, and says how it ended.
  PageSet begin_sync();
  void sync_failed(const PageSet& pages);
  bool stores_possible() const;
  void drop_clean(hal::PageRange pages);
  void drop_unless_stored_to(hal::PageRange pages);
  void track_anew(hal::PageRange pages);
  void set_size(std::uint64_t bytes, std::span<const std::byte> tail);
  /// Whether a change that has begun keeps dirty pages of these back.
  bool kept_back(hal::PageRange pages) const;
  bool is_going_out(hal::PageRange pages) const;
  /// Takes what of `pages` is on its way out from `set`, which has nothing but those.
  void subtract_going_out(PageSet& set, hal::PageRange pages) const;
  /// Whether a change is under way that has not taken too long yet.
  bool is_changing() const;
  std::vector<Change>::iterator change_of(std::uint64_t number);
  bool read_now(std::uint64_t from, std::span<std::byte> into, ssize_t& got) const;
  /// Takes those that wait from changes_ that need not any more, to be called without lock_.
  std::vector<Done> begin_waiting();
  std::vector<PutOff> take_put_off();

  /// Calls `visit` with every mapping that shows some of `pages`, and where it does.
  template <class Visit>
  void for_each_view(hal::PageRange pages, Visit visit) {
    for (MapEntry& mapping : mappings_) {
      const hal::VirtualRange seen = mapping.range_of(pages);
      if (!seen.empty()) visit(mapping, seen);
    }
  }

  // These do not need lock_.
  /// write_back() of any kind of object.
  void launder(hal::PageRange pages, bool durable, Done done);
  void resume(std::vector<PutOff> put_off);
  void overtake_slow_changes();
  void take_change(std::uint64_t number, ByteRange changed);
  void take_from_file(ByteRange changed);
  void take_size(std::uint64_t bytes);
  void look_after_change();
  hal::SharedDescriptor descriptor() const;

  // Again under lock_.
  /// Says on the file board whether reads of the file have to wait for stores.
  void show_stores();
  void start_page_in(hal::PageRange run);
  /// What of these can be dropped as far as is known. Takes what came back off the list of such.
  PageSet idle(hal::PageRange pages);
  void count(std::int64_t pages);
  std::uint64_t drop_idle(hal::PageRange pages);
  void wake(hal::PageRange pages);
  void page_in_ended(PageIn& transfer, Error error);
  /// Starts to bring in what is absent of `pages` and not on its way. False when nothing is missing.
  bool prefetch_locked(hal::PageRange pages);

  Machine& machine_;
  const Kind kind_;
  const bool tracks_stores_;
  hal::HostFile file_;                      // attributes: immutable identity; size under lock_
  std::shared_ptr<hal::Backing> backing_;   // set before the object is mapped
  std::unique_ptr<PagedObject> pager_;      // set before the object is mapped
  bool host_memory_ = false;                // set before the object is mapped
  bool own_memory_ = false;                 // set before the object is mapped; the pager's

  mutable std::mutex lock_;
  Mappings mappings_;                       // lock_
  std::vector<std::unique_ptr<PageIn>> flight_;  // lock_; page-ins the pager has
  std::vector<std::unique_ptr<PageIn>> pool_;    // lock_; spare ones
  PageSet dirty_;                           // lock_
  PageSet unsynced_;                        // lock_; the pager has them, the disk perhaps not
  unsigned failed_syncs_ = 0;               // lock_
  unsigned failed_page_outs_ = 0;           // lock_
  std::vector<Waiting> waiting_;            // lock_; who waits for pages to be resident
  std::size_t writing_ = 0;                 // lock_; write-backs under way
  std::vector<Done> until_written_;         // lock_; who waits for all of these to end
  std::uint64_t bytes_;                     // lock_
  boost::icl::interval_map<std::uint64_t, unsigned> going_out_;  // lock_; pages of the write-backs
  std::vector<Done> until_fresh_;           // lock_; who waits for page-ins that are outdated

  std::int64_t counted_ = 0;                // lock_; pages of it that Memory counts
  hal::PageIndex hand_;                     // lock_; where page_out() goes on
  PageSet used_up_;                         // lock_
  PageSet dropped_;                         // lock_; by page_out(), since it came round
  PageSet returned_;                        // lock_; and came back
  unsigned stays_ = 0;                      // lock_

  std::vector<Change> changes_;             // lock_; begun ones, and those that wait to
  std::vector<PutOff> put_off_;             // lock_; write-backs that wait for changes to end
  bool shown_stored_ = false;               // lock_; on the file board
  const bool on_board_;

  // How the file was when the resident pages were read, and what is not sure about that.
  const bool exact_;         // every change shows in the stamp
  hal::FileStamp known_;     // lock_
  bool settled_;             // lock_; a later change shows in the stamp, and no earlier one is under way
  bool changed_ = false;     // lock_; a pager found the file changed by others
  bool doubtful_ = false;    // lock_; written by ourselves, and perhaps by others in the same moment
  unsigned sync_pause_ = 0;  // lock_; passes of the syncer to leave out, as the last ones failed
  unsigned sync_failures_ = 0;  // lock_
};

}  // namespace vm
