// How long it takes to read pages, one byte of each.
#pragma once

#include <cstddef>
#include <numeric>
#include <vector>

#include "bench/benchmark.h"
#include "bench/mapping.h"

namespace bench {

inline std::vector<std::size_t> all_pages(std::size_t count) {
  std::vector<std::size_t> pages(count);
  std::iota(pages.begin(), pages.end(), std::size_t{0});
  return pages;
}

/// Microseconds a page.
template <class Memory>
double read(const Memory& memory, const std::vector<std::size_t>& order) {
  return time_of(1, [&] {
           for (const std::size_t page : order) memory.read(page);
         }) /
         static_cast<double>(order.size());
}

inline double read_in_order(const Mapping& memory) { return read(memory, all_pages(memory.pages())); }

}  // namespace bench
