// One view of a file: what others do to it, and what the syncer does.
#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;
using vm::Transfer;

namespace {

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(16 * kPage);
  Program program{machine};

  std::uint64_t map(std::uint64_t flags, std::uint64_t protection = bsd::kReadWrite) {
    return program.mmap(0, 16 * kPage, protection, flags, file.open()).value;
  }
  /// One pass of the syncer, and what it asked of the pager.
  void sync() {
    for (const auto& object : machine.machine.objects().all()) object->sync_with_file();
    machine.pagers.pump_all();
  }
  unsigned byte(std::uint64_t offset) const { return static_cast<unsigned>(file.at(offset)); }
};

}  // namespace

TEST_CASE("the syncer gives the file what programs stored", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared);
  f.program.store(at + 3 * kPage + 1, 77);
  CHECK(f.byte(3 * kPage + 1) != 77);
  f.sync();
  CHECK(f.byte(3 * kPage + 1) == 77);
  f.machine.pagers.forget_records();
  f.sync();
  CHECK(f.machine.pagers.records(Transfer::Kind::page_out).empty());
  f.program.store(at + 3 * kPage + 1, 78);
  f.sync();
  CHECK(f.byte(3 * kPage + 1) == 78);
}

TEST_CASE("the syncer leaves MAP_NOSYNC alone, msync does not", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared | bsd::kNoSync);
  f.program.store(at, 77);
  f.sync();
  CHECK(f.byte(0) != 77);
  CHECK(f.program.msync(at, kPage, bsd::kSync).ok());
  CHECK(f.byte(0) == 77);
}

TEST_CASE("what others write shows in mappings after a pass of the syncer", "[file_view]") {
  Fixture f;
  const std::uint64_t flags = GENERATE(bsd::kShared, bsd::kPrivate);
  const std::uint64_t at = f.map(flags, GENERATE(bsd::kRead, bsd::kReadWrite));
  f.program.load(at);
  f.file.change(9, std::byte{201});
  f.file.change(12 * kPage, std::byte{202});
  f.sync();
  CHECK(f.program.load(at + 9) == 201);
  CHECK(f.program.load(at + 12 * kPage) == 202);
}

TEST_CASE("what comes in while others write is looked at once more when they are done", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared, GENERATE(bsd::kRead, bsd::kReadWrite));
  f.program.load(at);
  f.file.change(5, std::byte{200});
  f.sync();
  f.program.load(at);
  f.file.change_late(9, std::byte{201});
  SECTION("before the syncer is there again") {}
  SECTION("and a lock was taken before it was done") {
    REQUIRE(f.program.call(f.program.request(protocol::kCallLocked)).ok());
    CHECK(f.program.load(at + 9) == 201);
    f.file.change_late(9, std::byte{202});
  }
  f.sync();
  CHECK(f.program.load(at + 9) == f.byte(9));
  // That was once.
  f.machine.pagers.forget_records();
  f.sync();
  f.program.load(at + 9);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).empty());
}

TEST_CASE("a page that came anew and was only loaded is not given to the file", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared);
  f.program.load(at + kPage);
  SECTION("after others changed it") {
    f.file.change(kPage, std::byte{201});
    f.sync();
  }
  SECTION("after it had gone with the end of the file") {
    f.program.store(at + kPage, 1);
    f.file.resize(kPage);
    f.sync();
    f.file.resize(4 * kPage);
    f.sync();
  }
  f.program.load(at + kPage);
  f.file.change(kPage + 9, std::byte{202});
  f.machine.pagers.forget_records();
  f.sync();
  f.sync();
  CHECK(f.machine.pagers.records(Transfer::Kind::page_out).empty());
  CHECK(f.byte(kPage + 9) == 202);
  CHECK(f.program.load(at + kPage + 9) == 202);
}

TEST_CASE("a private mapping keeps its own pages when the file changes", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kPrivate);
  f.program.store(at + 1, 50);
  const unsigned before = f.program.load(at);
  f.file.change(0, std::byte{201});
  f.sync();
  CHECK(f.program.load(at + 1) == 50);
  CHECK(f.program.load(at) == before);
  f.sync();
  CHECK(f.byte(1) != 50);
}

