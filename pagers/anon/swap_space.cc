#include "pagers/anon/swap_space.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace pager {

SwapSpace::SwapSpace(std::vector<SwapFile> files) : files_(std::move(files)) {
  for (const SwapFile& file : files_)
    maps_.emplace_back(file.limit_sectors().value_or(SectorMap::kMostSectors));
}

std::optional<std::vector<SwapRun>> SwapSpace::allocate(std::span<const std::uint8_t> sizes,
                                                        const FileSet& avoid) {
  return exchange({}, sizes, avoid);
}

std::optional<std::vector<SwapRun>> SwapSpace::exchange(std::span<const SwapRun> instead,
                                                        std::span<const std::uint8_t> sizes,
                                                        const FileSet& avoid) {
  std::unique_lock lock(mutex_);
  auto runs = place_or_wait(lock, instead, sizes, avoid);
  punch(lock);
  return runs;
}

std::optional<std::vector<SwapRun>> SwapSpace::place_or_wait(std::unique_lock<std::mutex>& lock,
                                                             std::span<const SwapRun> instead,
                                                             std::span<const std::uint8_t> sizes,
                                                             const FileSet& avoid) {
  // What throws does so before anything is changed.
  std::vector<SwapRun> runs;
  runs.reserve(sizes.size());
  const std::uint64_t sectors = std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0});
  for (SectorMap& map : maps_) map.reserve(sectors, sizes.size());
  for (;;) {
    for (const SwapRun& run : instead) maps_[run.file].release(run.sectors);
    if (place(sizes, avoid, runs)) return runs;
    for (const SwapRun& run : instead) maps_[run.file].take(run.sectors);
    const auto holds_back = [](const SectorMap& map) { return map.holds_back(); };
    if (std::none_of(maps_.begin(), maps_.end(), holds_back)) return std::nullopt;
    offered_.wait(lock);
  }
}

/// All or nothing; `runs` is empty before, has room for all, and is empty after false.
bool SwapSpace::place(std::span<const std::uint8_t> sizes, const FileSet& avoid,
                      std::vector<SwapRun>& runs) {
  std::uint64_t free = 0;
  for (std::size_t file = 0; file < maps_.size(); ++file)
    if (!avoid[file]) free += maps_[file].free();
  if (std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0}) > free) return false;

  const std::uint64_t most =
      maps_.size() > 1 ? kClusterSectors : std::numeric_limits<std::uint64_t>::max();
  while (runs.size() < sizes.size()) {
    const auto rest = sizes.subspan(runs.size());
    std::uint64_t wanted = 0;
    for (const std::uint8_t size : rest) {
      if (wanted + size > most) break;
      wanted += size;
    }
    SwapRun found = find_in_turn(wanted, std::min(wanted, SectorMap::kBlockSectors), avoid);
    if (found.sectors.empty()) found = find_in_turn(wanted, rest.front(), avoid);
    if (found.sectors.empty()) {
      for (const SwapRun& run : runs) maps_[run.file].release(run.sectors);
      runs.clear();
      return false;
    }
    // As many pieces as fit as a whole.
    SectorRun taken{found.sectors.first, 0};
    for (const std::uint8_t size : rest) {
      if (taken.count + size > found.sectors.count) break;
      runs.push_back({found.file, {taken.end(), size}});
      taken.count += size;
    }
    maps_[found.file].take(taken);
  }
  return true;
}

SwapRun SwapSpace::find_in_turn(std::uint64_t wanted, std::uint64_t least, const FileSet& avoid) {
  for (std::size_t i = 0; i < maps_.size(); ++i) {
    const std::size_t file = (turn_ + i) % maps_.size();
    if (avoid[file]) continue;
    const SectorRun run = maps_[file].find(wanted, least);
    if (run.empty()) continue;
    turn_ = (file + 1) % maps_.size();
    return {static_cast<std::uint8_t>(file), run};
  }
  return {};
}

