// Compressor: makes single pages smaller. For one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "hal/address.h"

namespace pager {

enum class Compression { none, zstd, lz4 };

/// "zstd" or "lz4"; nothing for anything else.
std::optional<Compression> compression_of(std::string_view name);

class Compressor {
 public:
  /// A page that does not come out at this many bytes or less is not worth it.
  static constexpr std::uint64_t kMostBytes = hal::kPageSize * 3 / 4;

  /// Throws std::bad_alloc.
  explicit Compressor(Compression kind);
  ~Compressor();
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  /// Puts at most kMostBytes at `to` and gives how many; 0 when the page stays as it is.
  std::uint64_t compress(const char* page, char* to);
  /// Whether `bytes` bytes at `from` are a whole page, which it puts at `page`.
  bool decompress(const char* from, std::uint64_t bytes, char* page);

 private:
  struct Contexts;

  const Compression kind_;
  std::unique_ptr<Contexts> contexts_;
};

}  // namespace pager
