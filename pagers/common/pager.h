// What a pager is made of. A new pager is one class derived from Pager, one derived from
// PagedStore, and a main() that calls run_pager() (pager_main.h).
//
// One page-in, step by step. The server's pageIn call arrives on the event loop of this process. It
// waits for requests that came before it and concern the same pages, and for no others
// (request_order.h). page_in_at_once() runs on the event loop itself (waking another thread would
// cost more than most page-ins do), fills the memory, and the answer goes out. What has to wait for
// a device goes to a worker thread, page_in(), unless nobody else waits (patience.h); page_out() and
// sync() always run on one, so that a slow disk holds up no page-in.
//
// So what a store has is to be guarded: while a page_out() or a sync() runs, page-ins and discards
// of other pages do, too, and where the store wants it other page-outs. resize() and grant() have
// the store to themselves. What several objects share may be used by all of them at any time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <kj/main.h>

#include "hal/address.h"
#include "hal/host_file.h"
#include "pagers/common/object_memory.h"
#include "protocol/pager.capnp.h"

namespace pager {

/// No two servers have the same, nor one that is started anew.
using ServerId = std::array<std::uint64_t, 2>;

/// What the server says about an object.
struct ObjectInfo {
  std::uint64_t device = 0;  ///< st_dev; 0 for anonymous objects
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
  std::uint64_t raw_device = 0;  ///< st_rdev
  bool writable = false;         ///< whether the content may be written; see Attributes in pager.capnp
  std::string path;              ///< for messages only
  ServerId server{};
  std::uint64_t object = 0;  ///< of this server's, never given to another one
};

/// The content of one object. Every function may throw Failure.
class PagedStore {
 public:
  virtual ~PagedStore() = default;
  /// Fills these pages, none of which is resident and all of which are inside the memory's size.
  virtual void page_in(hal::PageRange pages, ObjectMemory& memory) = 0;
  /// The same, on the event loop. False when nothing was filled, because that would have to wait:
  /// then page_in() is called on another thread.
  virtual bool page_in_at_once(hal::PageRange pages, ObjectMemory& memory) {
    page_in(pages, memory);
    return true;
  }
  /// Whether page_in() waits for a disk at most, and not for a program that may itself be waiting for
  /// this pager: then a short one may run on the event loop, too.
  virtual bool waits_for_disk_only() const { return false; }
  /// Whether page-outs of different pages may run at the same time. The stamps that a file's come
  /// back with tell its own change from those of others only where nobody else writes in between.
  virtual bool page_outs_together() const { return false; }
  /// Writes these pages to the content, none beyond its size.
  virtual void page_out(hal::PageRange pages, ObjectMemory& memory) = 0;
  /// How the file is now, where the content is one.
  virtual std::optional<hal::FileStamp> stamp() const { return {}; }
  /// Makes what was written durable.
  virtual void sync() {}
  /// The content has this size from now on.
  virtual void resize(std::uint64_t /*bytes*/) {}
  /// What is kept of these pages may be forgotten: they are zero from now on.
  virtual void discard(hal::PageRange /*pages*/) {}
  /// Nobody needs the content any more. Only of a pager that keeps.
  virtual void forget() {}
  /// Up to `most` runs of pages from `first` on that the content has, in order. Only of a pager
  /// that keeps.
  virtual std::vector<hal::PageRange> kept(hal::PageIndex /*first*/, std::size_t /*most*/) const {
    return {};
  }
  /// One more descriptor of the content, which may be written from now on.
  virtual void grant(hal::SharedDescriptor /*content*/) {}
};

struct OpenedStore {
  enum class Layout {
    paged,  ///< in the memory that the server passed
    own,    ///< in `own_memory`
    host    ///< in the host's device
  };
  std::unique_ptr<PagedStore> store;
  Layout layout = Layout::paged;
  hal::SharedDescriptor own_memory;  ///< whole pages, all of them resident
  bool kept = false;                 ///< the content is what was written to this object before
  std::uint64_t bytes = 0;           ///< size of a device; 0 to leave it as the server has it
};

struct Claim {
  std::uint64_t device;  ///< st_dev
  std::uint64_t inode;   ///< st_ino
  std::string name;
};

struct FramebufferInfo {
  std::uint32_t width = 0;  ///< pixels
  std::uint32_t height = 0;
  std::uint32_t stride = 0;  ///< bytes
  hal::SharedDescriptor memory;
};

class Pager {
 public:
  virtual ~Pager() = default;
  virtual protocol::Kind kind() const = 0;

  /// Adds the pager's own options to the ones that all pagers have.
  virtual void add_options(kj::MainBuilder& /*builder*/) {}
  /// Once, after the options were read and before the server is spoken to. `server` is the program
  /// socket's path. Throws cli::UsageError for what cannot be used.
  virtual void prepare(const std::string& /*server*/) {}
  /// The files that are this pager's devices.
  virtual std::vector<Claim> claims() const { return {}; }

  /// Whether what was written outlives this process.
  virtual bool keeps() const { return false; }
  /// All objects that there are have been opened. Throws Failure.
  virtual void settled() {}

  /// Takes charge of an object. `content` is what the server knows the file by (empty for
  /// anonymous objects). Throws Failure.
  virtual OpenedStore open(const ObjectInfo& info, const hal::SharedDescriptor& content) = 0;
  virtual std::optional<FramebufferInfo> framebuffer(const std::string& /*name*/) { return {}; }
};

}  // namespace pager