void SwapSpace::release(std::span<const SwapRun> runs) {
  std::unique_lock lock(mutex_);
  for (const SwapRun& run : runs) maps_[run.file].release(run.sectors);
  punch(lock);
}

/// Gives back the disk space of whatever blocks became free.
void SwapSpace::punch(std::unique_lock<std::mutex>& lock) {
  for (std::size_t file = 0; file < files_.size(); ++file) {
    for (SectorRun blocks = maps_[file].next_emptied(); !blocks.empty();
         blocks = maps_[file].next_emptied()) {
      if (files_[file].punches()) {
        lock.unlock();
        files_[file].punch(blocks);
        lock.lock();
      }
      maps_[file].offer(blocks);
      offered_.notify_all();
    }
  }
}

void SwapSpace::write(const SwapRun& run, const char* data) {
  files_[run.file].write(run.sectors, data);
}

void SwapSpace::read(const SwapRun& run, char* data) const {
  files_[run.file].read(run.sectors, data);
}

bool SwapSpace::read_cached(const SwapRun& run, char* data) const {
  return files_[run.file].read_cached(run.sectors, data);
}

bool SwapSpace::holds(const SwapRun& run) const {
  if (run.file >= files_.size() || run.sectors.first < kHeaderSectors) return false;
  return run.sectors.end() <= files_[run.file].limit_sectors().value_or(SectorMap::kMostSectors);
}

void SwapSpace::adopt(std::vector<SwapRun> runs) {
  for (std::size_t file = 0; file < files_.size(); ++file)
    runs.push_back({static_cast<std::uint8_t>(file), {0, kHeaderSectors}});
  std::sort(runs.begin(), runs.end(), [](const SwapRun& one, const SwapRun& other) {
    return std::tie(one.file, one.sectors.first) < std::tie(other.file, other.sectors.first);
  });
  std::unique_lock lock(mutex_);
  for (auto run = runs.begin(); run != runs.end();) {
    const std::uint8_t file = run->file;
    const auto end =
        std::find_if(run, runs.end(), [&](const SwapRun& other) { return other.file != file; });
    // What is in between becomes free in the way of everything else, and so goes back to the disk.
    maps_[file].take({0, std::prev(end)->sectors.end()});
    for (std::uint64_t at = 0; run != end; ++run) {
      if (run->sectors.first < at)
        throw std::runtime_error("swap " + files_[file].name() + ": has two things in one place");
      if (at < run->sectors.first) maps_[file].release({at, run->sectors.first - at});
      at = run->sectors.end();
    }
  }
  punch(lock);
}

void SwapSpace::clear() {
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t file = 0; file < files_.size(); ++file) {
      const std::uint64_t limit = files_[file].limit_sectors().value_or(SectorMap::kMostSectors);
      maps_[file] = SectorMap(limit);
      maps_[file].take({0, kHeaderSectors});
    }
  }
  for (SwapFile& file : files_)
    if (file.punches()) file.punch({kHeaderSectors, SectorMap::kMostSectors - kHeaderSectors});
}

void SwapSpace::write_part(const SwapRun& run, std::uint64_t offset, const void* data,
                           std::uint64_t bytes) {
  files_[run.file].write_bytes(bytes_from_sectors(run.sectors.first) + offset, bytes,
                               static_cast<const char*>(data));
}

SwapSpace::Usage SwapSpace::usage() const {
  Usage usage{0, 0};
  const std::lock_guard lock(mutex_);
  for (std::size_t file = 0; file < files_.size(); ++file) {
    usage.sectors += maps_[file].used();
    const auto limit = files_[file].limit_sectors();
    if (!limit) usage.limit.reset();
    if (usage.limit) *usage.limit += *limit;
  }
  return usage;
}

std::string SwapSpace::text_when_full() const {
  const auto pages = [](std::uint64_t sectors) {
    return std::to_string((sectors + kPageSectors - 1) / kPageSectors);
  };
  const Usage now = usage();
  return "the swap is full (" + pages(now.sectors) +
         (now.limit ? " of " + pages(*now.limit) : std::string()) + " pages in use)";
}

}  // namespace pager
