#include "hal/linux/resident_pages.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <system_error>

#include "hal/linux/kernel_interface.h"

namespace hal {
namespace {

/// Counting takes time for every page that is there, so whoever goes through a large object run by
/// run is better off without.
constexpr std::uint64_t kFewPages = 1024;

/// How many of them are there; nothing where the kernel does not say (a file of another user).
std::optional<std::uint64_t> count_resident(int file, PageRange pages) {
  cachestat_range range{pages.byte_offset(), pages.bytes()};
  cachestat counted{};
  if (::syscall(__NR_cachestat, file, &range, &counted, 0) != 0) return std::nullopt;
  return counted.nr_cache + counted.nr_evicted;  // what the host swapped out is there as well
}

[[noreturn]] void fail(int error, PageRange within) {
  throw std::system_error(error, std::generic_category(),
                          "search in an object's memory, " + std::to_string(within.count()) +
                              " pages at page " + std::to_string(within.first().value()));
}

}  // namespace

PageRange first_run(int file, PageRange within, Presence wanted) {
  const PageRange none(within.end(), 0);
  if (within.empty()) return none;
  const bool resident = wanted == Presence::resident;
  const bool few = within.count() <= kFewPages;
  if (few) {
    const auto there = count_resident(file, within);
    if (there == 0) return resident ? none : within;
    if (there == within.count()) return resident ? within : none;
  }
  const off_t begin =
      ::lseek(file, static_cast<off_t>(within.byte_offset()), resident ? SEEK_DATA : SEEK_HOLE);
  if (begin < 0) {
    if (errno == ENXIO) return none;
    fail(errno, within);
  }
  const PageIndex first(static_cast<std::uint64_t>(begin) >> kPageShift);
  if (first >= within.end()) return none;
  const PageRange rest = PageRange::between(first, within.end());
  if (few && resident && count_resident(file, rest) == rest.count()) return rest;
  const off_t end = ::lseek(file, begin, resident ? SEEK_HOLE : SEEK_DATA);
  if (end < 0) {
    if (errno == ENXIO) return rest;
    fail(errno, within);
  }
  const PageIndex last(pages_for_bytes(static_cast<std::uint64_t>(end)));
  return PageRange::between(first, std::min(last, within.end()));
}

}  // namespace hal
