// Pages of an address space as ranges, and as numbers in a PageSet.
#pragma once

#include "hal/address.h"
#include "vmserver/vm/page_set.h"

namespace vm {

inline hal::VirtualRange page_at(hal::VirtualAddress page) { return {page, page + hal::kPageSize}; }

/// Their numbers in the address space.
inline PageSet::interval_type numbers(hal::VirtualRange range) {
  return PageSet::interval_type::right_open(range.start().value() >> hal::kPageShift,
                                            range.end().value() >> hal::kPageShift);
}

/// The other way round.
inline hal::VirtualRange range_of(const PageSet::interval_type& numbers) {
  const hal::PageRange pages = page_range(numbers);
  return {hal::VirtualAddress(pages.byte_offset()), hal::VirtualAddress(pages.end().byte_offset())};
}

}  // namespace vm
