#include "pagers/anon/swap_space.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>
#include <thread>

#include "tests/pagers/support.h"

using pager::SwapFile;
using pager::SwapRun;
using pager::SwapSpace;

namespace {

std::vector<std::uint8_t> pages(std::size_t count) { return std::vector<std::uint8_t>(count, 8); }

/// Lengths, in sectors, of the runs that lie in a row.
std::vector<std::uint64_t> clusters(const std::vector<SwapRun>& runs) {
  std::vector<std::uint64_t> lengths;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (i == 0 || !runs[i - 1].joins(runs[i])) lengths.push_back(0);
    lengths.back() += runs[i].sectors.count;
  }
  return lengths;
}

}  // namespace

TEST_CASE("swap files take turns with clusters of 64 KiB or more") {
  const test::Directory directory;
  SwapSpace swap({directory.swap(1024, "a"), directory.swap(1024, "b")});
  const auto large = swap.allocate(pages(256));
  REQUIRE(large);
  const auto lengths = clusters(*large);
  REQUIRE(lengths.size() > 1);
  for (const std::uint64_t length : lengths) CHECK(length >= 128);
  CHECK(std::count_if(large->begin(), large->end(),
                      [](const SwapRun& run) { return run.file == 0; }) == 128);
  // Small requests are not cut up, and they take turns, too.
  std::set<int> files;
  for (int i = 0; i < 2; ++i) {
    const auto small = swap.allocate(pages(16));
    REQUIRE(small);
    CHECK(clusters(*small).size() == 1);
    files.insert(small->front().file);
  }
  CHECK(files.size() == 2);
}

TEST_CASE("when one swap file is full the other takes all") {
  const test::Directory directory;
  SwapSpace swap({directory.swap(16, "a"), directory.swap(1024, "b")});
  for (int i = 0; i < 65; ++i) REQUIRE(swap.allocate(pages(16)));
  CHECK_FALSE(swap.allocate(pages(1)));
  CHECK(swap.text_when_full() == "the swap is full (1040 of 1040 pages in use)");
}

TEST_CASE("room is given for all pieces or for none") {
  const test::Directory directory;
  SwapSpace swap({directory.swap(10), directory.swap(10)});
  const auto first = swap.allocate(pages(15));
  REQUIRE(first);
  CHECK_FALSE(swap.allocate(pages(6)));
  CHECK(swap.usage().sectors == 15 * 8);
  CHECK(swap.allocate(pages(5)));
  CHECK_FALSE(swap.allocate(std::vector<std::uint8_t>{1}));
  swap.release(std::span(*first).first(1));
  CHECK(swap.allocate(pages(1)));
}

TEST_CASE("room that is given up counts for what replaces it, unless even that is too little") {
  const test::Directory directory;
  SwapSpace swap({directory.swap(8)});
  const auto all = swap.allocate(pages(8));
  REQUIRE(all);
  const auto some = std::span(*all).subspan(2, 3);
  CHECK_FALSE(swap.exchange(some, pages(4)));
  CHECK(swap.usage().sectors == 64);
  const auto replaced = swap.exchange(some, pages(3));
  REQUIRE(replaced);
  CHECK(clusters(*replaced).size() == 1);
  CHECK(replaced->front() == some.front());
}

TEST_CASE("where 64 KiB are free they are used as one") {
  const test::Directory directory;
  SwapSpace swap({directory.swap(256)});
  auto all = swap.allocate(pages(256));
  REQUIRE(all);
  // Single pages all over the first half, and one block behind.
  for (std::size_t page = 0; page < 128; page += 2) swap.release(std::span(*all).subspan(page, 1));
  swap.release(std::span(*all).subspan(160, 16));
  const auto cluster = swap.allocate(pages(16));
  REQUIRE(cluster);
  CHECK(clusters(*cluster).size() == 1);
  const auto scattered = swap.allocate(pages(64));
  REQUIRE(scattered);
  CHECK(clusters(*scattered).size() == 64);
}

TEST_CASE("disk space goes back when 64 KiB are free as a whole, and not before") {
  const test::Directory directory;
  const SwapFile file = SwapFile::open(directory / "swap", std::nullopt);
  SwapSpace swap({file});
  const auto all = swap.allocate(pages(64));
  REQUIRE(all);
  const std::string data(64 * test::kPage, 'd');
  swap.write({0, {0, 64 * 8}}, data.data());
  const std::uint64_t full = test::allocated_bytes(file);
  CHECK(full >= data.size());
  swap.release(std::span(*all).first(15));
  CHECK(test::allocated_bytes(file) == full);
  swap.release(std::span(*all).subspan(15, 1));
  CHECK(test::allocated_bytes(file) == full - 64 * 1024);
  swap.release(std::span(*all).subspan(16));
  CHECK(test::allocated_bytes(file) <= full - data.size());
}

TEST_CASE("threads that allocate and release at once never get the same sectors, nor a full swap") {
  const test::Directory directory;
  // Just room for all of them.
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kPages = 40;
  SwapSpace swap(
      {directory.swap(kThreads * kPages / 2, "a"), directory.swap(kThreads * kPages / 2, "b")});
  std::vector<std::string> errors(kThreads);
  std::vector<std::thread> threads;
  for (std::size_t id = 0; id < kThreads; ++id) {
    threads.emplace_back([&, id] {
      std::string mine(test::kPage, static_cast<char>('a' + id));
      std::string back(test::kPage, '\0');
      for (int round = 0; round < 300 && errors[id].empty(); ++round) {
        const auto runs = swap.allocate(pages(kPages));
        if (!runs) {
          errors[id] = "no room: " + swap.text_when_full();
          break;
        }
        for (const SwapRun& run : *runs) swap.write(run, mine.data());
        for (const SwapRun& run : *runs) {
          swap.read(run, back.data());
          if (back != mine) errors[id] = "another thread's data";
        }
        swap.release(*runs);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& error : errors) CHECK(error == "");
  CHECK(swap.usage().sectors == 0);
}
