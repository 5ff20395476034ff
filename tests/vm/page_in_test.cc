// VmObject's way in: faults, clusters, pages in flight, failures.
#include <catch2/catch.hpp>

#include <algorithm>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::PageIndex;
using hal::PageRange;
using hal::SimResult;
using hal::VirtualAddress;
using vm::Transfer;

namespace {

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(2000 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at = map(*program);

  std::uint64_t map(Program& who, std::uint64_t flags = bsd::kShared) {
    return who.mmap(0, 2000 * kPage, bsd::kReadWrite, flags, file.open()).value;
  }
  std::vector<PageRange> asked() const {
    std::vector<PageRange> result;
    for (const auto& record : machine.pagers.records(Transfer::Kind::page_in)) {
      result.push_back(record.pages);
    }
    return result;
  }
  unsigned byte(std::uint64_t offset) const { return static_cast<unsigned>(file.at(offset)); }
  void fault(std::uint64_t page) {
    program->space().fault(VirtualAddress(at + page * kPage), false);
  }
};

PageRange pages(std::uint64_t first, std::uint64_t count) { return {PageIndex(first), count}; }

}  // namespace

TEST_CASE("a first fault asks for one cluster", "[page_in]") {
  Fixture f;
  CHECK(f.program->load(f.at + 100 * kPage) == f.byte(100 * kPage));
  REQUIRE(f.asked().size() == 1);
  CHECK(f.asked()[0].contains(PageIndex(100)));
  CHECK(f.asked()[0].count() >= 16);
  CHECK(f.machine.machine.counters().pageins == f.asked()[0].count());
}

// The map is ahead of the program then, and what it says now would be entered into the file's memory.
TEST_CASE("a fault between a call and its plan waits for the plan", "[page_in]") {
  Fixture f;
  const auto bystander = std::make_unique<Program>(f.machine);
  const std::uint64_t seen = f.map(*bystander);
  f.program->holds_plans = true;
  const auto call = f.program->start(f.program->request(
      protocol::kCallMmap, {f.at, 16 * kPage, bsd::kReadWrite,
                            bsd::kPrivate | bsd::kAnon | bsd::kFixed, ~std::uint64_t{0}, 0}));
  while (f.machine.pump()) continue;
  f.fault(3);
  while (f.machine.pump()) continue;
  CHECK(bystander->load(seen + 3 * kPage) == f.byte(3 * kPage));
  call->carry_out();
  CHECK(call->result().ok());
  CHECK(f.program->load(f.at + 3 * kPage) == 0);
  CHECK(bystander->load(seen + 4 * kPage) == f.byte(4 * kPage));
}

TEST_CASE("what lies just before the page comes along", "[page_in]") {
  Fixture f;
  f.program->load(f.at + 105 * kPage);
  REQUIRE(f.asked().size() == 1);
  CHECK(f.asked()[0].first() == PageIndex(96));
}

TEST_CASE("a walk through a file is never one request a page", "[page_in]") {
  Fixture f;
  REQUIRE(f.program->touch(f.at, 2000) == SimResult::done);
  const auto asked = f.asked();
  CHECK(asked.size() <= 9);
  CHECK(std::max_element(asked.begin(), asked.end(), [](auto a, auto b) {
          return a.count() < b.count();
        })->count() == 512);
  std::uint64_t total = 0;
  for (PageRange run : asked) total += run.count();
  CHECK(total == 2000);
}

TEST_CASE("only absent pages are asked for", "[page_in]") {
  Fixture f;
  REQUIRE(f.program->madvise(f.at, 2000 * kPage, bsd::kRandom).ok());
  for (std::uint64_t page : {20, 25, 26}) f.program->load(f.at + page * kPage);
  REQUIRE(f.program->madvise(f.at, 2000 * kPage, bsd::kSequential).ok());
  f.machine.pagers.forget_records();
  f.program->load(f.at + 22 * kPage);
  CHECK(f.asked().front() == pages(21, 4));
  for (const PageRange run : f.asked()) CHECK(run.first() > PageIndex(20));
}

TEST_CASE("a long walk has the pages behind the window on their way", "[page_in]") {
  Fixture f;
  f.machine.pagers.hold(true);
  REQUIRE(f.program->madvise(f.at, 2000 * kPage, bsd::kSequential).ok());
  f.fault(0);
  CHECK(f.asked() == std::vector{pages(0, 512), pages(512, 512)});
  f.fault(512);
  CHECK(f.asked() == std::vector{pages(0, 512), pages(512, 512), pages(1024, 512)});
  // Not past the end of the mapping.
  f.fault(1100);
  CHECK(f.asked().back() == pages(1536, 2000 - 1536));
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  for (std::uint64_t page = 0; page < 2000; ++page)
    REQUIRE(f.program->load(f.at + page * kPage) == f.byte(page * kPage));
  CHECK(f.asked().size() == 4);
}