TEST_CASE("what a program stored and the file does not have yet survives a change by others",
          "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared);
  f.program.touch(at, 16);
  f.program.store(at + 2 * kPage, 60);
  f.file.change(5 * kPage, std::byte{201});
  SECTION("the syncer finds it") { f.sync(); }
  SECTION("a new mapping finds it") { CHECK(f.program.load(f.map(bsd::kShared) + 5 * kPage) == 201); }
  CHECK(f.program.load(at + 2 * kPage) == 60);
  CHECK(f.program.load(at + 5 * kPage) == 201);
  f.sync();
  CHECK(f.byte(2 * kPage) == 60);
  CHECK(f.byte(5 * kPage) == 201);
}

TEST_CASE("our own page-outs are no change by others", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared);
  f.program.touch(at, 16);
  f.program.store(at, 1);
  f.sync();
  f.machine.pagers.forget_records();
  f.sync();
  f.program.touch(at, 16);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).empty());
}

TEST_CASE("a change between two page-outs is found by what the pager says", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared);
  f.program.touch(at, 16);
  f.program.store(at, 1);
  f.sync();
  f.file.change(7 * kPage, std::byte{203});
  f.program.store(at, 2);
  REQUIRE(f.program.msync(at, kPage, bsd::kSync).ok());
  f.sync();
  CHECK(f.program.load(at + 7 * kPage) == 203);
}

TEST_CASE("pages on their way in when the file changes are asked for again", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared, bsd::kRead);
  f.machine.pagers.hold(true);
  f.program.space().fault(hal::VirtualAddress(at), false);
  f.file.touch();
  for (const auto& object : f.machine.machine.objects().all()) object->sync_with_file();
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  f.program.load(at);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).size() == 2);
}

TEST_CASE("a file that grows gets its new pages in existing mappings", "[file_view]") {
  Fixture f;
  f.file.resize(2 * kPage + 100);
  const std::uint64_t at = f.map(bsd::kShared);
  CHECK(f.program.load(at + 2 * kPage + 50) == f.byte(2 * kPage + 50));
  CHECK(f.program.try_load(at + 3 * kPage) == SimResult::bus_error);
  // Behind the end a store counts for nothing, also when the page is written for another one.
  f.program.store(at + 2 * kPage + 200, 9);
  f.program.store(at + 2 * kPage + 1, 8);
  f.file.resize(5 * kPage);
  f.file.change(2 * kPage + 300, std::byte{204});
  f.sync();
  CHECK(f.program.load(at + 2 * kPage + 300) == 204);
  CHECK(f.program.load(at + 2 * kPage + 200) == 0);
  CHECK(f.program.load(at + 2 * kPage + 1) == 8);
  CHECK(f.program.load(at + 4 * kPage) == 0);
  f.sync();
  CHECK(f.byte(2 * kPage + 1) == 8);
  CHECK(f.byte(2 * kPage + 200) == 0);
  CHECK(f.byte(2 * kPage + 300) == 204);
}

TEST_CASE("a file that shrinks loses its pages everywhere", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared);
  f.program.touch(at, 16);
  f.program.store(at + 2 * kPage + 500, 7);
  f.program.store(at + 9 * kPage, 7);
  f.file.resize(2 * kPage + 100);
  f.sync();
  CHECK(f.program.try_load(at + 3 * kPage) == SimResult::bus_error);
  CHECK(f.program.load(at + 2 * kPage + 99) == f.byte(2 * kPage + 99));
  CHECK(f.program.load(at + 2 * kPage + 500) == 0);
  f.sync();
  CHECK(f.file.content.size() == 2 * kPage + 100);
}

TEST_CASE("MS_INVALIDATE drops pages of a file that is mapped for writing", "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared);
  f.program.store(at, 1);
  f.program.load(at + 4 * kPage);
  f.file.content[4 * kPage] = std::byte{205};  // without any trace
  REQUIRE(f.program.msync(at, 16 * kPage, bsd::kInvalidate).ok());
  CHECK(f.program.load(at + 4 * kPage) == 205);
  CHECK(f.program.load(at) == 1);
  CHECK(f.byte(0) == 1);
}

TEST_CASE("a page-out that fails is tried again by later passes, ever more seldom",
          "[file_view]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared);
  f.program.store(at, 66);
  for (int i = 0; i < 2; ++i) {
    f.machine.pagers.fail_next(Transfer::Kind::page_out, vm::Error::io);
    f.sync();
    f.sync();
  }
  CHECK(f.byte(0) != 66);
  for (int i = 0; i < 8; ++i) f.sync();
  CHECK(f.byte(0) == 66);
}
