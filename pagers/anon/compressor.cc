#include "pagers/anon/compressor.h"

#include <lz4.h>
#include <zstd.h>

#include <new>

namespace pager {
namespace {

constexpr int kZstdLevel = 1;
constexpr int kPage = static_cast<int>(hal::kPageSize);
constexpr int kMost = static_cast<int>(Compressor::kMostBytes);

struct FreeZstd {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

}  // namespace

/// What zstd would otherwise allocate for every page.
struct Compressor::Contexts {
  std::unique_ptr<ZSTD_CCtx, FreeZstd> to{ZSTD_createCCtx()};
  std::unique_ptr<ZSTD_DCtx, FreeZstd> from{ZSTD_createDCtx()};
};

std::optional<Compression> compression_of(std::string_view name) {
  if (name == "zstd") return Compression::zstd;
  if (name == "lz4") return Compression::lz4;
  return std::nullopt;
}

Compressor::Compressor(Compression kind) : kind_(kind) {
  if (kind != Compression::zstd) return;
  contexts_ = std::make_unique<Contexts>();
  if (!contexts_->to || !contexts_->from) throw std::bad_alloc();
}

Compressor::~Compressor() = default;

std::uint64_t Compressor::compress(const char* page, char* to) {
  switch (kind_) {
    case Compression::zstd: {
      const std::size_t bytes =
          ZSTD_compressCCtx(contexts_->to.get(), to, kMostBytes, page, hal::kPageSize, kZstdLevel);
      return ZSTD_isError(bytes) ? 0 : bytes;
    }
    case Compression::lz4:
      return static_cast<std::uint64_t>(LZ4_compress_default(page, to, kPage, kMost));
    case Compression::none:
      break;
  }
  return 0;
}

bool Compressor::decompress(const char* from, std::uint64_t bytes, char* page) {
  switch (kind_) {
    case Compression::zstd:
      return ZSTD_decompressDCtx(contexts_->from.get(), page, hal::kPageSize, from, bytes) ==
             hal::kPageSize;
    case Compression::lz4:
      return LZ4_decompress_safe(from, page, static_cast<int>(bytes), kPage) == kPage;
    case Compression::none:
      break;
  }
  return false;
}

}  // namespace pager
