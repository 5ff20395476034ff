#include "tests/vm/fake_pager.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <system_error>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fmt/format.h>

namespace test {

using hal::PageIndex;
using hal::PageRange;
using vm::Error;
using vm::Transfer;

namespace {

void set_host_size(const hal::SharedDescriptor& file, std::uint64_t bytes) {
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
    throw std::system_error(errno, std::generic_category(), "ftruncate of a test's file");
  }
}

}  // namespace

hal::HostFile FakeFile::open(bool readable, bool writable) const {
  hal::HostFile file;
  file.attributes = attributes;
  file.attributes.bytes = content.size();
  if (const auto stamp = hal::stamp_of(host.get())) {
    file.attributes.modified_ns = stamp->modified_ns;
    file.attributes.changed_ns = stamp->changed_ns;
  }
  file.attributes.readable = readable;
  file.attributes.writable = writable;
  file.descriptor = host;
  return file;
}

void FakeFile::resize(std::uint64_t bytes) {
  content.resize(bytes);
  set_host_size(host, bytes);
}

void FakeFile::change(std::uint64_t offset, std::byte value) {
  content.at(offset) = value;
  REQUIRE(::pwrite(host.get(), &value, 1, static_cast<off_t>(offset)) == 1);
  touch();
}

void FakeFile::touch() const {
  const auto now = hal::stamp_of(host.get());
  REQUIRE(now);
  const std::int64_t next = now->modified_ns + 1;
  const timespec times[2] = {
      {.tv_sec = 0, .tv_nsec = UTIME_OMIT},
      {.tv_sec = next / 1'000'000'000, .tv_nsec = next % 1'000'000'000}};
  REQUIRE(::futimens(host.get(), times) == 0);
}

class FakePagerDirectory::Paged final : public vm::PagedObject {
 public:
  Paged(FakePagerDirectory& directory, FakeFile* file, std::shared_ptr<hal::Backing> backing)
      : directory_(directory),
        file_(file),
        backing_(std::static_pointer_cast<hal::SimBacking>(std::move(backing))) {}
  ~Paged() override { directory_.closed(*this); }

  void submit(Transfer& transfer) override {
    if (directory_.before_submit_) directory_.before_submit_(transfer);
    directory_.submit(*this, transfer);
  }
  void resize(std::uint64_t bytes) override {
    const std::lock_guard guard(directory_.lock_);
    if (file_ != nullptr) file_->resizes.push_back(bytes);
  }
  void grant(const hal::SharedDescriptor& content) override {
    const std::lock_guard guard(directory_.lock_);
    if (!content) directory_.violations_.emplace_back("a grant without a descriptor");
    if (file_ != nullptr) ++file_->grants;
  }

  void discard(std::vector<PageRange> pages) override {
    const std::lock_guard guard(directory_.lock_);
    for (const PageRange run : pages) {
      content.erase(content.lower_bound(run.first().value()),
                    content.lower_bound(run.end().value()));
    }
  }
  void on_lost(std::function<void()> lost) override {
    const std::lock_guard guard(directory_.lock_);
    tell_lost = std::move(lost);
  }

  FakeFile* file() const { return file_; }
  hal::SimBacking& backing() const { return *backing_; }

  // Of anonymous memory; directory's lock_.
  std::map<std::uint64_t, std::array<std::byte, hal::kPageSize>> content;
  std::set<std::uint64_t> lost;
  std::function<void()> tell_lost;

 private:
  FakePagerDirectory& directory_;
  FakeFile* const file_;
  const std::shared_ptr<hal::SimBacking> backing_;
};

FakePagerDirectory::~FakePagerDirectory() = default;

std::byte FakePagerDirectory::pattern(std::uint64_t inode, std::uint64_t offset) {
  const std::uint64_t page = offset >> hal::kPageShift;
  return static_cast<std::byte>(1 + (inode * 31 + page * 7 + offset % 13) % 255);
}

FakeFile& FakePagerDirectory::make_file(std::uint64_t bytes) {
  const std::lock_guard guard(lock_);
  FakeFile& file = files_.emplace_back();
  file.attributes.kind = hal::FileKind::regular;
  file.attributes.device = 0x801;
  file.attributes.inode = 100 + files_.size();
  file.attributes.links = 1;
  file.attributes.path = fmt::format("/file{}", files_.size());
  file.content.resize(bytes);
  file.host = hal::SharedDescriptor(::memfd_create("test file", MFD_CLOEXEC));
  set_host_size(file.host, bytes);
  for (std::uint64_t i = 0; i < bytes; ++i) file.content[i] = pattern(file.attributes.inode, i);
  REQUIRE(::pwrite(file.host.get(), file.content.data(), bytes, 0) ==
          static_cast<ssize_t>(bytes));
  return file;
}

