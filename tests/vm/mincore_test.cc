#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"

using namespace test;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;
constexpr std::uint8_t kInCore = 1, kReferenced = 2, kModified = 4, kReferencedOther = 8,
                       kModifiedOther = 16;

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(64 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at = program->mmap(0, 64 * kPage, bsd::kReadWrite, kAnonPrivate).value;

  std::uint8_t bits(std::uint64_t address) {
    const CallResult result = program->mincore(address, 1);
    REQUIRE(result.ok());
    REQUIRE(result.data.size() == 1);
    return result.data[0];
  }
  std::uint64_t map_file(Program& who) {
    return who.mmap(0, 64 * kPage, bsd::kReadWrite, bsd::kShared, file.open()).value;
  }
};

}  // namespace

TEST_CASE("mincore outside what a program may map is ENOMEM", "[mincore]") {
  Fixture f;
  CHECK(f.program->mincore(kHighest, kPage).error == ENOMEM);
  CHECK(f.program->mincore(kHighest - kPage, 2 * kPage).error == ENOMEM);
  CHECK(f.program->mincore(f.at, ~std::uint64_t{0}).error == ENOMEM);
  CHECK(f.program->mincore(f.at, ~std::uint64_t{0} - f.at).error == ENOMEM);
}

TEST_CASE("mincore with a hole anywhere in the range is ENOMEM", "[mincore]") {
  Fixture f;
  REQUIRE(f.program->munmap(f.at + 8 * kPage, kPage).ok());
  CHECK(f.program->mincore(f.at, 16 * kPage).error == ENOMEM);
  CHECK(f.program->mincore(f.at + 8 * kPage, kPage).error == ENOMEM);
  CHECK(f.program->mincore(f.at + 60 * kPage, 8 * kPage).error == ENOMEM);
  CHECK(f.program->mincore(f.at, 8 * kPage).ok());
}

TEST_CASE("a hole far behind the first part of a long answer is ENOMEM at once", "[mincore]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t pages = 2 * protocol::kMaxReplyData;
  const auto mapped = program.mmap(0, pages * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(program.munmap(mapped.value + (pages - 1) * kPage, kPage).ok());
  const auto result = program.mincore(mapped.value, pages * kPage);
  CHECK(result.error == ENOMEM);
  CHECK(result.data.empty());
}

TEST_CASE("mincore of nothing looks at the address only", "[mincore]") {
  Fixture f;
  CHECK(f.program->mincore(f.at, 0).ok());
  CHECK(f.program->mincore(f.at, 0).data.empty());
  CHECK(f.program->mincore(f.at + 1000 * kPage, 0).error == ENOMEM);
}

TEST_CASE("pages never touched are not in core", "[mincore]") {
  Fixture f;
  CHECK(f.bits(f.at) == 0);
  CHECK(f.bits(f.at + 63 * kPage) == 0);
}

TEST_CASE("a page that was read is in core and referenced, one that was written modified too",
          "[mincore]") {
  Fixture f;
  f.program->load(f.at);
  CHECK(f.bits(f.at) == (kInCore | kReferenced));
  f.program->store(f.at, 1);
  CHECK(f.bits(f.at) == (kInCore | kReferenced | kModified));
  f.program->abi = protocol::kAbiLinux;
  CHECK(f.bits(f.at) == 1);
}

TEST_CASE("the address is rounded down, and each page has its byte", "[mincore]") {
  Fixture f;
  f.program->store(f.at + 20 * kPage, 1);
  const auto result = f.program->mincore(f.at + 100, 24 * kPage);
  REQUIRE(result.ok());
  REQUIRE(result.data.size() == 24);
  CHECK(result.data[0] == 0);
  CHECK(result.data[20] != 0);
}

TEST_CASE("an object's page that only another program uses is in core and referenced by others",
          "[mincore]") {
  Fixture f;
  Program other(f.machine);
  const std::uint64_t mine = f.map_file(*f.program);
  const std::uint64_t theirs = f.map_file(other);
  other.load(theirs);
  CHECK(f.bits(mine) == (kInCore | kReferencedOther));
  other.store(theirs, 5);
  f.machine.pagers.hold(true);
  REQUIRE(other.msync(theirs, kPage, bsd::kAsync).ok());
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK((f.bits(mine) & kInCore) != 0);
  CHECK(f.bits(mine + 40 * kPage) == 0);
}

TEST_CASE("a page known to be written by others says so", "[mincore]") {
  Fixture f;
  Program other(f.machine);
  const std::uint64_t mine = f.map_file(*f.program);
  const std::uint64_t theirs = f.map_file(other);
  other.store(theirs, 5);
  // A write-back that fails leaves the page dirty.
  f.machine.pagers.fail_next(vm::Transfer::Kind::page_out, vm::Error::io);
  CHECK(other.msync(theirs, kPage, bsd::kSync).error == EIO);
  CHECK(f.bits(mine) == (kInCore | kReferencedOther | kModifiedOther));
}

TEST_CASE("a long answer comes in parts and is whole", "[mincore]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t pages = 2 * protocol::kMaxReplyData + 17;
  const auto mapped = program.mmap(0, pages * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(program.madvise(mapped.value, pages * kPage, bsd::kRandom).ok());
  const std::uint64_t touched[] = {0, 4095, 4096, 5000, 8191, 8192, pages - 1};
  for (std::uint64_t page : touched) program.store(mapped.value + page * kPage, 1);
  const auto result = program.mincore(mapped.value, pages * kPage);
  REQUIRE(result.ok());
  REQUIRE(result.data.size() == pages);
  std::uint64_t in_core = 0;
  for (std::uint8_t byte : result.data) in_core += byte & 1;
  CHECK(in_core == std::size(touched));
  for (std::uint64_t page : touched) CHECK(result.data[page] != 0);
}

TEST_CASE("an answer beyond what was asked for is refused", "[mincore]") {
  Fixture f;
  CHECK(f.program->call(f.program->request(protocol::kCallMincore, {f.at, kPage, 0, 2})).error ==
        ENOMEM);
}

TEST_CASE("mincore answers for the host's own mappings", "[mincore]") {
  Fixture f;
  f.program->store(kData, 1);
  CHECK((f.bits(kData) & kInCore) != 0);
}
