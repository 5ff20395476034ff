#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <sys/mman.h>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;
using vm::Transfer;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(64 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at = program->mmap(0, 4 * kPage, bsd::kReadWrite, kAnonPrivate).value;

  std::uint64_t map_file(std::uint64_t flags) {
    return program->mmap(0, 64 * kPage, bsd::kReadWrite, flags, file.open()).value;
  }
  void host_numbers() { program->abi = protocol::kAbiLinux; }
};

}  // namespace

TEST_CASE("MADV_PROTECT is the superuser's, and looks at no address", "[madvise]") {
  Fixture f;
  CHECK(f.program->madvise(0, ~std::uint64_t{0}, bsd::kProtect).ok());
  f.program->superuser = false;
  CHECK(f.program->madvise(0, 0, bsd::kProtect).error == EPERM);
}

TEST_CASE("unknown advice is EINVAL", "[madvise]") {
  Fixture f;
  CHECK(f.program->madvise(f.at, kPage, 11).error == EINVAL);
  CHECK(f.program->madvise(f.at, kPage, ~std::uint64_t{0}).error == EINVAL);
  CHECK(f.program->posix_madvise(f.at, kPage, 5).error == EINVAL);
  CHECK(f.program->posix_madvise(f.at, kPage, bsd::kProtect).error == EINVAL);
}

TEST_CASE("advice about addresses that no program has is EINVAL", "[madvise]") {
  Fixture f;
  CHECK(f.program->madvise(kLowest - kPage, kPage, bsd::kNormal).error == EINVAL);
  CHECK(f.program->madvise(kHighest, 1, bsd::kNormal).error == EINVAL);
  CHECK(f.program->madvise(f.at, ~std::uint64_t{0} - f.at, bsd::kNormal).error == EINVAL);
  CHECK(f.program->madvise(f.at, ~std::uint64_t{0}, bsd::kDontNeed).error == EINVAL);
  CHECK(f.program->posix_madvise(kHighest, 1, 0).error == EINVAL);
}

TEST_CASE("advice about a hole is no error", "[madvise]") {
  Fixture f;
  CHECK(f.program->madvise(f.at + 100 * kPage, kPage, bsd::kRandom).ok());
  CHECK(f.program->madvise(f.at, 100 * kPage, bsd::kSequential).ok());
}

TEST_CASE("FreeBSD's MADV_DONTNEED and POSIX_MADV_DONTNEED keep data", "[madvise]") {
  Fixture f;
  f.program->store(f.at, 5);
  CHECK(f.program->madvise(f.at, kPage, bsd::kDontNeed).ok());
  CHECK(f.program->load(f.at) == 5);
  CHECK(f.program->posix_madvise(f.at, kPage, 4).ok());
  CHECK(f.program->load(f.at) == 5);
  f.host_numbers();
  CHECK(f.program->posix_madvise(f.at, kPage, POSIX_MADV_DONTNEED).ok());
  CHECK(f.program->load(f.at) == 5);
}

TEST_CASE("Linux's MADV_DONTNEED throws private data away", "[madvise]") {
  Fixture f;
  f.host_numbers();
  f.program->store(f.at, 5);
  f.program->store(f.at + kPage, 6);
  CHECK(f.program->madvise(f.at, kPage, MADV_DONTNEED).ok());
  CHECK(f.program->load(f.at) == 0);
  CHECK(f.program->load(f.at + kPage) == 6);

  const std::uint64_t copy = f.map_file(bsd::kPrivate);
  f.program->store(copy, 99);
  CHECK(f.program->madvise(copy, kPage, MADV_DONTNEED).ok());
  CHECK(f.program->load(copy) == static_cast<unsigned>(f.file.at(0)));
}

TEST_CASE("Linux's MADV_DONTNEED of shared memory keeps its data", "[madvise]") {
  Fixture f;
  f.host_numbers();
  const std::uint64_t shared = f.map_file(bsd::kShared);
  f.program->store(shared + kPage, 99);
  CHECK(f.program->madvise(shared, 8 * kPage, MADV_DONTNEED).ok());
  CHECK(f.program->load(shared + kPage) == 99);
  CHECK(f.program->munmap(shared, 64 * kPage).ok());
  CHECK(static_cast<unsigned>(f.file.at(kPage)) == 99);
}

TEST_CASE("MADV_FREE lets data go only when memory runs short", "[madvise]") {
  Fixture f;
  f.program->store(f.at, 5);
  f.program->store(f.at + kPage, 6);
  CHECK(f.program->madvise(f.at, 2 * kPage, bsd::kFree).ok());
  CHECK(f.program->load(f.at) == 5);
  f.program->store(f.at + kPage, 7);  // wanted again
  f.program->pmap().drop_lazy_pages();
  CHECK(f.program->load(f.at) == 0);
  CHECK(f.program->load(f.at + kPage) == 7);
}

