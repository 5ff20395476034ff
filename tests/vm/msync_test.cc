#include <catch2/catch.hpp>

#include <cerrno>
#include <sys/mman.h>

#include "tests/vm/test_machine.h"

using namespace test;
using vm::Transfer;

namespace {

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(8 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at =
      program->mmap(0, 8 * kPage, bsd::kReadWrite, bsd::kShared, file.open()).value;

  unsigned byte(std::uint64_t offset) const { return static_cast<unsigned>(file.at(offset)); }
  std::size_t count(Transfer::Kind kind) const { return machine.pagers.records(kind).size(); }
};

}  // namespace

TEST_CASE("msync writes what was stored and has it made durable, then answers", "[msync]") {
  Fixture f;
  f.program->store(f.at + 2 * kPage, 31);
  f.program->store(f.at + 3 * kPage, 32);
  f.program->store(f.at + 6 * kPage, 33);
  CHECK(f.program->msync(f.at, 8 * kPage, bsd::kSync).ok());
  CHECK(f.byte(2 * kPage) == 31);
  CHECK(f.byte(3 * kPage) == 32);
  CHECK(f.byte(6 * kPage) == 33);
  // Neighbours go together, and the sync comes last.
  const auto records = f.machine.pagers.records();
  REQUIRE(f.count(Transfer::Kind::page_out) == 2);
  CHECK(f.machine.pagers.records(Transfer::Kind::page_out)[0].pages.count() == 2);
  CHECK(f.count(Transfer::Kind::sync) == 1);
  CHECK(records.back().kind == Transfer::Kind::sync);
}

TEST_CASE("a second msync writes nothing that is not new", "[msync]") {
  Fixture f;
  f.program->store(f.at, 1);
  REQUIRE(f.program->msync(f.at, 8 * kPage, bsd::kSync).ok());
  f.machine.pagers.forget_records();
  REQUIRE(f.program->msync(f.at, 8 * kPage, bsd::kSync).ok());
  CHECK(f.count(Transfer::Kind::page_out) == 0);
  f.program->store(f.at + kPage, 2);
  REQUIRE(f.program->msync(f.at, 8 * kPage, bsd::kSync).ok());
  REQUIRE(f.count(Transfer::Kind::page_out) == 1);
  CHECK(f.byte(kPage) == 2);
}

TEST_CASE("msync writes only the pages of its range", "[msync]") {
  Fixture f;
  const unsigned before = f.byte(5 * kPage);
  f.program->store(f.at + kPage, 1);
  f.program->store(f.at + 5 * kPage, before + 1);
  REQUIRE(f.program->msync(f.at + kPage + 1, 1, bsd::kSync).ok());
  CHECK(f.byte(kPage) == 1);
  CHECK(f.byte(5 * kPage) == before);
}

TEST_CASE("msync of length 0 means the whole entry at the address", "[msync]") {
  Fixture f;
  f.program->store(f.at + 5 * kPage, 44);
  CHECK(f.program->msync(f.at + kPage, 0, bsd::kSync).ok());
  CHECK(f.byte(5 * kPage) == 44);
}

TEST_CASE("MS_ASYNC answers before the pager does", "[msync]") {
  Fixture f;
  const unsigned before = f.byte(0);
  f.program->store(f.at, before + 1);
  f.machine.pagers.hold(true);
  CHECK(f.program->msync(f.at, kPage, bsd::kAsync).ok());
  CHECK(f.byte(0) == before);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK(f.byte(0) == before + 1);
  CHECK(f.count(Transfer::Kind::sync) == 0);
}

TEST_CASE("MS_SYNC answers after the pager did", "[msync]") {
  Fixture f;
  f.program->store(f.at, 5);
  f.machine.pagers.hold(true);
  const auto call =
      f.program->start(f.program->request(protocol::kCallMsync, {f.at, kPage, bsd::kSync}));
  CHECK_FALSE(call->finished());
  f.machine.pagers.hold(false);
  REQUIRE(f.machine.pagers.pump());
  CHECK_FALSE(call->finished());  // written, not yet durable
  f.machine.pagers.pump_all();
  REQUIRE(call->finished());
  CHECK(call->result().ok());
}

TEST_CASE("MS_ASYNC with MS_INVALIDATE is EINVAL, after the range and before the map",
          "[msync]") {
  Fixture f;
  CHECK(f.program->msync(f.at, kPage, bsd::kAsync | bsd::kInvalidate).error == EINVAL);
  CHECK(f.program->msync(f.at, ~std::uint64_t{0}, bsd::kSync).error == EINVAL);
  f.program->abi = protocol::kAbiLinux;
  CHECK(f.program->msync(f.at, kPage, MS_ASYNC | MS_INVALIDATE).error == EINVAL);
  CHECK(f.program->msync(f.at, kPage, MS_SYNC | MS_INVALIDATE).ok());
}

