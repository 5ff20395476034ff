// mlock, munlock, mlockall and munlockall.
#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"

using namespace test;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;
constexpr std::uint64_t kCurrent = 1, kFuture = 2;

struct Fixture {
  TestMachine machine{{.max_wired_pages = 100}};
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at = program->mmap(0, 8 * kPage, bsd::kReadWrite, kAnonPrivate).value;

  bool locked(std::uint64_t address) {
    return program->pmap()
        .regions({hal::VirtualAddress(address), hal::VirtualAddress(address + 1)})[0]
        .locked;
  }
  std::uint64_t wired() { return program->space().wired_pages(); }
};

}  // namespace

TEST_CASE("wiring is the superuser's, before anything else is looked at", "[mlock]") {
  Fixture f;
  f.program->superuser = false;
  CHECK(f.program->mlock(f.at, ~std::uint64_t{0}).error == EPERM);
  CHECK(f.program->munlock(f.at, ~std::uint64_t{0}).error == EPERM);
  CHECK(f.program->mlockall(kCurrent).error == EPERM);
  CHECK(f.program->munlockall().error == EPERM);
  // mlockall alone looks at its flags first.
  CHECK(f.program->mlockall(0).error == EINVAL);
  CHECK(f.program->mlockall(4).error == EINVAL);
}

TEST_CASE("a range that wraps is EINVAL", "[mlock]") {
  Fixture f;
  CHECK(f.program->mlock(f.at, ~std::uint64_t{0}).error == EINVAL);
  CHECK(f.program->mlock(~std::uint64_t{0} - 10, 5).error == EINVAL);
  CHECK(f.program->munlock(f.at, ~std::uint64_t{0}).error == EINVAL);
}

TEST_CASE("more than the machine wires at all is ENOMEM", "[mlock]") {
  Fixture f;
  CHECK(f.program->mlock(f.at, 101 * kPage).error == ENOMEM);
}

TEST_CASE("more than RLIMIT_MEMLOCK is ENOMEM, more than is left of the machine's EAGAIN",
          "[mlock]") {
  Fixture f;
  f.program->memlock_limit = 4 * kPage;
  CHECK(f.program->mlock(f.at, 5 * kPage).error == ENOMEM);
  CHECK(f.program->mlock(f.at, 4 * kPage).ok());
  CHECK(f.program->mlock(f.at + 4 * kPage, kPage).error == ENOMEM);

  Program other(f.machine);
  const auto mapped = other.mmap(0, 98 * kPage, bsd::kReadWrite, kAnonPrivate);
  CHECK(other.mlock(mapped.value, 97 * kPage).error == EAGAIN);
  CHECK(other.mlock(mapped.value, 96 * kPage).ok());
  other.abi = protocol::kAbiLinux;
  CHECK(other.mlock(mapped.value + 97 * kPage, kPage).error == EAGAIN);
}

TEST_CASE("mlock with a hole in the range is ENOMEM", "[mlock]") {
  Fixture f;
  CHECK(f.program->mlock(f.at, 9 * kPage).error == ENOMEM);
  CHECK(f.program->munlock(f.at, 9 * kPage).error == ENOMEM);
  CHECK(f.wired() == 0);
}

TEST_CASE("mlock brings the pages in and locks them at the host", "[mlock]") {
  Fixture f;
  REQUIRE(f.program->mlock(f.at + kPage + 5, kPage).ok());
  CHECK(f.wired() == 2);
  CHECK_FALSE(f.locked(f.at));
  CHECK(f.locked(f.at + kPage));
  CHECK(f.locked(f.at + 2 * kPage));
  CHECK_FALSE(f.locked(f.at + 3 * kPage));
  const auto bits = f.program->mincore(f.at + kPage, 2 * kPage);
  CHECK(bits.data[0] != 0);
  CHECK(bits.data[1] != 0);
}

