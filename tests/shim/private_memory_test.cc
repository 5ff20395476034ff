// What the shim knows to be libc's own private memory.
#include "libshim/private_memory.h"

#include <catch2/catch.hpp>
#include <linux/mman.h>

using protocol::TrapRequest;
using shim::PrivateMemory;

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kAt = 0x110000000000;
constexpr std::uint64_t kPlain = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

TrapRequest request(std::uint16_t call, std::uint64_t first, std::uint64_t second,
                    std::uint64_t flags = 0, std::uint64_t target = 0) {
  TrapRequest made{};
  made.call = call;
  made.flags = protocol::kRequestHostRules;
  made.args[0] = first;
  made.args[1] = second;
  made.args[3] = flags;
  made.args[4] = target;
  return made;
}

struct Fixture {
  PrivateMemory memory;

  void map(std::uint64_t page, std::uint64_t pages, std::uint64_t flags = kPlain) {
    memory.after(request(protocol::kCallMmap, 0, pages * kPage, flags), kAt + page * kPage);
  }
  bool knows(std::uint64_t page, std::uint64_t pages) const {
    return memory.contains(kAt + page * kPage, pages * kPage);
  }
};

}  // namespace

TEST_CASE("what libc maps for itself is known", "[private_memory]") {
  Fixture f;
  f.map(0, 16);
  CHECK(f.knows(0, 16));
  CHECK(f.knows(3, 1));
  CHECK_FALSE(f.knows(3, 14));
  CHECK_FALSE(f.knows(16, 1));
  CHECK_FALSE(f.memory.contains(kAt + 1, kPage));
  CHECK_FALSE(f.memory.contains(kAt, kPage + 1));
  CHECK_FALSE(f.memory.contains(kAt, 0));
  CHECK_FALSE(f.memory.contains(kAt, ~std::uint64_t{0}));
}

TEST_CASE("what is a file's, is shared or grows is not known",
          "[private_memory]") {
  Fixture f;
  f.map(0, 1, MAP_PRIVATE);
  f.map(1, 1, MAP_SHARED | MAP_ANONYMOUS);
  f.map(2, 1, kPlain | MAP_GROWSDOWN);
  f.map(3, 1, kPlain | MAP_HUGETLB);
  // What a program means by that may grow.
  TrapRequest own = request(protocol::kCallMmap, 0, kPage, kPlain | MAP_STACK);
  own.flags = 0;
  f.memory.after(own, kAt + 4 * kPage);
  // Numbers of another system.
  own = request(protocol::kCallMmap, 0, kPage, kPlain);
  own.abi = protocol::kAbiFreebsd;
  f.memory.after(own, kAt + 5 * kPage);
  for (std::uint64_t page = 0; page < 6; ++page) CHECK_FALSE(f.knows(page, 1));
}

TEST_CASE("what is mapped where something was known before is not that", "[private_memory]") {
  Fixture f;
  f.map(0, 8);
  f.map(2, 1, MAP_PRIVATE);
  TrapRequest moved = request(protocol::kCallMremap, kAt + 100 * kPage, kPage);
  moved.args[2] = 2 * kPage;
  f.memory.after(moved, kAt + 5 * kPage);
  CHECK(f.knows(0, 2));
  CHECK_FALSE(f.knows(2, 1));
  CHECK(f.knows(3, 2));
  CHECK_FALSE(f.knows(5, 1));
  CHECK_FALSE(f.knows(6, 1));
  CHECK(f.knows(7, 1));
}

TEST_CASE("what may not become accessible again is not known", "[private_memory]") {
  Fixture f;
  f.map(0, 4);
  f.memory.before(request(protocol::kCallMprotect, kAt, kPage, 0));
  CHECK(f.knows(0, 4));
  TrapRequest limited = request(protocol::kCallMprotect, kAt, kPage, 0);
  limited.args[2] = std::uint64_t{PROT_READ} << 16;
  f.memory.before(limited);
  CHECK_FALSE(f.knows(0, 1));
  CHECK(f.knows(1, 3));
}