TEST_CASE("msync with a hole in the range is EINVAL and writes nothing", "[msync]") {
  Fixture f;
  const unsigned before = f.byte(0);
  f.program->store(f.at, before + 1);
  REQUIRE(f.program->munmap(f.at + 4 * kPage, kPage).ok());
  CHECK(f.program->msync(f.at, 8 * kPage, bsd::kSync).error == EINVAL);
  CHECK(f.program->msync(f.at + 4 * kPage, kPage, bsd::kSync).error == EINVAL);
  CHECK(f.program->msync(f.at + 4 * kPage, 0, bsd::kSync).error == EINVAL);
  CHECK(f.byte(0) == before);
}

TEST_CASE("MS_INVALIDATE of wired memory is EBUSY", "[msync]") {
  Fixture f;
  REQUIRE(f.program->mlock(f.at + kPage, kPage).ok());
  CHECK(f.program->msync(f.at, 4 * kPage, bsd::kInvalidate).error == EBUSY);
  CHECK(f.program->msync(f.at, 4 * kPage, bsd::kSync).ok());
  CHECK(f.program->msync(f.at, kPage, bsd::kInvalidate).ok());
}

TEST_CASE("msync of private memory succeeds and writes nothing", "[msync]") {
  Fixture f;
  const auto anonymous = f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  const auto copy = f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kPrivate, f.file.open());
  f.program->store(anonymous.value, 1);
  f.program->store(copy.value, 1);
  CHECK(f.program->msync(anonymous.value, kPage, bsd::kSync).ok());
  CHECK(f.program->msync(copy.value, kPage, bsd::kSync).ok());
  CHECK(f.count(Transfer::Kind::page_out) == 0);
}

TEST_CASE("an error of the pager is msync's EIO, and the pages are written again later", "[msync]") {
  Fixture f;
  f.program->store(f.at, 71);
  f.machine.pagers.fail_next(Transfer::Kind::page_out, vm::error_from_errno(ENOSPC));
  CHECK(f.program->msync(f.at, kPage, bsd::kSync).error == EIO);
  CHECK(f.byte(0) != 71);
  CHECK(f.program->msync(f.at, kPage, bsd::kSync).ok());
  CHECK(f.byte(0) == 71);
}

TEST_CASE("an error of making it durable is msync's", "[msync]") {
  Fixture f;
  f.program->store(f.at, 71);
  f.machine.pagers.fail_next(Transfer::Kind::sync, vm::Error::io);
  CHECK(f.program->msync(f.at, kPage, bsd::kSync).error == EIO);
}

// The host has let go of what it could not write, and tells of it once.
TEST_CASE("what could not be made durable is written once more before msync succeeds", "[msync]") {
  Fixture f;
  f.program->store(f.at, 71);
  for (const auto& object : f.machine.machine.objects().all()) object->sync_with_file();
  f.machine.pagers.pump_all();
  f.program->store(f.at + 3 * kPage, 72);
  f.machine.pagers.fail_next(Transfer::Kind::sync, vm::Error::io);
  REQUIRE(f.program->msync(f.at, kPage, bsd::kSync).error == EIO);
  f.machine.pagers.forget_records();
  CHECK(f.program->msync(f.at, kPage, bsd::kSync).ok());
  CHECK(f.count(Transfer::Kind::page_out) == 1);
  f.machine.pagers.forget_records();
  CHECK(f.program->msync(f.at, kPage, bsd::kSync).ok());
  CHECK(f.count(Transfer::Kind::page_out) == 0);
}

TEST_CASE("a sync that fails fails every msync that counts on it", "[msync]") {
  Fixture f;
  f.program->store(f.at, 71);
  f.machine.pagers.hold(true);
  const auto request = f.program->request(protocol::kCallMsync, {f.at, kPage, bsd::kSync});
  const auto first = f.program->start(request);
  Program other(f.machine);
  const std::uint64_t at =
      other.mmap(0, 4 * kPage, bsd::kReadWrite, bsd::kShared, f.file.open()).value;
  const auto second = other.start(other.request(protocol::kCallMsync, {at, kPage, bsd::kSync}));
  f.machine.pagers.fail_next(Transfer::Kind::sync, vm::Error::io);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK(first->result().error == EIO);
  CHECK(second->result().error == EIO);
  CHECK(f.program->msync(f.at, kPage, bsd::kSync).ok());
}

TEST_CASE("msync writes what other programs stored in the same file", "[msync]") {
  Fixture f;
  Program other(f.machine);
  const auto theirs = other.mmap(0, 8 * kPage, bsd::kReadWrite, bsd::kShared, f.file.open());
  other.store(theirs.value + 3 * kPage, 90);
  CHECK(f.program->msync(f.at, 8 * kPage, bsd::kSync).ok());
  CHECK(f.byte(3 * kPage) == 90);
}

TEST_CASE("exit writes back what the program stored", "[exit]") {
  Fixture f;
  f.program->store(f.at + kPage, 61);
  CHECK(f.program->exit().ok());
  CHECK(f.byte(kPage) == 61);
  CHECK(f.count(Transfer::Kind::page_out) == 1);
}

TEST_CASE("exit answers though the pager fails", "[exit]") {
  Fixture f;
  f.program->store(f.at + kPage, 61);
  f.machine.pagers.fail_next(Transfer::Kind::page_out, vm::Error::io);
  CHECK(f.program->exit().ok());
}