TEST_CASE("mlock of a file brings its pages in", "[mlock]") {
  Fixture f;
  FakeFile& file = f.machine.make_file(40 * kPage);
  const auto mapped = f.program->mmap(0, 40 * kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(f.program->mlock(mapped.value, 40 * kPage).ok());
  const std::uint64_t faults = f.program->space().fault_count();
  CHECK(f.program->touch(mapped.value, 40) == hal::SimResult::done);
  CHECK(f.program->space().fault_count() == faults);
}

TEST_CASE("pages that cannot be brought in are ENOMEM, and nothing is wired", "[mlock]") {
  Fixture f;
  FakeFile& file = f.machine.make_file(2 * kPage);
  const auto mapped = f.program->mmap(0, 4 * kPage, bsd::kRead, bsd::kShared, file.open());
  CHECK(f.program->mlock(mapped.value, 4 * kPage).error == ENOMEM);
  CHECK(f.wired() == 0);
}

TEST_CASE("wiring twice counts once, and one munlock undoes it", "[mlock]") {
  Fixture f;
  REQUIRE(f.program->mlock(f.at, 4 * kPage).ok());
  REQUIRE(f.program->mlock(f.at + 2 * kPage, 4 * kPage).ok());
  CHECK(f.wired() == 6);
  CHECK(f.machine.machine.wired_pages() == 6);
  REQUIRE(f.program->munlock(f.at, 8 * kPage).ok());
  CHECK(f.wired() == 0);
  CHECK(f.machine.machine.wired_pages() == 0);
  CHECK_FALSE(f.locked(f.at));
  CHECK(f.program->space().map().entry_count() == 1);
}

TEST_CASE("what is unmapped is no longer wired", "[mlock]") {
  Fixture f;
  REQUIRE(f.program->mlock(f.at, 8 * kPage).ok());
  REQUIRE(f.program->munmap(f.at, 3 * kPage).ok());
  CHECK(f.machine.machine.wired_pages() == 5);
  f.program->kill();
  CHECK(f.machine.machine.wired_pages() == 0);
}

TEST_CASE("the host's own memory can be wired again and again", "[mlock]") {
  Fixture f;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(f.program->mlock(kData, 4 * kPage).ok());
    CHECK(f.wired() == 4);
    // Something takes a new picture of the host's mappings.
    REQUIRE(f.program->mincore(kData, kPage).ok());
    CHECK(f.wired() == 4);
    REQUIRE(f.program->munlock(kData, 4 * kPage).ok());
    CHECK(f.wired() == 0);
  }
}

TEST_CASE("mlockall(MCL_CURRENT) wires what there is", "[mlock]") {
  Fixture f;
  const auto none = f.program->mmap(0, kPage, bsd::kNone, kAnonPrivate);
  REQUIRE(f.program->mlockall(kCurrent).ok());
  CHECK(f.locked(f.at));
  CHECK(f.locked(kData));
  CHECK_FALSE(f.locked(none.value));
  const auto later = f.program->mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  CHECK_FALSE(f.locked(later.value));
}

TEST_CASE("mlockall(MCL_FUTURE) wires what comes, until munlockall", "[mlock]") {
  Fixture f;
  REQUIRE(f.program->mlockall(kFuture).ok());
  CHECK_FALSE(f.locked(f.at));
  const auto later = f.program->mmap(0, 3 * kPage, bsd::kReadWrite, kAnonPrivate);
  CHECK(f.locked(later.value));
  CHECK(f.wired() == 3);
  REQUIRE(f.program->munlockall().ok());
  CHECK(f.wired() == 0);
  CHECK_FALSE(f.locked(later.value));
  const auto last = f.program->mmap(0, 3 * kPage, bsd::kReadWrite, kAnonPrivate);
  CHECK_FALSE(f.locked(last.value));
}

TEST_CASE("mlockall that cannot lock everything is EAGAIN", "[mlock]") {
  Fixture f;
  f.program->pmap().fail_next(hal::Step::Kind::lock, ENOMEM);
  CHECK(f.program->mlockall(kCurrent).error == EAGAIN);
  CHECK(f.wired() == 0);
}

TEST_CASE("a mapping that MCL_FUTURE cannot lock stays in freebsd-7", "[mlock]") {
  Fixture f;
  REQUIRE(f.program->mlockall(kFuture).ok());
  f.program->pmap().fail_next(hal::Step::Kind::lock, ENOMEM);
  const auto mapped = f.program->mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(mapped.ok());
  f.program->store(mapped.value, 1);
}

