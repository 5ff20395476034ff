// One view of a file: what served programs do to it by read, write and their kin, as they announce it.
#include <catch2/catch.hpp>

#include <cerrno>
#include <chrono>
#include <thread>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;
using vm::Transfer;

namespace {

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(16 * kPage);
  Program program{machine};
  Program writer{machine};

  std::uint64_t map(std::uint64_t flags = bsd::kShared,
                    std::uint64_t protection = bsd::kReadWrite) {
    return program.mmap(0, 16 * kPage, protection, flags, file.open()).value;
  }
  protocol::TrapRequest on_file(protocol::CallNumber number, std::uint64_t from,
                                std::uint64_t to) const {
    return writer.request(number, {file.attributes.device, file.attributes.inode, from, to});
  }
  CallResult begin(std::uint64_t from, std::uint64_t to) {
    return writer.call(on_file(protocol::kCallFileChange, from, to));
  }
  CallResult end(std::uint64_t number, std::uint64_t from, std::uint64_t to) {
    return writer.call(writer.request(protocol::kCallFileChanged, {number, from, to}),
                       file.open());
  }
  /// A write of one byte, as a program does it.
  void write(std::uint64_t offset, unsigned value) {
    const CallResult begun = begin(offset, offset + 1);
    REQUIRE(begun.ok());
    REQUIRE(begun.value != 0);
    file.change(offset, static_cast<std::byte>(value));
    const CallResult ended = end(begun.value, offset, offset + 1);
    REQUIRE(ended.ok());
    REQUIRE(ended.value == 0);
  }
  void sync() {
    for (const auto& object : machine.machine.objects().all()) object->sync_with_file();
    machine.pagers.pump_all();
  }
  unsigned byte(std::uint64_t offset) const { return static_cast<unsigned>(file.at(offset)); }
  bool shown(const protocol::FileFilter& filter) const {
    const auto bit = protocol::board_bit(file.attributes.device, file.attributes.inode);
    return (filter.bits[bit / 64] >> bit % 64 & 1) != 0;
  }
  const protocol::FileBoard& board() { return machine.machine.file_board().shown(); }
  std::size_t page_outs() const {
    return machine.pagers.records(Transfer::Kind::page_out).size();
  }
};

}  // namespace

TEST_CASE("a write shows in mappings when it returns, and what was stored beside it stays",
          "[file_changes]") {
  Fixture f;
  const std::uint64_t flags = GENERATE(bsd::kShared, bsd::kPrivate);
  const std::uint64_t at = f.map(flags, flags == bsd::kShared ? bsd::kReadWrite : bsd::kRead);
  const unsigned before = f.program.load(at + kPage);
  if (flags == bsd::kShared) f.program.store(at + kPage + 1, 50);
  f.write(kPage + 7, 60);
  CHECK(f.program.load(at + kPage + 7) == 60);
  CHECK(f.program.load(at + kPage) == before);
  if (flags == bsd::kShared) {
    CHECK(f.program.load(at + kPage + 1) == 50);
    f.sync();
    CHECK(f.byte(kPage + 1) == 50);
    CHECK(f.byte(kPage + 7) == 60);
  }
}

TEST_CASE("what a write changes in pages that are there brings no page in", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.touch(at, 16);
  f.machine.pagers.forget_records();
  f.write(3 * kPage, 61);
  f.write(9 * kPage, 62);
  f.sync();
  f.program.touch(at, 16);
  CHECK(f.program.load(at + 9 * kPage) == 62);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).empty());
  CHECK(f.page_outs() == 0);
}

TEST_CASE("what a write changes in pages that are not there comes from the file", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.load(at);
  f.program.load(at + kPage);
  f.program.madvise(at, kPage, bsd::kNormal);
  const std::uint64_t absent = 15 * kPage + 5;
  f.write(absent, 63);
  CHECK(f.program.load(at + absent) == 63);
}

TEST_CASE("a page on its way in when a write ends is asked for again", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared, bsd::kRead);
  f.machine.pagers.hold(true);
  f.program.space().fault(hal::VirtualAddress(at), false);
  const CallResult begun = f.begin(0, 1);
  REQUIRE(begun.value != 0);
  f.file.change(0, std::byte{64});
  const auto ending =
      f.writer.start(f.writer.request(protocol::kCallFileChanged, {begun.value, 0, 1}),
                     f.file.open());
  CHECK_FALSE(ending->finished());
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK(ending->result().ok());
  CHECK(f.program.load(at) == 64);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_in).size() == 2);
}

