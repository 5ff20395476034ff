// Backing: where the resident pages of one object are kept.
//
// An object that has a pager or several sharers keeps its pages in one Backing. On Linux that is a
// memfd (hal/linux/memfd_backing.h): the pager fills it, the programs map it. In tests it is a set
// of frames in plain memory (hal/sim). The Backing itself is the truth about which pages are
// resident; the VM core keeps no second copy of that fact, so the two can never disagree.
//
// A page appears in one step: whoever fills it must make it visible with its final content, never
// zeroed first and filled later (see docs/architecture.md, "Fill a page in one step").
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "hal/address.h"
#include "hal/host_file.h"

namespace hal {

class Backing {
 public:
  virtual ~Backing() = default;
  Backing() = default;
  Backing(const Backing&) = delete;
  Backing& operator=(const Backing&) = delete;

  /// Sets the size in pages. Pages past the new size are dropped, also from every program that
  /// maps them; touching them then is a bus error. Throws std::system_error.
  virtual void resize(std::uint64_t pages) = 0;
  virtual std::uint64_t pages() const = 0;

  /// The first run of pages inside `within` that are not resident; empty when all are.
  virtual PageRange next_absent(PageRange within) const = 0;
  /// The first run of pages inside `within` that are resident; empty when none is.
  virtual PageRange next_resident(PageRange within) const = 0;
  /// How many pages are resident in all.
  virtual std::uint64_t resident_pages() const = 0;

  /// Drops the pages, from every page table too.
  virtual void discard(PageRange pages) = 0;
  /// Makes absent pages of the range resident and zero; resident ones stay as they are.
  virtual void zero_fill(PageRange pages) = 0;

  /// Copies `pages`, all of them resident, into memory of `pages.bytes()` bytes.
  virtual void read(PageRange pages, std::byte* into) const = 0;
  /// Drops the resident `pages` from everywhere and hands over what they held to the last: a store
  /// that a program made is in `into`, or it faults.
  virtual void take(PageRange pages, std::byte* into) = 0;
  /// Puts bytes there, from the byte `offset` on; what the programs store elsewhere in the page at
  /// the same time stays. Throws std::system_error, as do read() and take().
  virtual void put(std::uint64_t offset, std::span<const std::byte> bytes) = 0;

  /// Copies what is resident of `pages` into `to`, from its page `at` on, where nothing is resident.
  /// Both are of the same kind of hardware. Throws std::system_error.
  virtual void copy_to(PageRange pages, Backing& to, PageIndex at) const = 0;

  /// The host descriptor behind it, for this process alone; -1 where there is none.
  virtual int descriptor() const { return -1; }
  /// A new description of the same file for another process, a program or a pager; writable if that
  /// is asked for and this process may; none where there is no file. Throws std::system_error.
  virtual SharedDescriptor reopen(bool writable) const {
    static_cast<void>(writable);
    return {};
  }
};

/// Makes the Backings of one kind of hardware.
class BackingFactory {
 public:
  virtual ~BackingFactory() = default;
  /// An empty Backing of `pages` pages. `name` is for people (it shows in /proc on Linux).
  /// Throws std::system_error.
  virtual std::shared_ptr<Backing> create(const std::string& name, std::uint64_t pages) = 0;
};

}  // namespace hal