TEST_CASE("MADV_FREE of a file mapping keeps its data", "[madvise]") {
  Fixture f;
  const std::uint64_t copy = f.map_file(bsd::kPrivate);
  f.program->store(copy, 5);
  CHECK(f.program->madvise(copy, kPage, bsd::kFree).ok());
  f.program->pmap().drop_lazy_pages();
  CHECK(f.program->load(copy) == 5);
}

TEST_CASE("MADV_WILLNEED brings a file's pages in, in few large requests", "[madvise]") {
  Fixture f;
  const std::uint64_t shared = f.map_file(bsd::kShared);
  CHECK(f.program->load(shared + 20 * kPage) != 0);
  f.machine.pagers.forget_records();
  CHECK(f.program->madvise(shared, 64 * kPage, bsd::kWillNeed).ok());
  f.machine.pagers.pump_all();
  const auto in = f.machine.pagers.records(Transfer::Kind::page_in);
  CHECK(in.size() == 2);  // around what was there
  const std::uint64_t faults = f.program->space().fault_count();
  CHECK(f.program->touch(shared, 64) == SimResult::done);
  CHECK(f.program->space().fault_count() == faults);
}

TEST_CASE("MADV_WILLNEED asks for nothing twice", "[madvise]") {
  Fixture f;
  const std::uint64_t shared = f.map_file(bsd::kShared);
  f.machine.pagers.hold(true);
  f.program->space().fault(hal::VirtualAddress(shared + 20 * kPage), false);
  CHECK(f.program->madvise(shared, 64 * kPage, bsd::kWillNeed).ok());
  CHECK(f.program->madvise(shared, 64 * kPage, bsd::kWillNeed).ok());
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  std::uint64_t pages = 0;
  for (const auto& record : f.machine.pagers.records(Transfer::Kind::page_in)) {
    pages += record.pages.count();
  }
  CHECK(pages == 64);
}

TEST_CASE("MADV_RANDOM brings in single pages, MADV_SEQUENTIAL as many as possible",
          "[madvise]") {
  Fixture f;
  const std::uint64_t shared = f.map_file(bsd::kShared);
  REQUIRE(f.program->madvise(shared, 64 * kPage, bsd::kRandom).ok());
  f.program->load(shared + 5 * kPage);
  auto in = f.machine.pagers.records(Transfer::Kind::page_in);
  REQUIRE(in.size() == 1);
  CHECK(in[0].pages == hal::PageRange(hal::PageIndex(5), 1));
  REQUIRE(f.program->madvise(shared, 64 * kPage, bsd::kSequential).ok());
  f.machine.pagers.forget_records();
  f.program->load(shared + 16 * kPage);
  in = f.machine.pagers.records(Transfer::Kind::page_in);
  REQUIRE(in.size() == 1);
  CHECK(in[0].pages == hal::PageRange(hal::PageIndex(16), 48));
}

TEST_CASE("MADV_NOSYNC and MADV_AUTOSYNC mark the entries of the range", "[madvise]") {
  Fixture f;
  REQUIRE(f.program->madvise(f.at + kPage, kPage, bsd::kNoSyncAdvice).ok());
  const auto flagged = [&] {
    std::size_t count = 0;
    for (const auto& entry : f.program->entries()) {
      count += static_cast<std::size_t>(
          std::count(entry.flags.begin(), entry.flags.end(), "nosync"));
    }
    return count;
  };
  CHECK(flagged() == 1);
  REQUIRE(f.program->madvise(f.at, 4 * kPage, bsd::kAutoSync).ok());
  CHECK(flagged() == 0);
}

TEST_CASE("MADV_NOCORE and MADV_CORE take memory out of core dumps and put it back",
          "[madvise]") {
  Fixture f;
  const auto dumped = [&](std::uint64_t address) {
    return f.program->pmap()
        .regions({hal::VirtualAddress(address), hal::VirtualAddress(address + 1)})[0]
        .dumped;
  };
  REQUIRE(f.program->madvise(f.at + kPage, kPage, bsd::kNoCoreAdvice).ok());
  CHECK(dumped(f.at));
  CHECK_FALSE(dumped(f.at + kPage));
  REQUIRE(f.program->madvise(f.at, 4 * kPage, bsd::kCore).ok());
  CHECK(dumped(f.at + kPage));
}

TEST_CASE("advice rounds the address down and the end up", "[madvise]") {
  Fixture f;
  f.host_numbers();
  f.program->store(f.at + 10, 5);
  f.program->store(f.at + kPage + 10, 6);
  CHECK(f.program->madvise(f.at + 4000, 200, MADV_DONTNEED).ok());
  CHECK(f.program->load(f.at + 10) == 0);
  CHECK(f.program->load(f.at + kPage + 10) == 0);
}

