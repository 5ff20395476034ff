// SwappedPages: which pages of an address space are in swap, and in which slots.
//
// Runs of neighbouring pages in neighbouring slots, by address. A plain data structure: it holds no
// slot (SwapSpace counts who does) and needs the lock of the space that owns it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "hal/address.h"

namespace vm {

class SwappedPages {
 public:
  struct Run {
    hal::VirtualRange pages;
    hal::PageRange slots;
  };

  bool empty() const { return runs_.empty(); }
  std::uint64_t count() const { return count_; }

  /// The run from `page` on, up to `end` at most; nothing when that page is not in swap.
  std::optional<Run> run_at(hal::VirtualAddress page, hal::VirtualAddress end) const;
  /// The lowest run, or part of one, in `within`.
  std::optional<Run> first_in(hal::VirtualRange within) const;
  /// Calls `visit` with what is in `within`, by address.
  void for_each_in(hal::VirtualRange within, const std::function<void(const Run&)>& visit) const;

  /// None of `pages` may be known; as many as there are slots.
  void insert(hal::VirtualAddress first, hal::PageRange slots);
  /// Forgets the range, and tells `sink` its slots.
  void erase(hal::VirtualRange range, const std::function<void(hal::PageRange)>& sink);
  /// What is in `range` is at `target` from now on, where nothing may be known.
  void move(hal::VirtualRange range, hal::VirtualAddress target);

 private:
  // By the run's first page; each knows how many it has and its first slot.
  struct Value {
    std::uint64_t count;
    hal::PageIndex slot;
  };
  using Runs = std::map<hal::VirtualAddress, Value>;

  static Run run_of(Runs::const_iterator it);
  Runs::const_iterator first_at(hal::VirtualAddress address) const;

  Runs runs_;
  std::uint64_t count_ = 0;
};

}  // namespace vm