FakeFile* FakePagerDirectory::find(const hal::FileAttributes& attributes) const {
  const std::lock_guard guard(lock_);
  for (const FakeFile& file : files_) {
    if (file.attributes.device == attributes.device && file.attributes.inode == attributes.inode) {
      return const_cast<FakeFile*>(&file);
    }
  }
  return nullptr;
}

bool FakePagerDirectory::claims(const hal::FileAttributes& attributes) const {
  const FakeFile* file = find(attributes);
  return file != nullptr && file->claimed;
}

vm::Result<vm::OpenedObject> FakePagerDirectory::opened(vm::PagerKind kind, FakeFile* file,
                                                        std::shared_ptr<hal::Backing> backing) {
  if (kind == vm::PagerKind::anonymous ? refuse_anonymous_ : file == nullptr || file->no_pager) {
    return Error::no_device;
  }
  vm::OpenedObject object;
  if (file != nullptr) {
    object.own_memory = file->own_memory;
    object.host_memory = file->host_memory;
    object.bytes = file->opened_bytes;
    if (file->own_memory) backing = file->own_memory;
  }
  auto paged = std::make_unique<Paged>(*this, file, std::move(backing));
  const std::lock_guard guard(lock_);
  if (file == nullptr) anonymous_.push_back(paged.get());
  object.object = std::move(paged);
  ++open_objects_;
  return object;
}

void FakePagerDirectory::open(vm::PagerKind kind, const hal::HostFile& file, std::uint64_t,
                              std::shared_ptr<hal::Backing> backing, vm::OpenDone done) {
  FakeFile* found = kind == vm::PagerKind::anonymous ? nullptr : find(file.attributes);
  if (kind == vm::PagerKind::device && found != nullptr && found->open_later) {
    const std::lock_guard guard(lock_);
    queue_.push_back({.later = [this, kind, found, backing = std::move(backing),
                                done = std::move(done)] { done(opened(kind, found, backing)); }});
    return;
  }
  done(opened(kind, found, std::move(backing)));
}

void FakePagerDirectory::violation(std::string what) {
  const std::lock_guard guard(lock_);
  violations_.push_back(std::move(what));
}

void FakePagerDirectory::submit(Paged& paged, Transfer& transfer) {
  const PageRange pages = transfer.pages;
  const std::string text =
      fmt::format("{} pages at {}", pages.count(), pages.first().value());
  if (pages.empty() != (transfer.kind == Transfer::Kind::sync)) {
    violation("an empty transfer, or a sync with pages");
  }
  if (pages.end().value() > paged.backing().pages()) violation("beyond the object: " + text);
  if (transfer.kind == Transfer::Kind::page_in &&
      paged.backing().next_absent(pages) != pages) {
    violation("a page-in of pages that are resident: " + text);
  }
  if (transfer.kind == Transfer::Kind::page_out &&
      paged.backing().next_resident(pages) != pages) {
    violation("a page-out of absent pages: " + text);
  }
  const std::lock_guard guard(lock_);
  for (const Work& work : queue_) {
    if (work.paged == &paged && transfer.kind == Transfer::Kind::page_in &&
        work.transfer->kind == Transfer::Kind::page_in && work.transfer->pages.overlaps(pages)) {
      violations_.push_back("asked for twice at a time: " + text);
    }
  }
  records_.push_back({transfer.kind, pages, paged.file()});
  Work work;
  work.paged = &paged;
  work.transfer = &transfer;
  queue_.push_back(std::move(work));
  work_.notify_one();
}

void FakePagerDirectory::closed(Paged& paged) {
  const std::lock_guard guard(lock_);
  --open_objects_;
  anonymous_.remove(&paged);
  for (const Work& work : queue_) {
    if (work.paged == &paged) violations_.emplace_back("given up with transfers under way");
  }
}

bool FakePagerDirectory::pump() {
  Work work;
  {
    const std::lock_guard guard(lock_);
    if (held_ || queue_.empty()) return false;
    work = std::move(queue_.front());
    queue_.pop_front();
  }
  if (work.paged == nullptr) {
    work.later();
    return true;
  }
  const Error error = carry_out(work);
  work.transfer->done(error);
  return true;
}

void FakePagerDirectory::run() {
  while (true) {
    {
      std::unique_lock guard(lock_);
      work_.wait(guard, [&] { return stopped_ || !queue_.empty(); });
      if (stopped_) return;
    }
    pump();
  }
}

