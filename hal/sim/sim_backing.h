// SimBacking: an object's resident pages as frames in plain memory, for tests.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "hal/backing.h"
#include "hal/sim/sim_memory.h"

namespace hal {

class SimPmap;

class SimBacking final : public Backing {
 public:
  SimBacking(std::shared_ptr<SimMemory> memory, std::string name, std::uint64_t pages)
      : memory_(std::move(memory)), name_(std::move(name)), pages_(pages) {}

  const std::string& name() const { return name_; }

  void resize(std::uint64_t pages) override;
  std::uint64_t pages() const override;
  PageRange next_absent(PageRange within) const override;
  PageRange next_resident(PageRange within) const override;
  std::uint64_t resident_pages() const override;
  void discard(PageRange pages) override;
  void zero_fill(PageRange pages) override;
  void read(PageRange pages, std::byte* into) const override;
  void take(PageRange pages, std::byte* into) override;
  void put(std::uint64_t offset, std::span<const std::byte> bytes) override;
  void copy_to(PageRange pages, Backing& to, PageIndex at) const override;

  /// What a pager does: an absent page appears with this content (at most a page; the rest is
  /// zero), in one step. False when the page is resident already or beyond the end: nothing is
  /// done then.
  bool write(PageIndex page, std::span<const std::byte> content);
  /// Copies a resident page into `content` (at most a page); false when it is absent.
  bool read(PageIndex page, std::span<std::byte> content) const;

 private:
  friend class SimPmap;

  // All of these need the memory's lock.
  void copy_out(PageRange pages, std::byte* into) const;
  SimFramePointer frame(PageIndex page) const;
  void add_viewer(SimPmap& pmap) { ++viewers_[&pmap]; }
  void remove_viewer(SimPmap& pmap);

  const std::shared_ptr<SimMemory> memory_;
  const std::string name_;
  std::uint64_t pages_;                            // memory_->lock()
  std::map<std::uint64_t, SimFramePointer> frames_;  // memory_->lock(); resident ones by number
  std::map<SimPmap*, std::size_t> viewers_;        // memory_->lock(); with how many regions
};

class SimBackingFactory final : public BackingFactory {
 public:
  explicit SimBackingFactory(std::shared_ptr<SimMemory> memory) : memory_(std::move(memory)) {}

  std::shared_ptr<Backing> create(const std::string& name, std::uint64_t pages) override;
  /// The next create() throws std::system_error with this errno.
  void fail_next(int error) { fail_next_ = error; }

 private:
  const std::shared_ptr<SimMemory> memory_;
  std::atomic<int> fail_next_{0};
};

}  // namespace hal
