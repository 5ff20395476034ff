#include "pagers/common/file_store.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "tests/pagers/support.h"

using pager::FileStore;
using test::kPage;
using test::range;

namespace {

/// A file of so many bytes, and an object for it.
class StoredFile {
 public:
  explicit StoredFile(std::size_t bytes) {
    while (content_.size() < bytes) content_ += test::random_page(random_);
    content_.resize(bytes);
    file_ = hal::SharedDescriptor(
        ::open((directory_ / "file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    REQUIRE(file_);
    REQUIRE(::pwrite(file_.get(), content_.data(), bytes, 0) == static_cast<ssize_t>(bytes));
    store_.emplace(pager::ObjectInfo{.bytes = bytes, .path = "file"}, file_);
  }
  /// The disk alone has it, where there is one.
  void cool() const {
    REQUIRE(::fdatasync(file_.get()) == 0);
    REQUIRE(::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  }
  FileStore& store() { return *store_; }
  /// What these pages are to be: zeroes behind the end.
  std::string content(std::uint64_t first, std::uint64_t count) const {
    std::string pages = content_.substr(std::min(first * kPage, content_.size()), count * kPage);
    pages.resize(count * kPage, '\0');
    return pages;
  }
  std::uint64_t seed() const { return random_.seed(); }

 private:
  test::Random random_;
  const test::Directory directory_;
  std::string content_;
  hal::SharedDescriptor file_;
  std::optional<FileStore> store_;
};

}  // namespace

TEST_CASE("a page-in from a file that must not wait fills all of its pages or none") {
  StoredFile file(48 * kPage + 100);
  CAPTURE(file.seed());
  test::Memory memory(64);
  file.cool();
  if (!file.store().page_in_at_once(range(0, 60), memory.get())) {
    CHECK(memory.get().next_resident(range(0, 64)).empty());
    file.store().page_in(range(0, 60), memory.get());
  }
  CHECK(memory.read(0, 60) == file.content(0, 60));
  memory.drop(0, 64);
  if (!file.store().page_in_at_once(range(40, 20), memory.get()))
    file.store().page_in(range(40, 20), memory.get());
  CHECK(memory.read(40, 20) == file.content(40, 20));
}

TEST_CASE("a large page-in from a file is left to a thread") {
  StoredFile file(512 * kPage);
  test::Memory memory(512);
  CHECK_FALSE(file.store().page_in_at_once(range(0, 512), memory.get()));
  CHECK(memory.get().next_resident(range(0, 512)).empty());
}

TEST_CASE("pages behind the end of a file are zeroes, and nothing is read for them") {
  StoredFile file(3 * kPage);
  test::Memory memory(16);
  file.cool();
  CHECK(file.store().page_in_at_once(range(3, 13), memory.get()));
  CHECK(memory.get().next_resident(range(0, 16)) == range(3, 13));
  CHECK(memory.read(3, 13) == std::string(13 * kPage, '\0'));
}

TEST_CASE("several threads have windows of one file paged in at the same time") {
  constexpr std::uint64_t kPages = 4096;
  constexpr std::uint64_t kWindow = 128;
  constexpr unsigned kThreads = 4;
  StoredFile file(kPages * kPage - 5);
  CAPTURE(file.seed());
  test::Memory memory(kPages);
  for (int round = 0; round < 3; ++round) {
    if (round != 1) file.cool();
    memory.drop(0, kPages);
    std::atomic<unsigned> failed{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        try {
          for (std::uint64_t at = i * kWindow; at < kPages; at += kThreads * kWindow)
            file.store().page_in(range(at, kWindow), memory.get());
        } catch (const std::exception&) {
          ++failed;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(failed == 0);
    CHECK((memory.read(0, kPages) == file.content(0, kPages)));
  }
}
