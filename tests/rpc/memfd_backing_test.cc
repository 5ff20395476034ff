#include "hal/linux/memfd_backing.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>
#include <memory>
#include <system_error>
#include <vector>

#include "tests/vm/test_random.h"

using hal::MemfdBacking;
using hal::PageIndex;
using hal::PageRange;

namespace {

PageRange range(std::uint64_t first, std::uint64_t count) {
  return PageRange(PageIndex(first), count);
}

}  // namespace

TEST_CASE("a memfd says itself which pages are resident") {
  MemfdBacking memory("test", 16);
  CHECK(memory.next_absent(range(0, 100)) == range(0, 16));
  CHECK(memory.next_resident(range(0, 100)).empty());
  memory.zero_fill(range(3, 2));
  CHECK(memory.next_absent(range(0, 16)) == range(0, 3));
  CHECK(memory.next_absent(range(3, 13)) == range(5, 11));
  CHECK(memory.next_absent(range(3, 2)).empty());
  CHECK(memory.next_resident(range(0, 16)) == range(3, 2));
  CHECK(memory.next_resident(range(4, 12)) == range(4, 1));
  CHECK(memory.next_resident(range(5, 11)).empty());
  CHECK(memory.resident_pages() == 2);
  memory.discard(range(4, 100));
  CHECK(memory.next_resident(range(0, 16)) == range(3, 1));
}

TEST_CASE("runs are found alike in a few pages and in many, whatever lies behind them") {
  test::Random random;
  CAPTURE(random.seed());
  constexpr std::uint64_t kPages = 6000;
  MemfdBacking memory("test", kPages);
  std::vector<bool> resident(kPages);
  for (int i = 0; i < 40; ++i) {
    const PageRange pages = range(random.below(kPages), 1 + random.below(400));
    const bool filled = random.below(5) < 3;
    filled ? memory.zero_fill(pages) : memory.discard(pages);
    for (std::uint64_t page = pages.first().value(); page < std::min(pages.end().value(), kPages);
         ++page)
      resident[page] = filled;
  }
  const auto expected = [&](PageRange within, bool wanted) {
    std::uint64_t first = within.first().value();
    while (first < within.end().value() && resident[first] != wanted) ++first;
    std::uint64_t end = first;
    while (end < within.end().value() && resident[end] == wanted) ++end;
    return range(first, end - first);
  };
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t first = random.below(kPages);
    const std::uint64_t most = random.one_in(2) ? 40 : kPages;
    const PageRange within = range(first, std::min(1 + random.below(most), kPages - first));
    CAPTURE(within.first().value(), within.count());
    REQUIRE(memory.next_resident(within) == expected(within, true));
    REQUIRE(memory.next_absent(within) == expected(within, false));
  }
}

TEST_CASE("zero_fill leaves resident pages alone") {
  MemfdBacking memory("test", 8);
  REQUIRE(::pwrite(memory.descriptor(), "data", 4, 3 * 4096) == 4);
  memory.zero_fill(range(0, 8));
  CHECK(memory.next_absent(range(0, 8)).empty());
  char data[5] = "";
  REQUIRE(::pread(memory.descriptor(), data, 4, 3 * 4096) == 4);
  CHECK(std::string(data) == "data");
}

TEST_CASE("a shrunk memfd forgets its pages") {
  MemfdBacking memory("test", 8);
  memory.zero_fill(range(0, 8));
  memory.resize(2);
  CHECK(memory.pages() == 2);
  CHECK(memory.resident_pages() == 2);
  memory.resize(8);
  CHECK(memory.next_absent(range(0, 8)) == range(2, 6));
  CHECK_THROWS_AS(memory.resize(~std::uint64_t{0}), std::system_error);
  CHECK(memory.pages() == 8);
}

TEST_CASE("a memfd is mode 0600, its read-only descriptor cannot write, and it maps executable") {
  MemfdBacking memory("test", 1);
  struct stat status;
  REQUIRE(::fstat(memory.descriptor(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  const hal::SharedDescriptor read_only = memory.reopen(false);
  CHECK(::pwrite(read_only.get(), "x", 1, 0) == -1);
  CHECK(::pwrite(memory.reopen(true).get(), "x", 1, 0) == 1);
  void* const page =
      ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, read_only.get(), 0);
  CHECK(page != MAP_FAILED);
  if (page != MAP_FAILED) ::munmap(page, 4096);
}

TEST_CASE("a read-only descriptor of a pager's file gives programs no right to write") {
  MemfdBacking theirs("theirs", 1);
  theirs.zero_fill(range(0, 1));
  MemfdBacking adopted{theirs.reopen(false)};
  CHECK(::pwrite(adopted.reopen(true).get(), "x", 1, 0) == -1);
  CHECK(adopted.next_absent(range(0, 1)).empty());
}

TEST_CASE("a factory leaves the descriptors above its limit to others") {
  const int next_number = MemfdBacking("test", 1).descriptor();
  hal::MemfdFactory factory(next_number + 1);
  std::vector<std::shared_ptr<hal::Backing>> made;
  for (int i = 0; i < 2; ++i) {
    try {
      made.push_back(factory.create("test", 1));
    } catch (const std::system_error& error) {
      CHECK(i == 1);
      CHECK(error.code().value() == ENFILE);
    }
  }
  CHECK(made.size() == 1);
}

TEST_CASE("a pager's file is adopted as it is") {
  MemfdBacking theirs("theirs", 3);
  MemfdBacking adopted{hal::SharedDescriptor(::dup(theirs.descriptor()))};
  CHECK(adopted.pages() == 3);
  theirs.zero_fill(range(1, 1));
  CHECK(adopted.next_resident(range(0, 3)) == range(1, 1));
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  CHECK_THROWS_AS(MemfdBacking(hal::SharedDescriptor(pipe[0])), std::system_error);
  ::close(pipe[1]);
  CHECK_THROWS_AS(MemfdBacking(hal::SharedDescriptor()), std::system_error);
}