TEST_CASE("nothing that was stored goes to a page while somebody writes it", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.store(at + 1, 50);
  f.program.store(at + 9 * kPage, 51);
  const CallResult begun = f.begin(0, 10);
  REQUIRE(begun.value != 0);
  const auto syncing =
      f.program.start(f.program.request(protocol::kCallMsync, {at, kPage, bsd::kSync}));
  f.machine.pagers.pump_all();
  CHECK_FALSE(syncing->finished());
  CHECK(f.page_outs() == 0);
  // Elsewhere it does.
  CHECK(f.program.msync(at + 9 * kPage, kPage, bsd::kSync).ok());
  CHECK(f.byte(9 * kPage) == 51);
  f.file.change(7, std::byte{60});
  CHECK(f.end(begun.value, 7, 8).value == 0);
  f.machine.pagers.pump_all();
  CHECK(syncing->result().ok());
  CHECK(f.byte(1) == 50);
  CHECK(f.byte(7) == 60);
}

TEST_CASE("a write waits for what is on its way to its pages", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.store(at + 1, 50);
  f.program.touch(at, 16);
  f.machine.pagers.hold(true);
  const auto syncing =
      f.program.start(f.program.request(protocol::kCallMsync, {at, kPage, bsd::kSync}));
  const auto beginning = f.writer.start(f.on_file(protocol::kCallFileChange, 7, 8));
  CHECK_FALSE(beginning->finished());
  // Not for what is on its way elsewhere.
  CHECK(f.begin(5 * kPage, 6 * kPage).value != 0);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK(syncing->result().ok());
  REQUIRE(beginning->result().ok());
  f.file.change(7, std::byte{60});
  CHECK(f.end(beginning->result().value, 7, 8).value == 0);
  CHECK(f.program.load(at + 7) == 60);
  CHECK(f.program.load(at + 1) == 50);
  f.writer.kill();
}

TEST_CASE("who waits for a write to end comes before the next one", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.store(at + 1, 50);
  const CallResult first = f.begin(0, 10);
  const auto syncing =
      f.program.start(f.program.request(protocol::kCallMsync, {at, kPage, bsd::kSync}));
  const auto second = f.writer.start(f.on_file(protocol::kCallFileChange, 0, 10));
  f.machine.pagers.pump_all();
  CHECK_FALSE(second->finished());
  REQUIRE(f.end(first.value, 0, 0).ok());
  f.machine.pagers.pump_all();
  CHECK(syncing->result().ok());
  CHECK(f.byte(1) == 50);
  REQUIRE(second->result().ok());
  CHECK(f.end(second->result().value, 0, 0).ok());
}

TEST_CASE("a program that ends within a write keeps nobody waiting", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.store(at + 1, 50);
  REQUIRE(f.begin(0, 10).value != 0);
  const auto syncing =
      f.program.start(f.program.request(protocol::kCallMsync, {at, kPage, bsd::kSync}));
  const auto waiting = f.writer.start(f.on_file(protocol::kCallFileChange, 0, 10));
  CHECK_FALSE(syncing->finished());
  f.writer.kill();
  f.machine.pagers.pump_all();
  CHECK(syncing->result().ok());
  CHECK(f.byte(1) == 50);
  CHECK(waiting->finished());
}

