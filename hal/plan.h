// Plan: page-table work that a call asks for, in order.
//
// The VM core decides; the pmap carries out. Work on a program's address space that the core can
// have done right away (enter a page, wake a fault) is a function of Pmap. Work that changes the
// shape of the address space is written down as Steps first: on Linux only the program itself can
// do it, so the Plan travels in the reply to the call; hal/sim carries it out on the spot.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>

#include <boost/container/small_vector.hpp>

#include "hal/address.h"
#include "hal/backing.h"
#include "hal/protection.h"

namespace hal {

/// How the pages of a Backing are shown in a program.
enum class Sharing {
  copy_on_write,     ///< stores stay with the program
  shared_read_only,  ///< the object's pages; never written here
  shared,            ///< stores go to the object; every page counts as written
  shared_tracked,    ///< stores go to the object, and collect_written() tells which
};

/// What a forked child gets of a range.
enum class Inherit : std::uint8_t { share, copy, none, zero };

struct Step {
  enum class Kind : std::uint8_t {
    claim,        ///< private memory with `protection` (`enable`: more than there is may be
                  ///< mapped); fails if something is there
    replace,      ///< the same, whatever is there
    /// Show `backing` from `page` on, with `protection`: none, unless missing pages that nobody is
    /// told of before the step is done are zero pages indeed. With `enable` it fails if something is
    /// there.
    map_backing,
    map_device,   ///< show the host device behind the program's own descriptor `descriptor`
    track,        ///< from now on tell which pages are written (Sharing::shared_tracked)
    protect,
    give_back,    ///< unmap the range
    /// Private pages of the range go to `target`, in one step; whoever touches the range from then on
    /// finds pages missing. `target` is managed then, and readable.
    take_away,
    copy_out,     ///< write the range's content into `backing` from `page` on
    manage,       ///< have missing pages of the range told, where that may have been lost
    unmanage,     ///< leave missing pages of the range to the host
    move,         ///< move pages and mappings to `target`, same length; inaccessible until
                  ///< `protect`. What was at `target` goes; the old place is unmapped.
    discard,      ///< drop private pages; the next touch finds fresh ones
    lazy_free,    ///< the same, but only when memory runs short
    deactivate,   ///< keep the data, but take these pages first when memory runs short
    populate,     ///< bring in every page; with `enable` as if stored to
    lock,         ///< with `enable` only as pages are touched
    unlock,
    inherit,      ///< what a forked child gets
    dump,         ///< whether core dumps hold it (`enable`)
    host_call,    ///< the call itself, by the host, on this range
  };

  Kind kind = Kind::protect;
  VirtualRange range;
  Protection protection;
  Sharing sharing = Sharing::copy_on_write;
  Inherit inheritance = Inherit::copy;
  bool enable = false;
  bool may_fail = false;  ///< the plan goes on without it
  PageIndex page;
  VirtualAddress target;
  int descriptor = -1;
  std::shared_ptr<Backing> backing;

  static Step of(Kind kind, VirtualRange range) {
    Step step;
    step.kind = kind;
    step.range = range;
    return step;
  }
};

class Plan {
 public:
  using Steps = boost::container::small_vector<Step, 4>;

  Step& add(Step::Kind kind, VirtualRange range) {
    steps_.push_back(Step::of(kind, range));
    return steps_.back();
  }
  void protect(VirtualRange range, Protection protection) {
    add(Step::Kind::protect, range).protection = protection;
  }
  /// Takes out what unmaps nothing but parts of the range: it is going to be replaced in one step.
  void keep_mapped(VirtualRange range) {
    const auto kept = std::remove_if(steps_.begin(), steps_.end(), [&](const Step& step) {
      return step.kind == Step::Kind::give_back && range.contains(step.range);
    });
    steps_.erase(kept, steps_.end());
  }
  /// Takes out what is behind the first `count` steps.
  Plan split_off(std::size_t count) {
    Plan rest;
    if (count >= steps_.size()) return rest;
    const auto first = steps_.begin() + static_cast<std::ptrdiff_t>(count);
    rest.steps_.assign(std::make_move_iterator(first), std::make_move_iterator(steps_.end()));
    steps_.erase(first, steps_.end());
    return rest;
  }
  const Steps& steps() const { return steps_; }
  bool empty() const { return steps_.empty(); }
  void clear() { steps_.clear(); }

 private:
  Steps steps_;
};

}  // namespace hal
