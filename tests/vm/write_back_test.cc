// VmObject's way out: what is written, when, and what happens when it fails.
#include <catch2/catch.hpp>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::PageIndex;
using hal::PageRange;
using hal::SimResult;
using vm::Transfer;

namespace {

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(64 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at = map(*program);

  std::uint64_t map(Program& who) {
    return who.mmap(0, 64 * kPage, bsd::kReadWrite, bsd::kShared, file.open()).value;
  }
  std::vector<PageRange> written() const {
    std::vector<PageRange> result;
    for (const auto& record : machine.pagers.records(Transfer::Kind::page_out)) {
      result.push_back(record.pages);
    }
    return result;
  }
  unsigned byte(std::uint64_t offset) const { return static_cast<unsigned>(file.at(offset)); }
};

PageRange pages(std::uint64_t first, std::uint64_t count) { return {PageIndex(first), count}; }

}  // namespace

TEST_CASE("pages that were only read are never written back", "[write_back]") {
  Fixture f;
  f.program->touch(f.at, 64);
  REQUIRE(f.program->msync(f.at, 64 * kPage, bsd::kSync).ok());
  REQUIRE(f.program->munmap(f.at, 64 * kPage).ok());
  CHECK(f.written().empty());
}

TEST_CASE("only written pages go out, neighbours together", "[write_back]") {
  Fixture f;
  for (std::uint64_t page : {3, 4, 5, 9}) f.program->store(f.at + page * kPage, 1);
  REQUIRE(f.program->munmap(f.at, 64 * kPage).ok());
  CHECK(f.written() == std::vector{pages(3, 3), pages(9, 1)});
  CHECK(f.machine.machine.counters().pageouts == 4);
}

TEST_CASE("the last unmapping writes back what another program left", "[write_back]") {
  Fixture f;
  Program other(f.machine);
  const std::uint64_t theirs = f.map(other);
  other.store(theirs + 7 * kPage, 71);
  f.machine.pagers.fail_next(Transfer::Kind::page_out, vm::Error::io);
  CHECK(other.msync(theirs, 64 * kPage, bsd::kSync).error == EIO);
  REQUIRE(other.munmap(theirs, 64 * kPage).ok());
  f.program->kill();
  f.machine.pagers.pump_all();
  CHECK(f.byte(7 * kPage) == 71);
  CHECK(f.machine.machine.object_count() == 0);
}

TEST_CASE("a killed program's resident pages count as written", "[write_back]") {
  Fixture f;
  f.program->load(f.at);  // some 16 pages become resident
  f.program->store(f.at + 2 * kPage, 72);
  f.program->kill();
  f.machine.pagers.pump_all();
  CHECK(f.byte(2 * kPage) == 72);
  CHECK(f.written() == std::vector{pages(0, 16)});
}

TEST_CASE("a killed program that could not write leaves nothing to write back", "[write_back]") {
  TestMachine machine;
  FakeFile& file = machine.make_file(8 * kPage);
  Program program(machine);
  const auto read = program.mmap(0, 8 * kPage, bsd::kRead, bsd::kShared, file.open());
  const auto copy = program.mmap(0, 8 * kPage, bsd::kReadWrite, bsd::kPrivate, file.open());
  program.touch(read.value, 8);
  program.store(copy.value, 1);
  program.kill();
  CHECK(machine.pagers.records(Transfer::Kind::page_out).empty());
}

TEST_CASE("a killed program's memory of which pages were written is not asked for", "[write_back]") {
  Fixture f;
  Program other(f.machine);
  const std::uint64_t theirs = f.map(other);
  other.store(theirs, 73);
  // Dead, but its session has not closed yet: the server cannot know what was written.
  other.pmap().kill();
  REQUIRE(f.program->msync(f.at, 64 * kPage, bsd::kSync).ok());
  CHECK(f.byte(0) == 73);
}

