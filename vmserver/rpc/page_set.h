// PageSet: a set of pages, kept as runs.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "hal/address.h"

namespace server {

class PageSet {
 public:
  void add(hal::PageRange pages);
  void remove(hal::PageRange pages);
  void clear() { runs_.clear(); }
  bool empty() const { return runs_.empty(); }
  std::uint64_t count() const;

  /// The runs, by page, that lie inside `within`.
  std::vector<hal::PageRange> inside(hal::PageRange within) const;
  std::vector<hal::PageRange> all() const;
  /// What of `within` is not in the set.
  std::vector<hal::PageRange> outside(hal::PageRange within) const;

 private:
  std::map<hal::PageIndex, hal::PageIndex> runs_;  ///< first page -> page after the last
};

}  // namespace server