TEST_CASE("MADV_REMOVE punches a hole into shared memory, for all who share it", "[madvise]") {
  Fixture f;
  f.host_numbers();
  const auto shared = f.program->mmap(0, 4 * kPage, PROT_READ | PROT_WRITE,
                                      MAP_SHARED | MAP_ANONYMOUS);
  const auto child = f.program->fork();
  f.program->store(shared.value, 5);
  f.program->store(shared.value + kPage, 6);
  CHECK(f.program->madvise(shared.value, kPage, MADV_REMOVE).ok());
  CHECK(child->load(shared.value) == 0);
  CHECK(child->load(shared.value + kPage) == 6);
  CHECK(f.program->madvise(f.at, kPage, MADV_REMOVE).error == EOPNOTSUPP);
}

TEST_CASE("advice about the host's own mappings is left to the host", "[madvise]") {
  Fixture f;
  f.host_numbers();
  CHECK(f.program->madvise(kData, 2 * kPage, MADV_DONTNEED).ok());
  REQUIRE(f.program->pmap().host_calls().size() == 1);
  CHECK(f.program->madvise(f.at, kPage, 23 /* MADV_POPULATE_WRITE */).ok());
  CHECK(f.program->pmap().host_calls().size() == 2);
}

TEST_CASE("known advice without meaning here succeeds", "[madvise]") {
  Fixture f;
  f.host_numbers();
  f.program->store(f.at, 3);
  for (int advice : {MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_MERGEABLE, 20 /* MADV_COLD */,
                     21 /* MADV_PAGEOUT */, 25 /* MADV_COLLAPSE */}) {
    CHECK(f.program->madvise(f.at, kPage, static_cast<std::uint64_t>(advice)).ok());
  }
  CHECK(f.program->load(f.at) == 3);
}

TEST_CASE("MADV_SEQUENTIAL takes the pages just behind first", "[madvise]") {
  Fixture f;
  const std::uint64_t at = f.program->mmap(0, 2048 * kPage, bsd::kReadWrite, kAnonPrivate).value;
  REQUIRE(f.program->madvise(at, 2048 * kPage, bsd::kSequential).ok());
  for (std::uint64_t page = 0; page < 2048; ++page) f.program->store(at + page * kPage, 1);
  const auto& behind = f.program->pmap().deactivated();
  REQUIRE(behind.size() >= 2);
  CHECK(behind.back().pages() == 512);
  CHECK(behind.back().end() <= hal::VirtualAddress(at + 2048 * kPage));
  for (std::uint64_t page = 0; page < 2048; ++page) CHECK(f.program->load(at + page * kPage) == 1);
}

TEST_CASE("FreeBSD's MADV_DONTNEED keeps the data and lets the pages go first", "[madvise]") {
  Fixture f;
  f.program->store(f.at + kPage, 5);
  REQUIRE(f.program->madvise(f.at + kPage, kPage, bsd::kDontNeed).ok());
  REQUIRE(f.program->pmap().deactivated().size() == 1);
  CHECK(f.program->pmap().deactivated().front().start() == hal::VirtualAddress(f.at + kPage));
  CHECK(f.program->load(f.at + kPage) == 5);
}

TEST_CASE("linux: advice that does not fit is EINVAL, a hole ENOMEM after the rest", "[madvise]") {
  TestMachine machine({.personality = "linux"});
  Program program(machine);
  program.abi = protocol::kAbiLinux;
  const auto map = [&](std::uint64_t flags) {
    return program.mmap(0, 3 * kPage, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS).value;
  };
  const std::uint64_t own = map(MAP_PRIVATE);
  const std::uint64_t shared = map(MAP_SHARED);
  CHECK(program.madvise(own + 1, kPage, MADV_NORMAL).error == EINVAL);
  CHECK(program.madvise(own, 0, MADV_NORMAL).ok());
  CHECK(program.madvise(shared, kPage, MADV_FREE).error == EINVAL);
  CHECK(program.madvise(shared, kPage, MADV_WIPEONFORK).error == EINVAL);
  CHECK(program.madvise(own, kPage, MADV_REMOVE).error == EINVAL);
  REQUIRE(program.mlock(own, kPage).ok());
  CHECK(program.madvise(own, kPage, MADV_DONTNEED).error == EINVAL);
  REQUIRE(program.munlock(own, kPage).ok());
  program.store(own, 1);
  program.store(own + 2 * kPage, 2);
  REQUIRE(program.munmap(own + kPage, kPage).ok());
  CHECK(program.madvise(own, 3 * kPage, MADV_DONTNEED).error == ENOMEM);
  CHECK(program.load(own) == 0);
  CHECK(program.load(own + 2 * kPage) == 0);
}