void FakePagerDirectory::stop() {
  const std::lock_guard guard(lock_);
  stopped_ = true;
  work_.notify_all();
}

Error FakePagerDirectory::carry_out(const Work& work) {
  const std::lock_guard guard(lock_);
  Error error = Error::none;
  PageRange pages = work.transfer->pages;
  if (auto it = failing_.find(work.transfer->kind); it != failing_.end()) {
    error = it->second.error;
    pages = PageRange(pages.first(), std::min(pages.count(), it->second.pages_before));
    failing_.erase(it);
  }
  FakeFile* const file = work.paged->file();
  hal::SimBacking& backing = work.paged->backing();
  if (file != nullptr && work.transfer->kind == Transfer::Kind::page_out) {
    const auto before = hal::stamp_of(file->host.get());
    file->touch();
    const auto after = hal::stamp_of(file->host.get());
    if (before && after) work.transfer->stamps = {*before, *after};
  }
  for (PageIndex page = pages.first(); page < pages.end(); page = page + 1) {
    const std::uint64_t offset = page.byte_offset();
    const std::uint64_t bytes =
        file == nullptr || offset >= file->content.size()
            ? 0
            : std::min<std::uint64_t>(hal::kPageSize, file->content.size() - offset);
    if (file == nullptr) {
      Paged& paged = *work.paged;
      const auto known = paged.content.find(page.value());
      if (work.transfer->kind == Transfer::Kind::page_out) {
        if (backing.read(page, paged.content[page.value()])) {
          paged.lost.erase(page.value());
        } else {
          violations_.emplace_back("page-out of an absent page");
        }
      } else if (paged.lost.contains(page.value())) {
        error = Error::io;
      } else if (known == paged.content.end()) {
        backing.zero_fill(PageRange(page, 1));
      } else {
        backing.write(page, known->second);
      }
      continue;
    }
    if (work.transfer->kind == Transfer::Kind::page_in) {
      if (bytes == 0 && offset >= file->content.size()) {
        backing.zero_fill(PageRange(page, 1));
      } else {
        backing.write(page, std::span(file->content.data() + (bytes == 0 ? 0 : offset), bytes));
      }
    } else if (bytes != 0 && !backing.read(page, std::span(&file->content[offset], bytes))) {
      // Fine if the object shrank since; then the file did as well.
      if (page.value() < backing.pages()) violations_.emplace_back("page-out of an absent page");
    }
  }
  return error;
}

void FakePagerDirectory::hold(bool on) {
  const std::lock_guard guard(lock_);
  held_ = on;
}

void FakePagerDirectory::fail_next(Transfer::Kind kind, Error error, std::uint64_t pages_before) {
  const std::lock_guard guard(lock_);
  failing_[kind] = {error, pages_before};
}

void FakePagerDirectory::fail_no_more() {
  const std::lock_guard guard(lock_);
  failing_.clear();
}

void FakePagerDirectory::lose_anonymous() {
  std::vector<std::function<void()>> told;
  {
    const std::lock_guard guard(lock_);
    for (Paged* paged : anonymous_) {
      if (paged->content.empty()) continue;
      for (const auto& [page, bytes] : paged->content) paged->lost.insert(page);
      paged->content.clear();
      if (paged->tell_lost) told.push_back(paged->tell_lost);
    }
  }
  for (const auto& tell : told) tell();
}

std::size_t FakePagerDirectory::anonymous_pages() const {
  const std::lock_guard guard(lock_);
  std::size_t pages = 0;
  for (const Paged* paged : anonymous_) pages += paged->content.size();
  return pages;
}

std::vector<FakePagerDirectory::Record> FakePagerDirectory::records() const {
  const std::lock_guard guard(lock_);
  return records_;
}

std::vector<FakePagerDirectory::Record> FakePagerDirectory::records(Transfer::Kind kind) const {
  std::vector<Record> result = records();
  std::erase_if(result, [&](const Record& record) { return record.kind != kind; });
  return result;
}

void FakePagerDirectory::forget_records() {
  const std::lock_guard guard(lock_);
  records_.clear();
}

std::size_t FakePagerDirectory::queued() const {
  const std::lock_guard guard(lock_);
  return queue_.size();
}

std::size_t FakePagerDirectory::open_objects() const {
  const std::lock_guard guard(lock_);
  return open_objects_;
}

std::vector<std::string> FakePagerDirectory::violations() const {
  const std::lock_guard guard(lock_);
  return violations_;
}

}  // namespace test
