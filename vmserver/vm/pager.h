// Pagers as the VM core sees them.
//
//   PagerDirectory  finds a pager of a kind and has it take charge of an object
//   PagedObject     one object at its pager; the core submits Transfers to it
//   Transfer        one run of pages on its way in or out
//
// One page-in, step by step. A fault finds pages absent in the object's Backing. VmObject takes a
// Transfer from its pool, marks the run as in flight, releases its lock and submits the Transfer.
// submit() only queues it and returns. The pager fills the Backing, and then whoever carries the
// answer calls Transfer::done() from its own thread. VmObject unmarks the run and wakes every
// program that maps it. If the pager dies in between, the adapter keeps the Transfer and submits
// what is still absent to the next pager of the kind, or ends it with an error.
//
// The core never waits in submit() and may hold its locks when it calls it, so submit() only queues
// and never calls back from inside.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/intrusive/list.hpp>

#include "hal/address.h"
#include "hal/backing.h"
#include "hal/host_file.h"
#include "vmserver/vm/result.h"

namespace vm {

enum class PagerKind { anonymous, file, device };

class Transfer : public boost::intrusive::list_base_hook<> {
 public:
  enum class Kind {
    page_in,   ///< fill `pages`, all of them absent when the Transfer was made
    page_out,  ///< write `pages` to the content
    sync       ///< make what was written durable; `pages` is empty
  };

  virtual ~Transfer() = default;

  /// The end of the Transfer, called exactly once, on any thread, with no core lock held. After it
  /// the Transfer must not be touched. `error` is Error::none on success.
  virtual void done(Error error) = 0;

  Kind kind = Kind::page_in;
  hal::PageRange pages;
  /// Of a page-out: how the file was before and after it, where the pager says so.
  std::optional<std::pair<hal::FileStamp, hal::FileStamp>> stamps;
};

/// One object at its pager. Destroying it gives the object up; the core does so only when no
/// Transfer is in flight. All functions may be called from any thread and return at once.
class PagedObject {
 public:
  virtual ~PagedObject() = default;
  /// Queues the Transfer. Transfers of one object are carried out in the order of submission as far
  /// as they overlap.
  virtual void submit(Transfer& transfer) = 0;
  /// The content has this size from now on.
  virtual void resize(std::uint64_t bytes) = 0;
  /// The content may be written from now on (FileAttributes::writable), after an open without that.
  virtual void grant(const hal::SharedDescriptor& content) = 0;
  /// Nobody needs what the pager has of these pages any more; absent ones are zero from now on. In the
  /// order of submission, as Transfers are.
  virtual void discard(std::vector<hal::PageRange> pages) = 0;
  /// What to call when all that was written out is lost, with a pager that died: once each time,
  /// on any thread. To be said before anything is written out.
  virtual void on_lost(std::function<void()> lost) = 0;
};

/// What a pager said about an object it took.
struct OpenedObject {
  std::unique_ptr<PagedObject> object;
  /// Set for a device whose memory is the pager's own: use this instead of the Backing passed in.
  std::shared_ptr<hal::Backing> own_memory;
  /// The device's memory is the host's: the program maps its own descriptor.
  bool host_memory = false;
  /// The size where the pager knows it better (block devices); otherwise 0.
  std::uint64_t bytes = 0;
};

using OpenDone = std::function<void(Result<OpenedObject>)>;

class PagerDirectory {
 public:
  virtual ~PagerDirectory() = default;

  /// Has a pager of `kind` take charge of an object. Calls `done` once, at once or later, on any
  /// thread, with no core lock held by the directory. For files and anonymous memory it is called
  /// before open() returns, without a round trip: errors of such an open show in the Transfers.
  /// Error::no_device when no pager of the kind is registered (or ever was; a pager that died is
  /// waited for). The directory keeps what it needs of `file` and `backing` to open the object
  /// again at the next pager.
  virtual void open(PagerKind kind, const hal::HostFile& file, std::uint64_t bytes,
                    std::shared_ptr<hal::Backing> backing, OpenDone done) = 0;

  /// Whether a device pager claims this file as one of its devices (a framebuffer's path is a
  /// regular file for the host).
  virtual bool claims(const hal::FileAttributes& file) const = 0;

  /// For who has nothing else to do: ends Transfers whose pagers have answered by now, on this thread,
  /// which is quicker than to have another one woken for that. No core lock may be held.
  enum class Answers { none_awaited, awaited, taken };
  virtual Answers take_answers() { return Answers::none_awaited; }
  /// Whoever has taken answers does not come back for more soon: another one is to be woken again.
  virtual void leave_answers() {}
};

}  // namespace vm