TEST_CASE("a walk does not read ahead into memory that is short", "[page_in]") {
  TestMachine machine{{.memory_limit_pages = 1024}};
  FakeFile& file = machine.make_file(2000 * kPage);
  Program program(machine);
  const std::uint64_t at =
      program.mmap(0, 2000 * kPage, bsd::kReadWrite, bsd::kShared, file.open()).value;
  REQUIRE(program.madvise(at, 2000 * kPage, bsd::kSequential).ok());
  machine.pagers.hold(true);
  program.space().fault(VirtualAddress(at), false);
  CHECK(machine.pagers.records(Transfer::Kind::page_in).size() == 1);
  machine.pagers.hold(false);
  machine.pagers.pump_all();
}

TEST_CASE("the end of the object ends a cluster", "[page_in]") {
  Fixture f;
  f.program->load(f.at + 1999 * kPage);
  REQUIRE(f.asked().size() == 1);
  CHECK(f.asked()[0].end() == PageIndex(2000));
}

TEST_CASE("resident pages need neither a pager nor the server", "[page_in]") {
  Fixture f;
  REQUIRE(f.program->touch(f.at, 64) == SimResult::done);
  Program other(f.machine);
  const std::uint64_t theirs = f.map(other);
  f.machine.pagers.forget_records();
  CHECK(other.touch(theirs, 64) == SimResult::done);
  CHECK(other.space().fault_count() == 0);
  CHECK(f.asked().empty());
}

TEST_CASE("a fault on a page in flight waits, and is not asked for again", "[page_in]") {
  Fixture f;
  f.machine.pagers.hold(true);
  f.fault(100);
  f.fault(100);
  f.fault(105);
  CHECK(f.asked().size() == 1);
  CHECK(f.program->try_load(f.at + 101 * kPage) == SimResult::stuck);
  f.machine.pagers.hold(false);
  CHECK(f.program->load(f.at + 101 * kPage) == f.byte(101 * kPage));
  CHECK(f.asked().size() == 1);
}

TEST_CASE("runs in flight are cut out of a cluster, on both sides", "[page_in]") {
  Fixture f;
  f.machine.pagers.hold(true);
  REQUIRE(f.program->madvise(f.at, 2000 * kPage, bsd::kRandom).ok());
  f.fault(40);
  f.fault(60);
  REQUIRE(f.program->madvise(f.at, 2000 * kPage, bsd::kSequential).ok());
  f.fault(50);
  const auto asked = f.asked();
  CHECK(std::vector(asked.begin(), asked.begin() + 3) ==
        std::vector{pages(40, 1), pages(60, 1), pages(48, 12)});
  f.fault(47);
  CHECK(std::ranges::count(f.asked(), pages(41, 7)) == 1);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
}

TEST_CASE("everybody who maps a page is woken when it arrives", "[page_in]") {
  Fixture f;
  Program other(f.machine);
  const std::uint64_t theirs = f.map(other);
  f.machine.pagers.hold(true);
  hal::SimWaiter mine, others;
  std::byte byte{};
  REQUIRE(f.program->pmap().access(VirtualAddress(f.at), std::span(&byte, 1), false, mine) ==
          hal::SimAccess::missing);
  f.program->space().fault(VirtualAddress(f.at), false);
  REQUIRE(other.pmap().access(VirtualAddress(theirs), std::span(&byte, 1), false, others) ==
          hal::SimAccess::missing);
  other.space().fault(VirtualAddress(theirs), false);
  CHECK(f.asked().size() == 1);
  CHECK_FALSE(f.program->pmap().woken(mine));
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK(f.program->pmap().woken(mine));
  CHECK(other.pmap().woken(others));
}

TEST_CASE("a mapping that went while its page was on the way is not missed", "[page_in]") {
  Fixture f;
  f.machine.pagers.hold(true);
  f.fault(3);
  REQUIRE(f.program->munmap(f.at, 2000 * kPage).ok());
  CHECK(f.machine.machine.object_count() == 1);
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  CHECK(f.machine.machine.object_count() == 0);
}

TEST_CASE("a pager's error is a bus error for who touches what did not come", "[page_in]") {
  Fixture f;
  f.machine.pagers.fail_next(Transfer::Kind::page_in, vm::Error::io, 5);
  CHECK(f.program->try_load(f.at + 10 * kPage) == SimResult::bus_error);
  const PageRange asked = f.asked().at(0);
  REQUIRE(asked.first() == PageIndex(0));
  for (std::uint64_t page = 0; page < asked.count(); ++page) {
    CHECK(f.program->try_load(f.at + page * kPage) ==
          (page < 5 ? SimResult::done : SimResult::bus_error));
  }
  CHECK(f.program->load(f.at + asked.count() * kPage) == f.byte(asked.bytes()));
  CHECK(f.machine.machine.counters().failed_faults == 1);
}