TEST_CASE("a write that takes too long is overtaken, and has to be made again", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.store(at + 1, 50);
  const CallResult begun = f.begin(0, 10);
  const auto syncing =
      f.program.start(f.program.request(protocol::kCallMsync, {at, kPage, bsd::kSync}));
  const auto begin = std::chrono::steady_clock::now();
  while (!syncing->finished() &&
         std::chrono::steady_clock::now() - begin < std::chrono::seconds(20)) {
    f.sync();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  CHECK(std::chrono::steady_clock::now() - begin > std::chrono::seconds(1));
  CHECK(syncing->result().ok());
  f.file.change(7, std::byte{60});
  CHECK(f.end(begun.value, 7, 8).value == 1);
  // The page-out may have hidden it: it is no news until it was made again.
  f.write(7, 61);
  CHECK(f.program.load(at + 7) == 61);
  CHECK(f.program.load(at + 1) == 50);
}

TEST_CASE("only who may write replaces what others stored", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.store(at + 1, 50);
  FakeFile& other = f.machine.make_file(kPage);
  const auto passed = GENERATE(0, 1, 2);
  const CallResult begun = f.begin(0, kPage);
  const auto ended = f.writer.request(protocol::kCallFileChanged, {begun.value, 0, kPage});
  const CallResult result = passed == 0   ? f.writer.call(ended)
                            : passed == 1 ? f.writer.call(ended, f.file.open(true, false))
                                          : f.writer.call(ended, other.open());
  CHECK(result.ok());
  CHECK(f.program.load(at + 1) == 50);
}

TEST_CASE("a change that nobody began ends in EINVAL", "[file_changes]") {
  Fixture f;
  f.map();
  CHECK(f.end(0, 0, 1).error == EINVAL);
  CHECK(f.end(12345678, 0, 1).error == EINVAL);
  const CallResult begun = f.begin(0, 1);
  // Another program's.
  CHECK(f.program.call(f.program.request(protocol::kCallFileChanged, {begun.value, 0, 1}),
                       f.file.open()).error == EINVAL);
  CHECK(f.end(begun.value, 0, 1).ok());
  CHECK(f.end(begun.value, 0, 1).error == EINVAL);
}

TEST_CASE("a file that nobody maps needs no announcing", "[file_changes]") {
  Fixture f;
  CHECK(f.begin(0, 1).value == 0);
  CHECK(f.writer.call(f.on_file(protocol::kCallFileRead, 0, 1)).ok());
}

TEST_CASE("a write that makes the file longer or shorter takes mappings along", "[file_changes]") {
  Fixture f;
  f.file.resize(2 * kPage + 100);
  const std::uint64_t at = f.map();
  f.program.store(at + 2 * kPage + 1, 50);
  f.program.store(at + 2 * kPage + 200, 51);  // behind the end
  CallResult begun = f.begin(0, ~std::uint64_t{0});
  f.file.resize(5 * kPage);
  CHECK(f.end(begun.value, 0, 0).ok());
  CHECK(f.program.load(at + 4 * kPage) == 0);
  CHECK(f.program.load(at + 2 * kPage + 200) == 0);
  CHECK(f.program.load(at + 2 * kPage + 1) == 50);
  f.program.store(at + 4 * kPage, 52);
  begun = f.begin(0, ~std::uint64_t{0});
  f.file.resize(kPage);
  CHECK(f.end(begun.value, 0, 0).ok());
  CHECK(f.program.try_load(at + 2 * kPage) == SimResult::bus_error);
  f.sync();
  CHECK(f.file.content.size() == kPage);
}

TEST_CASE("before a read the file has what was stored into its range", "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.store(at + 1, 50);
  f.program.store(at + 9 * kPage, 51);
  CHECK(f.writer.call(f.on_file(protocol::kCallFileRead, 0, 100)).ok());
  CHECK(f.byte(1) == 50);
  CHECK(f.byte(9 * kPage) != 51);
  CHECK(f.writer.call(f.on_file(protocol::kCallFileRead, 9 * kPage, ~std::uint64_t{0})).ok());
  CHECK(f.byte(9 * kPage) == 51);
}

TEST_CASE("a lock shows what others changed, and to give one up what was stored",
          "[file_changes]") {
  Fixture f;
  const std::uint64_t at = f.map();
  f.program.touch(at, 16);
  f.file.change(3 * kPage, std::byte{70});
  f.program.store(at, 71);
  CHECK(f.program.call(f.program.request(protocol::kCallLocked)).ok());
  CHECK(f.program.load(at + 3 * kPage) == 70);
  CHECK(f.byte(0) != 71);
  CHECK(f.program.call(f.program.request(protocol::kCallUnlock)).ok());
  CHECK(f.byte(0) == 71);
}

TEST_CASE("the board says which files are mapped, and which are stored into", "[file_changes]") {
  Fixture f;
  CHECK(f.board().mapped.files == 0);
  CHECK_FALSE(f.shown(f.board().mapped));
  const std::uint64_t at = f.map(bsd::kShared, bsd::kRead);
  // Opened for writing, it can become writable at any time.
  CHECK(f.shown(f.board().mapped));
  REQUIRE(f.program.munmap(at, 16 * kPage).ok());
  CHECK(f.board().mapped.files == 0);
  CHECK_FALSE(f.shown(f.board().mapped));

  const std::uint64_t private_one = f.map(bsd::kPrivate);
  CHECK(f.shown(f.board().mapped));
  CHECK(f.board().stored.files == 0);
  const std::uint64_t shared_one = f.map(bsd::kShared);
  CHECK(f.shown(f.board().stored));
  f.program.store(shared_one, 1);
  REQUIRE(f.program.munmap(shared_one, 16 * kPage).ok());
  f.machine.pagers.pump_all();
  CHECK(f.board().stored.files == 0);
  CHECK_FALSE(f.shown(f.board().stored));
  CHECK(f.board().mapped.files == 1);
  REQUIRE(f.program.munmap(private_one, 16 * kPage).ok());
  CHECK(f.board().mapped.files == 0);
}
