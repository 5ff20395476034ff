#include "pagers/anon/swap_index.h"

#include <sys/random.h>

#include <algorithm>
#include <boost/crc.hpp>
#include <cerrno>
#include <cstring>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "pagers/common/failure.h"

namespace pager {

using hal::PageIndex;

namespace {

constexpr char kMagic[16] = "vmserver swap \x1a";
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::uint64_t kSlotBytes = 16;
constexpr std::uint64_t kBlockSectors = kBlockBytes / kSectorBytes;
constexpr PageIndex kNoPage(std::numeric_limits<std::uint64_t>::max());

using Crc32c = boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true>;

std::array<std::uint64_t, 2> random_id() {
  std::array<std::uint64_t, 2> id{};
  if (::getrandom(id.data(), sizeof id, 0) != sizeof id)
    throw std::system_error(errno, std::generic_category(), "getrandom for a swap file");
  return id;
}

}  // namespace

struct SwapIndex::FileHeader {
  char magic[sizeof kMagic];
  std::uint32_t version;
  std::uint32_t check;  ///< CRC-32C of the rest, this being 0
  std::uint32_t file;   ///< which of the set, from 0 on
  std::uint32_t files;
  Id set;
  // In the first file.
  ServerId server;
  Id epoch;
  std::uint64_t root;