TEST_CASE("a mapping made after a pager's error asks again", "[page_in]") {
  Fixture f;
  f.machine.pagers.fail_next(Transfer::Kind::page_in, vm::Error::io);
  CHECK(f.program->try_load(f.at) == SimResult::bus_error);
  const std::uint64_t again = f.map(*f.program);
  CHECK(f.program->load(again) == f.byte(0));
}

TEST_CASE("a page that a private mapping has copied survives a pager's error", "[page_in]") {
  Fixture f;
  const std::uint64_t copy = f.map(*f.program, bsd::kPrivate);
  f.program->store(copy, 200);
  const auto object_pages = f.asked().at(0);
  f.machine.machine.objects().all().at(0)->backing()->discard(object_pages);
  f.machine.pagers.fail_next(Transfer::Kind::page_in, vm::Error::io);
  CHECK(f.program->try_load(f.at) == SimResult::bus_error);
  CHECK(f.program->load(copy) == 200);
}

TEST_CASE("a file that shrank: what is behind its end is a bus error", "[page_in]") {
  Fixture f;
  f.program->load(f.at + 50 * kPage);
  f.file.resize(10 * kPage + 5);
  Program other(f.machine);
  const std::uint64_t theirs = f.map(other);
  CHECK(f.program->try_load(f.at + 50 * kPage) == SimResult::bus_error);
  CHECK(other.try_load(theirs + 11 * kPage) == SimResult::bus_error);
  CHECK(f.program->load(f.at + 9 * kPage) == f.byte(9 * kPage));
  CHECK(f.file.resizes == std::vector<std::uint64_t>{10 * kPage + 5});
}

TEST_CASE("a file that grew shows its new pages and the rest of its last one", "[page_in]") {
  TestMachine machine;
  FakeFile& file = machine.make_file(kPage + 100);
  Program program(machine);
  const auto map = [&] {
    return program.mmap(0, 4 * kPage, bsd::kRead, bsd::kShared, file.open(true, false)).value;
  };
  const std::uint64_t first = map();
  CHECK(program.load(first + kPage + 200) == 0);
  file.resize(3 * kPage);
  file.content[kPage + 200] = std::byte{201};
  file.content[2 * kPage + 7] = std::byte{202};
  const std::uint64_t second = map();
  CHECK(program.load(second + kPage + 200) == 201);
  CHECK(program.load(first + 2 * kPage + 7) == 202);
  CHECK(program.try_load(first + 3 * kPage) == SimResult::bus_error);
}

TEST_CASE("a file that changed since it was read is read again by the next mapping",
          "[page_in]") {
  TestMachine machine;
  FakeFile& file = machine.make_file(2 * kPage);
  Program program(machine);
  const auto map = [&](std::uint64_t protection) {
    return program.mmap(0, 2 * kPage, protection, bsd::kShared, file.open()).value;
  };
  const std::uint64_t first = map(bsd::kRead);
  CHECK(program.load(first) == static_cast<unsigned>(file.at(0)));
  file.change(0, std::byte{250});
  CHECK(program.load(map(bsd::kRead)) == 250);
  CHECK(program.load(first) == 250);
}

TEST_CASE("a file that a program may be writing is not read again", "[page_in]") {
  TestMachine machine;
  FakeFile& file = machine.make_file(2 * kPage);
  Program program(machine);
  const auto map = [&] {
    return program.mmap(0, 2 * kPage, bsd::kReadWrite, bsd::kShared, file.open()).value;
  };
  const std::uint64_t first = map();
  program.store(first + 1, 99);
  file.touch();
  CHECK(program.load(map() + 1) == 99);
}

TEST_CASE("a fault where nothing is mapped is let through for a while", "[page_in]") {
  Fixture f;
  // A race with the program's own munmap: the map has let go, the program has not done so yet.
  hal::Plan plan;
  {
    const auto guard = f.program->space().lock();
    f.program->space().remove({VirtualAddress(f.at), VirtualAddress(f.at + kPage)}, plan);
  }
  hal::SimWaiter waiter;
  std::byte byte{};
  REQUIRE(f.program->pmap().access(VirtualAddress(f.at), std::span(&byte, 1), false, waiter) ==
          hal::SimAccess::missing);
  f.program->space().fault(VirtualAddress(f.at), false);
  CHECK(f.program->pmap().woken(waiter));
  REQUIRE(f.program->pmap().apply(plan) == 0);
  CHECK(f.program->try_load(f.at) == SimResult::segmentation_fault);
}