TEST_CASE("a mapping that MCL_FUTURE cannot lock is taken back by other rules", "[mlock]") {
  for (const auto& [personality, error] :
       {std::pair("freebsd-14", ENOMEM), std::pair("linux", EAGAIN)}) {
    TestMachine machine({.personality = personality});
    Program program(machine);
    REQUIRE(program.mlockall(kFuture).ok());
    program.pmap().fail_next(hal::Step::Kind::lock, ENOMEM);
    CHECK(program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate).error == error);
    CHECK(program.space().wired_pages() == 0);
    CHECK(program.space().map().managed_bytes() == 0);
    const auto mapped = program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
    REQUIRE(mapped.ok());
    CHECK(program.space().wired_pages() == 1);
  }
}

namespace {

/// A machine that wires enough to promise some of it.
struct Generous {
  static constexpr std::uint64_t kMost = 4096;
  TestMachine machine{{.max_wired_pages = kMost}};
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at = program->mmap(0, 256 * kPage, bsd::kReadWrite, kAnonPrivate).value;

  std::uint64_t credit() { return program->space().lock_credit(); }
  std::uint64_t wired() { return machine.machine.wired_pages(); }
  std::uint64_t promised() { return machine.machine.promised_pages(); }
  /// Locks by itself, and says so.
  bool tell(std::uint64_t page, std::uint64_t pages) {
    return program->space().note(
        program->request(protocol::kCallMlock, {at + page * kPage, pages * kPage}), program->pid);
  }
};

}  // namespace

TEST_CASE("who has locked something may lock a little more without asking", "[mlock]") {
  Generous f;
  CHECK(f.credit() == 0);
  CHECK_FALSE(f.tell(0, 1));
  REQUIRE(f.program->mlock(f.at, kPage).ok());
  const std::uint64_t credit = f.credit();
  REQUIRE(credit > 1);
  CHECK(f.promised() == credit);
  CHECK(f.tell(1, credit - 1));
  CHECK(f.wired() == credit);
  CHECK(f.credit() == 1);
  CHECK(f.promised() == 1);
  CHECK_FALSE(f.tell(100, 2));
  CHECK(f.wired() == credit);
  // Once more wires nothing more, and is paid for.
  CHECK(f.tell(1, 1));
  CHECK(f.wired() == credit);
  CHECK_FALSE(f.tell(1, 1));
  // The next call of the same kind renews it, and any other takes it away.
  REQUIRE(f.program->mlock(f.at, kPage).ok());
  CHECK(f.credit() == credit);
  REQUIRE(f.program->madvise(f.at, kPage, 0).ok());
  CHECK(f.credit() == 0);
  CHECK(f.promised() == 0);
}

TEST_CASE("only plain memory can be locked without asking", "[mlock]") {
  Generous f;
  REQUIRE(f.program->mlock(f.at, kPage).ok());
  CHECK_FALSE(f.tell(300, 1));
  CHECK_FALSE(f.tell(255, 2));
  CHECK(f.wired() == 1);
}

TEST_CASE("no credit where RLIMIT_MEMLOCK or the machine's maximum is near", "[mlock]") {
  Generous f;
  f.program->memlock_limit = 10 * kPage;
  REQUIRE(f.program->mlock(f.at, kPage).ok());
  CHECK(f.credit() == 0);
  f.program->memlock_limit = ~std::uint64_t{0};
  REQUIRE(f.program->mlock(f.at, 256 * kPage).ok());
  CHECK(f.credit() != 0);
  Program other(f.machine);
  const auto large = other.mmap(0, 3000 * kPage, bsd::kReadWrite, kAnonPrivate).value;
  REQUIRE(other.mlock(large, 3000 * kPage).ok());
  CHECK(other.space().lock_credit() == 0);
}

TEST_CASE("what is promised counts against the machine's maximum, and ends with its program",
          "[mlock]") {
  Generous f;
  Program other(f.machine);
  const auto large = other.mmap(0, Generous::kMost * kPage, bsd::kReadWrite, kAnonPrivate).value;
  REQUIRE(f.program->mlock(f.at, kPage).ok());
  REQUIRE(f.promised() != 0);
  CHECK(other.mlock(large, (Generous::kMost - 1) * kPage).error == EAGAIN);
  f.program.reset();
  CHECK(f.promised() == 0);
  CHECK(other.mlock(large, Generous::kMost * kPage).ok());
}

TEST_CASE("mlock of nothing succeeds", "[mlock]") {
  Fixture f;
  CHECK(f.program->mlock(f.at, 0).ok());
  CHECK(f.program->munlock(f.at, 0).ok());
  CHECK(f.wired() == 0);
}