  std::uint32_t sum() const {
    FileHeader copy = *this;
    copy.check = 0;
    Crc32c crc;
    crc.process_bytes(&copy, sizeof copy);
    return crc.checksum();
  }
};

SwapIndex::SwapIndex(SwapSpace& swap) : swap_(swap) {
  static_assert(sizeof(Slot) == kSlotBytes && sizeof(Block) == kBlockBytes);
  static_assert(std::has_unique_object_representations_v<FileHeader>);
  try {
    check_files();
    read_content();
  } catch (const Failure& failure) {
    throw std::runtime_error(failure.what());
  }
}

// ---- what is written where ----

SwapRun SwapIndex::header_of(std::size_t file) {
  return {static_cast<std::uint8_t>(file), {0, kBlockSectors}};
}

std::uint64_t SwapIndex::place_of(const SwapRun& block) {
  return StoredPage::at(block, kBlockBytes).bits();
}

SwapIndex::Slot SwapIndex::slot(std::uint64_t one, std::uint64_t two, std::uint64_t value) const {
  const std::uint64_t covered[] = {epoch_[0], epoch_[1], one, two, value};
  Crc32c crc;
  crc.process_bytes(covered, sizeof covered);
  return {value, 0, crc.checksum()};
}

bool SwapIndex::is_right(const Slot& slot, std::uint64_t one, std::uint64_t two) const {
  const Slot expected = this->slot(one, two, slot.value);
  return slot.nothing == 0 && slot.check == expected.check;
}

/// The block that a slot leads to.
std::optional<SwapRun> SwapIndex::block_at(const Slot& slot, std::uint64_t one,
                                           std::uint64_t two) const {
  if (slot.value == 0 || !is_right(slot, one, two)) return std::nullopt;
  const StoredPage place = StoredPage::of_bits(slot.value);
  if (!place.is_stored() || place.is_compressed()) return std::nullopt;
  check_held(place.run());
  return place.run();
}

void SwapIndex::check_held(const SwapRun& run) const {
  if (!swap_.holds(run))
    throw std::runtime_error("swap " +
                             swap_.file(std::min<std::size_t>(run.file, swap_.files() - 1)).name() +
                             ": holds more than its size is now");
}

std::optional<SwapIndex::FileHeader> SwapIndex::read_header(std::size_t file) const {
  char data[kBlockBytes];
  swap_.read(header_of(file), data);
  FileHeader header;
  std::memcpy(&header, data, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return std::nullopt;
  if (header.version != kVersion)
    throw std::runtime_error("swap " + swap_.file(file).name() +
                             ": was written by another version");
  if (header.check != header.sum()) return std::nullopt;
  return header;
}

void SwapIndex::write_header(std::size_t file) const {
  FileHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.file = static_cast<std::uint32_t>(file);
  header.files = static_cast<std::uint32_t>(swap_.files());
  header.set = set_;
  if (file == 0) {
    header.server = server_;
    header.epoch = epoch_;
    header.root = root_;
  }
  header.check = header.sum();
  char data[kBlockBytes] = {};
  std::memcpy(data, &header, sizeof header);
  swap_.write(header_of(file), data);
}

// ---- the start ----

/// Whether the files are one set, which is made of new ones. A set whose making was cut short (its
/// first file is there and nothing was ever written to it) is made again.
void SwapIndex::check_files() {
  std::vector<std::optional<FileHeader>> headers;
  for (std::size_t file = 0; file < swap_.files(); ++file) {
    const SwapFile& one = swap_.file(file);
    const auto found = one.bytes_found();
    const bool is_short = found && *found < kBlockBytes;
    headers.push_back(is_short ? std::nullopt : read_header(file));
    if (found && *found > 0 && !headers.back())
      throw std::runtime_error("swap " + one.name() +
                               ": has content that is not a swap file's; remove it to have it made "
                               "anew");
  }
  const auto refuse = [&](std::size_t file, const std::string& why) {
    throw std::runtime_error("swap " + swap_.file(file).name() + ": " + why +
                             "; give all files of the set, in their order, or remove them");
  };
  const std::optional<FileHeader>& first = headers.front();
  const bool has_content = first && first->server != ServerId{};
  for (std::size_t file = 0; file < headers.size(); ++file) {
    const auto& header = headers[file];
    const bool belongs = header && first && header->set == first->set;
    if (header && !belongs) refuse(file, "belongs to another set of swap files");
    if (belongs && header->file != file) refuse(file, "is not in its place");
    if (belongs && header->files != headers.size()) refuse(file, "is of a set of other files, too");
    if (!header && has_content) refuse(file, "is new, but the first one has content");
  }
  set_ = first ? first->set : random_id();
  if (has_content) {
    server_ = first->server;
    epoch_ = first->epoch;
    root_ = first->root;
    return;
  }
  // The first one comes first: without it the others are of no known set.
  for (std::size_t file = 0; file < headers.size(); ++file) write_header(file);
}

void SwapIndex::read_content() {
  std::vector<SwapRun> used;
  std::uint64_t one = 0;
  std::uint64_t two = 0;
  // The root stands in a header that was right as a whole.
  Slot link = slot(one, two, root_);
  std::set<std::uint64_t> directories;
  while (const auto place = block_at(link, one, two)) {
    Block directory;
    swap_.read(*place, reinterpret_cast<char*>(directory.data()));
    used.push_back(*place);
    directory_ = *place;
    listed_ = 0;
    if (!directories.insert(place_of(*place)).second)
      throw std::runtime_error("swap " + swap_.file(0).name() +
                               ": its directories lead in a circle");
    for (std::uint64_t i = 1; i < kSlots; ++i) {
      if (directory[i].value != 0 || directory[i].check != 0) listed_ = i;
      if (const auto block = block_at(directory[i], place_of(*place), i)) read_block(*block, used);
    }
    one = place_of(*place);
    two = 0;
    link = directory[0];
  }
  for (const auto& [number, object] : objects_)
    for (PageIndex page = object.stored.next_known(PageIndex(0), kNoPage); page < kNoPage;
         page = object.stored.next_known(page + 1, kNoPage))
      if (const StoredPage stored = object.stored.get(page); stored.is_stored())
        used.push_back(stored.run());
  swap_.adopt(std::move(used));
}

void SwapIndex::read_block(const SwapRun& place, std::vector<SwapRun>& used) {
  Block block;
  swap_.read(place, reinterpret_cast<char*>(block.data()));
  used.push_back(place);
  const std::uint64_t at = place_of(place);
  if (!is_right(block[0], at, 0) || !is_right(block[1], at, 1)) {
    free_.push_back(place);
    return;
  }
  const std::uint64_t number = block[0].value;
  const std::uint64_t which = block[1].value;
  const auto is_empty = [](const Slot& slot) { return slot.value == 0 && slot.check == 0; };
  Object& object = objects_[number];
  if (!object.blocks.emplace(which, place).second) {
    // What is left of one that could not be written.
    if (!std::all_of(block.begin() + kHeaderSlots, block.end(), is_empty))
      throw std::runtime_error("swap " + swap_.file(place.file).name() +
                               ": says of the same pages twice where they are");
    free_.push_back(place);
    return;
  }
  for (std::uint64_t i = kHeaderSlots; i < kSlots; ++i) {
    const Slot& slot = block[i];
    if (is_empty(slot)) continue;
    const PageIndex page(which * kBlockPages + i - kHeaderSlots);
    StoredPage stored = StoredPage::of_bits(slot.value);
    if (!is_right(slot, number, page.value()) || !stored.is_known()) stored = StoredPage::lost();
    if (stored.is_stored()) check_held(stored.run());
    object.stored.exchange(page, stored);
  }
}

// ---- objects ----

std::optional<StoredPages> SwapIndex::take(const ServerId& server, std::uint64_t number) {
  if (server == ServerId{} || number == 0)
    throw Failure(EINVAL, "open an object without saying which it is");
  if (server != server_) {
    const auto is_taken = [](const auto& object) { return object.second.taken; };
    if (std::any_of(objects_.begin(), objects_.end(), is_taken))
      throw Failure(EINVAL, "open an object of a second server");
    begin_anew(server);
  }
  const std::lock_guard lock(mutex_);
  const auto [object, is_new] = objects_.try_emplace(number);
  if (object->second.taken) throw Failure(EBUSY, "open an object that is open");
  object->second.taken = true;
  if (is_new) return std::nullopt;
  return std::exchange(object->second.stored, StoredPages());
}

/// Nothing that was written so far counts any more.
void SwapIndex::begin_anew(const ServerId& server) {
  {
    const std::lock_guard lock(mutex_);
    objects_.clear();
    free_.clear();
  }
  epoch_ = random_id();
  root_ = 0;
  directory_.reset();
  listed_ = 0;
  server_ = server;
  try {
    write_header(0);
  } catch (const Failure&) {
    server_ = {};  // whoever is next tries again
    throw;
  }
  swap_.clear();
}

void SwapIndex::give_back(std::uint64_t number, StoredPages stored) {
  const std::lock_guard lock(mutex_);
  Object& object = objects_.at(number);
  object.taken = false;
  object.stored = std::move(stored);
}

void SwapIndex::forget(std::uint64_t number) {
  std::map<std::uint64_t, SwapRun> blocks;
  {
    const std::lock_guard lock(mutex_);
    blocks = objects_.at(number).blocks;
  }
  free_blocks(blocks);
  const std::lock_guard lock(mutex_);
  objects_.erase(number);
}

void SwapIndex::free_blocks(const std::map<std::uint64_t, SwapRun>& blocks) {
  const Slot empty[kHeaderSlots];
  for (const auto& [number, place] : blocks) {
    swap_.write_part(place, 0, empty, sizeof empty);
    const std::lock_guard lock(mutex_);
    free_.push_back(place);
  }
}

void SwapIndex::forget_untaken() {
  std::vector<std::uint64_t> untaken;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [number, object] : objects_)
      if (!object.taken) untaken.push_back(number);
  }
  for (const std::uint64_t number : untaken) {
    StoredPages stored;
    {
      const std::lock_guard lock(mutex_);
      stored = std::move(objects_.at(number).stored);
    }
    forget(number);
    std::vector<SwapRun> runs;
    for (PageIndex page = stored.next_known(PageIndex(0), kNoPage); page < kNoPage;
         page = stored.next_known(page + 1, kNoPage))
      if (const StoredPage one = stored.get(page); one.is_stored()) runs.push_back(one.run());
    swap_.release(runs);
  }
}