TEST_CASE("pages that could not be written are dirty again and go with the next try",
          "[write_back]") {
  Fixture f;
  f.program->store(f.at + kPage, 74);
  f.program->store(f.at + 5 * kPage, 75);
  f.machine.pagers.fail_next(Transfer::Kind::page_out, vm::Error::io);
  CHECK(f.program->msync(f.at, 64 * kPage, bsd::kSync).error == EIO);
  f.machine.pagers.forget_records();
  CHECK(f.program->msync(f.at, 64 * kPage, bsd::kSync).ok());
  CHECK(f.written() == std::vector{pages(1, 1)});
  CHECK(f.byte(kPage) == 74);
  CHECK(f.byte(5 * kPage) == 75);
}

TEST_CASE("an object stays until what it has to write back is written", "[write_back]") {
  Fixture f;
  f.program->store(f.at, 76);
  f.machine.pagers.hold(true);
  f.program->kill();
  CHECK(f.machine.machine.object_count() == 1);
  CHECK_FALSE(f.machine.machine.quiet());
  // Who maps the file meanwhile finds the pages, not the file as it is.
  Program other(f.machine);
  const std::uint64_t theirs = f.map(other);
  CHECK(other.load(theirs) == 76);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK(f.machine.machine.quiet());
  CHECK(f.byte(0) == 76);
}

TEST_CASE("pages on their way out are not thrown away because the file changed", "[write_back]") {
  Fixture f;
  Program reader(f.machine);
  f.program->store(f.at + 3 * kPage, 77);
  f.machine.pagers.hold(true);
  f.program->kill();
  f.file.touch();
  const auto again =
      reader.mmap(0, 64 * kPage, bsd::kRead, bsd::kShared, f.file.open(true, false));
  CHECK(reader.load(again.value + 3 * kPage) == 77);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK(f.byte(3 * kPage) == 77);
}

TEST_CASE("the machine tells when it has become quiet", "[write_back]") {
  TestMachine machine;
  int told = 0;
  machine.machine.when_quiet([&] { ++told; });
  FakeFile& file = machine.make_file(kPage);
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kReadWrite, bsd::kShared, file.open());
  program.store(mapped.value, 1);
  machine.pagers.hold(true);
  program.kill();
  CHECK(told == 0);
  machine.pagers.hold(false);
  machine.pagers.pump_all();
  CHECK(told == 1);
}

TEST_CASE("a store while a page is being written is written the next time", "[write_back]") {
  Fixture f;
  f.program->store(f.at, 1);
  f.machine.pagers.hold(true);
  const auto call =
      f.program->start(f.program->request(protocol::kCallMsync, {f.at, kPage, bsd::kSync}));
  f.program->store(f.at + 1, 2);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  REQUIRE(call->finished());
  f.machine.pagers.forget_records();
  REQUIRE(f.program->msync(f.at, kPage, bsd::kSync).ok());
  CHECK(f.written() == std::vector{pages(0, 1)});
  CHECK(f.byte(1) == 2);
}

TEST_CASE("munmap waits until the stores are with the pager", "[write_back]") {
  Fixture f;
  f.program->store(f.at, 3);
  f.machine.pagers.hold(true);
  const auto call =
      f.program->start(f.program->request(protocol::kCallMunmap, {f.at, 64 * kPage}));
  CHECK_FALSE(call->finished());
  // No store can slip in behind.
  CHECK(f.program->try_store(f.at, 4) == SimResult::segmentation_fault);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  REQUIRE(call->finished());
  CHECK(f.byte(0) == 3);
}

TEST_CASE("a file that shrank writes nothing behind its end", "[write_back]") {
  Fixture f;
  f.program->store(f.at + 3 * kPage, 1);
  f.program->store(f.at + 20 * kPage, 2);
  f.file.resize(10 * kPage);
  Program other(f.machine);
  f.map(other);
  REQUIRE(f.program->munmap(f.at, 64 * kPage).ok());
  CHECK(f.written() == std::vector{pages(3, 1)});
  CHECK(f.file.content.size() == 10 * kPage);
}

TEST_CASE("stores into the last page never grow the file", "[write_back]") {
  TestMachine machine;
  FakeFile& file = machine.make_file(kPage + 100);
  Program program(machine);
  const auto mapped = program.mmap(0, 2 * kPage, bsd::kReadWrite, bsd::kShared, file.open());
  program.store(mapped.value + kPage + 50, 1);
  program.store(mapped.value + kPage + 200, 2);
  REQUIRE(program.munmap(mapped.value, 2 * kPage).ok());
  CHECK(file.content.size() == kPage + 100);
  CHECK(static_cast<unsigned>(file.at(kPage + 50)) == 1);
}

