// PageSet: which pages of an object, by number.
#pragma once

#include <cstdint>

#include <boost/icl/interval_set.hpp>

#include "hal/address.h"

namespace vm {

/// Page numbers of one object.
using PageSet = boost::icl::interval_set<std::uint64_t>;

inline PageSet::interval_type interval(hal::PageRange pages) {
  return PageSet::interval_type::right_open(pages.first().value(), pages.end().value());
}

/// What of `within` is in the set. (The set's own operator& copies all of it first.)
inline PageSet part_of(const PageSet& set, const PageSet::interval_type& within) {
  PageSet result;
  if (boost::icl::is_empty(within)) return result;
  const auto [first, last] = set.equal_range(within);
  for (auto it = first; it != last; ++it) result.add(*it & within);
  return result;
}

inline hal::PageRange page_range(const PageSet::interval_type& interval) {
  return hal::PageRange::between(hal::PageIndex(boost::icl::first(interval)),
                                 hal::PageIndex(boost::icl::last(interval) + 1));
}

}  // namespace vm
