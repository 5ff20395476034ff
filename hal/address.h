// Addresses, pages and ranges: the value types that every layer above computes with.
//
//   VirtualAddress  a byte address in some program's address space
//   VirtualRange    [start, end) in bytes
//   PageIndex       the number of a page within an object (or within a Backing)
//   PageRange       `count` pages from `first` on
//
// All rounding to pages, all wrap-around checks and all conversions between bytes and pages live
// here, so that no call site masks bits by hand.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <optional>

namespace hal {

inline constexpr unsigned kPageShift = 12;
inline constexpr std::uint64_t kPageSize = std::uint64_t{1} << kPageShift;

constexpr std::uint64_t bytes_from_pages(std::uint64_t pages) { return pages << kPageShift; }
/// Whole pages needed for `bytes`; correct up to the largest value.
constexpr std::uint64_t pages_for_bytes(std::uint64_t bytes) {
  return (bytes >> kPageShift) + ((bytes & (kPageSize - 1)) != 0 ? 1 : 0);
}

class VirtualAddress {
 public:
  constexpr VirtualAddress() = default;
  constexpr explicit VirtualAddress(std::uint64_t value) : value_(value) {}

  constexpr std::uint64_t value() const { return value_; }
  constexpr std::uint64_t page_offset() const { return value_ & (kPageSize - 1); }
  constexpr bool is_page_aligned() const { return page_offset() == 0; }
  constexpr VirtualAddress page_floor() const { return VirtualAddress(value_ - page_offset()); }
  /// Rounded up to a page; wraps to 0 above the last page, as the seed's round_page() does.
  constexpr VirtualAddress page_ceil() const {
    return VirtualAddress((value_ + kPageSize - 1) & ~(kPageSize - 1));
  }
  constexpr VirtualAddress operator+(std::uint64_t bytes) const {
    return VirtualAddress(value_ + bytes);
  }
  constexpr VirtualAddress operator-(std::uint64_t bytes) const {
    return VirtualAddress(value_ - bytes);
  }
  constexpr std::uint64_t operator-(VirtualAddress other) const { return value_ - other.value_; }
  constexpr auto operator<=>(const VirtualAddress&) const = default;

 private:
  std::uint64_t value_ = 0;
};

class VirtualRange {
 public:
  constexpr VirtualRange() = default;
  constexpr VirtualRange(VirtualAddress start, VirtualAddress end) : start_(start), end_(end) {}

  /// The `bytes` bytes from `start` on; nothing when that wraps around the address space.
  static constexpr std::optional<VirtualRange> of_length(VirtualAddress start,
                                                         std::uint64_t bytes) {
    if (start.value() + bytes < start.value()) return std::nullopt;
    return VirtualRange(start, start + bytes);
  }
  /// Whole pages that cover `bytes` bytes from `start`: start rounded down, end rounded up, the way
  /// the seed's munmap(), mprotect(), msync() and minherit() do. Nothing when it wraps.
  static constexpr std::optional<VirtualRange> covering(VirtualAddress start,
                                                        std::uint64_t bytes) {
    const std::uint64_t offset = start.page_offset();
    const std::uint64_t size = (bytes + offset + kPageSize - 1) & ~(kPageSize - 1);
    if (bytes + offset < bytes || (size == 0 && bytes != 0)) return std::nullopt;
    return of_length(start.page_floor(), size);
  }

  constexpr VirtualAddress start() const { return start_; }
  constexpr VirtualAddress end() const { return end_; }
  constexpr std::uint64_t bytes() const { return end_ - start_; }
  constexpr std::uint64_t pages() const { return bytes() >> kPageShift; }
  constexpr bool empty() const { return end_ <= start_; }
  constexpr bool contains(VirtualAddress address) const {
    return start_ <= address && address < end_;
  }
  constexpr bool contains(VirtualRange other) const {
    return start_ <= other.start_ && other.end_ <= end_;
  }
  constexpr bool overlaps(VirtualRange other) const {
    return start_ < other.end_ && other.start_ < end_;
  }
  /// What both cover; an empty range when they are apart.
  constexpr VirtualRange intersect(VirtualRange other) const {
    const VirtualAddress start = std::max(start_, other.start_);
    return VirtualRange(start, std::max(start, std::min(end_, other.end_)));
  }
  /// The part of it in front of `other`; all of it when they are apart.
  constexpr VirtualRange before(VirtualRange other) const {
    if (!overlaps(other)) return *this;
    return VirtualRange(start_, std::max(start_, other.start_));
  }
  constexpr bool operator==(const VirtualRange&) const = default;

 private:
  VirtualAddress start_;
  VirtualAddress end_;
};

class PageIndex {
 public:
  constexpr PageIndex() = default;
  constexpr explicit PageIndex(std::uint64_t value) : value_(value) {}

  constexpr std::uint64_t value() const { return value_; }
  constexpr std::uint64_t byte_offset() const { return value_ << kPageShift; }
  constexpr PageIndex operator+(std::uint64_t pages) const { return PageIndex(value_ + pages); }
  constexpr PageIndex operator-(std::uint64_t pages) const { return PageIndex(value_ - pages); }
  constexpr std::uint64_t operator-(PageIndex other) const { return value_ - other.value_; }
  constexpr auto operator<=>(const PageIndex&) const = default;

 private:
  std::uint64_t value_ = 0;
};

class PageRange {
 public:
  constexpr PageRange() = default;
  constexpr PageRange(PageIndex first, std::uint64_t count) : first_(first), count_(count) {}
  static constexpr PageRange between(PageIndex first, PageIndex end) {
    return PageRange(first, end > first ? end - first : 0);
  }

  constexpr PageIndex first() const { return first_; }
  constexpr PageIndex end() const { return first_ + count_; }
  constexpr std::uint64_t count() const { return count_; }
  constexpr std::uint64_t byte_offset() const { return first_.byte_offset(); }
  constexpr std::uint64_t bytes() const { return bytes_from_pages(count_); }
  constexpr bool empty() const { return count_ == 0; }
  constexpr bool contains(PageIndex page) const { return first_ <= page && page < end(); }
  constexpr bool overlaps(PageRange other) const {
    return first_ < other.end() && other.first_ < end();
  }
  constexpr PageRange intersect(PageRange other) const {
    return between(std::max(first_, other.first_), std::min(end(), other.end()));
  }
  constexpr bool operator==(const PageRange&) const = default;

 private:
  PageIndex first_;
  std::uint64_t count_ = 0;
};

}  // namespace hal