TEST_CASE("what was mapped piece by piece is known as one", "[private_memory]") {
  Fixture f;
  for (const std::uint64_t page : {4, 5, 3, 9}) f.memory.add(kAt + page * kPage, kPage);
  CHECK(f.knows(3, 3));
  CHECK(f.knows(9, 1));
  CHECK_FALSE(f.knows(2, 2));
  CHECK_FALSE(f.knows(5, 2));
  f.memory.forget(kAt + 4 * kPage, kPage);
  CHECK(f.knows(3, 1));
  CHECK(f.knows(5, 1));
  CHECK_FALSE(f.knows(4, 1));
}

TEST_CASE("what a call may make something else of is forgotten, the rest stays",
          "[private_memory]") {
  Fixture f;
  f.map(0, 16);
  SECTION("munmap in the middle") {
    f.memory.before(request(protocol::kCallMunmap, kAt + 4 * kPage, kPage));
    CHECK(f.knows(0, 4));
    CHECK_FALSE(f.knows(4, 1));
    CHECK(f.knows(5, 11));
  }
  SECTION("minherit at the start") {
    f.memory.before(request(protocol::kCallMinherit, kAt, kPage));
    CHECK_FALSE(f.knows(0, 1));
    CHECK(f.knows(1, 15));
  }
  SECTION("MADV_DONTFORK, for a child has nothing there") {
    TrapRequest advised = request(protocol::kCallMadvise, kAt + 4 * kPage, kPage);
    advised.args[2] = MADV_DONTNEED;
    f.memory.before(advised);
    CHECK(f.knows(0, 16));
    advised.args[2] = MADV_DONTFORK;
    f.memory.before(advised);
    CHECK(f.knows(0, 4));
    CHECK_FALSE(f.knows(4, 1));
    CHECK(f.knows(5, 11));
  }
  SECTION("mremap of the end") {
    f.memory.before(request(protocol::kCallMremap, kAt + 15 * kPage, kPage));
    CHECK(f.knows(0, 15));
    CHECK_FALSE(f.knows(15, 1));
  }
  SECTION("the target of an mremap") {
    TrapRequest moves = request(protocol::kCallMremap, kAt + 100 * kPage, kPage,
                                MREMAP_MAYMOVE | MREMAP_FIXED, kAt + 8 * kPage);
    moves.args[2] = 2 * kPage;
    f.memory.before(moves);
    CHECK(f.knows(0, 8));
    CHECK_FALSE(f.knows(8, 1));
    CHECK_FALSE(f.knows(9, 1));
    CHECK(f.knows(10, 6));
  }
  SECTION("MAP_FIXED over a part of a page") {
    f.memory.before(request(protocol::kCallMmap, kAt + 8 * kPage, 1, MAP_FIXED | MAP_PRIVATE));
    CHECK_FALSE(f.knows(8, 1));
    CHECK(f.knows(9, 7));
  }
  SECTION("a hint alone changes nothing") {
    f.memory.before(request(protocol::kCallMmap, kAt + 8 * kPage, kPage, MAP_PRIVATE));
    CHECK(f.knows(0, 16));
  }
  SECTION("a length that wraps around") {
    f.memory.before(request(protocol::kCallMunmap, kAt + 8 * kPage, ~std::uint64_t{0}));
    CHECK(f.knows(0, 8));
    CHECK_FALSE(f.knows(8, 8));
  }
}

TEST_CASE("more mappings than there is room for push out the oldest", "[private_memory]") {
  Fixture f;
  for (std::uint64_t i = 0; i < 200; ++i) f.map(2 * i, 1);
  CHECK_FALSE(f.knows(0, 1));
  for (std::uint64_t i = 200 - 64; i < 200; ++i) CHECK(f.knows(2 * i, 1));
}