// ---- pages ----

std::optional<SwapRun> SwapIndex::find(std::uint64_t number, std::uint64_t which) const {
  const std::lock_guard lock(mutex_);
  const Object& object = objects_.at(number);
  const auto block = object.blocks.find(which);
  if (block == object.blocks.end()) return std::nullopt;
  return block->second;
}

void SwapIndex::prepare(std::uint64_t object, std::span<const Change> changes) {
  std::optional<std::uint64_t> last;
  for (const Change& change : changes) {
    const std::uint64_t which = change.page.value() / kBlockPages;
    if (!change.now.is_known() || last == which) continue;
    last = which;
    if (find(object, which)) continue;
    const std::lock_guard lock(growth_);
    if (!find(object, which)) add_block(object, which);
  }
}

void SwapIndex::record(std::uint64_t object, std::span<const Change> changes) {
  std::vector<Slot> slots;
  for (std::size_t i = 0; i < changes.size();) {
    const PageIndex first = changes[i].page;
    const std::uint64_t which = first.value() / kBlockPages;
    slots.clear();
    while (i < changes.size() && changes[i].page == first + slots.size() &&
           changes[i].page.value() / kBlockPages == which) {
      const auto& [page, now] = changes[i++];
      slots.push_back(now.is_known() ? slot(object, page.value(), now.bits()) : Slot());
    }
    // Where there is no block nothing was ever known.
    if (const auto block = find(object, which))
      swap_.write_part(*block, (kHeaderSlots + first.value() % kBlockPages) * kSlotBytes,
                       slots.data(), slots.size() * kSlotBytes);
  }
}

/// An empty block for these pages of the object.
void SwapIndex::add_block(std::uint64_t number, std::uint64_t which) {
  std::optional<SwapRun> place;
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      place = free_.back();
      free_.pop_back();
    }
  }
  const bool is_listed = place.has_value();
  if (!place) place = allocate();
  // Should this fail, it is open what the files say of the block, and nobody else gets it.
  Block block{};
  block[0] = slot(place_of(*place), 0, number);
  block[1] = slot(place_of(*place), 1, which);
  swap_.write(*place, reinterpret_cast<const char*>(block.data()));
  if (!is_listed) list(*place);
  const std::lock_guard lock(mutex_);
  objects_.at(number).blocks.emplace(which, *place);
}

SwapRun SwapIndex::allocate() {
  const std::uint8_t size = kBlockSectors;
  const auto runs = swap_.allocate({&size, 1});
  if (!runs) throw Failure(ENOSPC, "say where pages are: " + swap_.text_when_full());
  return runs->front();
}

/// Has a directory lead to this block.
void SwapIndex::list(const SwapRun& block) {
  if (!directory_ || listed_ + 1 == kSlots) {
    const SwapRun directory = allocate();
    const Block empty{};
    swap_.write(directory, reinterpret_cast<const char*>(empty.data()));
    const std::uint64_t place = place_of(directory);
    if (directory_) {
      const Slot link = slot(place_of(*directory_), 0, place);
      swap_.write_part(*directory_, 0, &link, sizeof link);
    } else {
      root_ = place;
      write_header(0);
    }
    directory_ = directory;
    listed_ = 0;
  }
  const std::uint64_t number = listed_ + 1;
  const Slot entry = slot(place_of(*directory_), number, place_of(block));
  swap_.write_part(*directory_, number * kSlotBytes, &entry, sizeof entry);
  listed_ = number;
}

}  // namespace pager