TEST_CASE("shared anonymous memory has nowhere to be written", "[write_back]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, 4 * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared);
  program.store(mapped.value, 1);
  CHECK(program.msync(mapped.value, 4 * kPage, bsd::kSync).ok());
  program.kill();
  CHECK(machine.pagers.records(Transfer::Kind::page_out).empty());
}

TEST_CASE("two mappings of one page in one program are one page", "[write_back]") {
  Fixture f;
  const std::uint64_t second = f.map(*f.program);
  f.program->store(f.at + kPage, 8);
  CHECK(f.program->load(second + kPage) == 8);
  f.program->store(second + kPage + 1, 9);
  REQUIRE(f.program->munmap(f.at, 64 * kPage).ok());
  REQUIRE(f.program->munmap(second, 64 * kPage).ok());
  CHECK(f.byte(kPage) == 8);
  CHECK(f.byte(kPage + 1) == 9);
}

// The syncer, say, has taken a page off the dirty ones when somebody asks for it to be made durable.
TEST_CASE("a sync never overtakes the page-out of a page that somebody else has taken", "[write_back]") {
  Fixture f;
  f.program->store(f.at + 3 * kPage, 73);
  const auto object = f.machine.machine.objects().look_up(f.file.attributes.device,
                                                          f.file.attributes.inode);
  object->collect_written();
  std::mutex lock;
  std::condition_variable changed;
  bool synced = false;
  std::thread other;
  f.machine.pagers.before_submit([&](const Transfer& transfer) {
    std::unique_lock guard(lock);
    if (transfer.kind == Transfer::Kind::sync) {
      synced = true;
      changed.notify_all();
    } else if (!other.joinable()) {
      other = std::thread([&] { object->write_back(object->all_pages(), true, {}); });
      // As long as this may take, and the other one is not to get through meanwhile.
      changed.wait_for(guard, std::chrono::milliseconds(200), [&] { return synced; });
      CHECK_FALSE(synced);
    }
  });
  object->write_back(object->all_pages(), false, {});
  other.join();
  f.machine.pagers.before_submit({});
  f.machine.pagers.pump_all();
  const auto records = f.machine.pagers.records();
  const auto first_of = [&](Transfer::Kind kind) {
    return std::find_if(records.begin(), records.end(),
                        [&](const auto& record) { return record.kind == kind; });
  };
  REQUIRE(first_of(Transfer::Kind::sync) != records.end());
  CHECK(first_of(Transfer::Kind::page_out) < first_of(Transfer::Kind::sync));
  CHECK(f.byte(3 * kPage) == 73);
}

TEST_CASE("a sync fails with the page-out of somebody else that it waits for", "[write_back]") {
  Fixture f;
  const auto object = f.machine.machine.objects().look_up(f.file.attributes.device,
                                                          f.file.attributes.inode);
  const auto outcome_of = [&](PageRange asked) {
    f.program->store(f.at + 3 * kPage, 74);
    object->collect_written();
    f.machine.pagers.hold(true);
    f.machine.pagers.fail_next(Transfer::Kind::page_out, vm::Error::io);
    object->write_back(object->all_pages(), false, {});
    std::optional<vm::Error> outcome;
    object->write_back(asked, true, [&](vm::Error error) { outcome = error; });
    f.machine.pagers.hold(false);
    f.machine.pagers.pump_all();
    REQUIRE(outcome);
    return *outcome;
  };
  CHECK(outcome_of(pages(2, 4)) == vm::Error::io);
  CHECK(object->is_written(PageIndex(3)));
  // Of pages that it was not asked about it says nothing.
  CHECK(outcome_of(pages(10, 4)) == vm::Error::none);
  CHECK(f.program->msync(f.at, 64 * kPage, bsd::kSync).ok());
  CHECK(f.byte(3 * kPage) == 74);
}
