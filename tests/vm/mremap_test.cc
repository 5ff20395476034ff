// mremap, by the rules of Linux's mremap(2).
#include <catch2/catch.hpp>

#include <cerrno>
#include <sys/mman.h>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;

namespace {

constexpr std::uint64_t kDontUnmap = 4;
constexpr std::uint64_t kMayMove = MREMAP_MAYMOVE;
constexpr std::uint64_t kFixed = MREMAP_FIXED;

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(16 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);

  Fixture() { program->abi = protocol::kAbiLinux; }
  std::uint64_t anonymous(std::uint64_t pages, std::uint64_t hint = 0) {
    const auto mapped = program->mmap(hint, pages * kPage, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS);
    REQUIRE(mapped.ok());
    return mapped.value;
  }
  std::uint64_t shared(std::uint64_t pages) {
    const auto mapped =
        program->mmap(0, pages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.open());
    REQUIRE(mapped.ok());
    return mapped.value;
  }
  unsigned byte(std::uint64_t offset) const { return static_cast<unsigned>(file.at(offset)); }
};

}  // namespace

TEST_CASE("mremap refuses an unaligned address, no new length and unknown flags", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(2);
  CHECK(f.program->mremap(at + 1, kPage, 2 * kPage, kMayMove).error == EINVAL);
  CHECK(f.program->mremap(at, 2 * kPage, 0, kMayMove).error == EINVAL);
  CHECK(f.program->mremap(at, 2 * kPage, kPage, 0x80).error == EINVAL);
  CHECK(f.program->mremap(at, 2 * kPage, kPage, kFixed, at + 64 * kPage).error == EINVAL);
  CHECK(f.program->mremap(at, 0, kPage, kMayMove).error == EINVAL);
}

TEST_CASE("mremap to a fixed place refuses an unaligned or overlapping one", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(4);
  const std::uint64_t flags = kMayMove | kFixed;
  CHECK(f.program->mremap(at, 2 * kPage, 2 * kPage, flags, at + 1).error == EINVAL);
  CHECK(f.program->mremap(at, 2 * kPage, 2 * kPage, flags, at + kPage).error == EINVAL);
  CHECK(f.program->mremap(at, 2 * kPage, 2 * kPage, flags, 0).error == EINVAL);
}

TEST_CASE("mremap of a hole or of more than one mapping is EFAULT", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(4);
  CHECK(f.program->mremap(at + 8 * kPage, kPage, 2 * kPage, kMayMove).error == EFAULT);
  CHECK(f.program->mremap(at, 5 * kPage, 8 * kPage, kMayMove).error == EFAULT);
  REQUIRE(f.program->mprotect(at + kPage, kPage, PROT_READ).ok());
  CHECK(f.program->mremap(at, 4 * kPage, 8 * kPage, kMayMove).error == EFAULT);
}

TEST_CASE("mremap to a smaller size gives the tail back", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(4);
  f.program->store(at, 5);
  CHECK(f.program->mremap(at, 4 * kPage, 2 * kPage).value == at);
  CHECK(f.program->load(at) == 5);
  CHECK(f.program->try_load(at + 2 * kPage) == SimResult::segmentation_fault);
  CHECK(f.program->mremap(at, 2 * kPage, 2 * kPage).value == at);
  CHECK(f.program->mremap(at, 2 * kPage, kPage + 1).value == at);
  CHECK(f.program->try_load(at + kPage) == SimResult::done);
}

TEST_CASE("mremap grows in place where there is room", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(2);
  f.program->store(at + kPage, 6);
  CHECK(f.program->mremap(at, 2 * kPage, 4 * kPage).value == at);
  CHECK(f.program->load(at + kPage) == 6);
  CHECK(f.program->load(at + 3 * kPage) == 0);
  f.program->store(at + 3 * kPage, 7);
  CHECK(f.program->space().map().entry_count() == 1);
}

TEST_CASE("mremap without room and without MREMAP_MAYMOVE is ENOMEM", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(2);
  const std::uint64_t behind = f.anonymous(1, at + 2 * kPage);
  REQUIRE(behind == at + 2 * kPage);
  f.program->store(at, 3);
  // Both are one entry now; the first two pages of it cannot grow over the third.
  CHECK(f.program->mremap(at, 2 * kPage, 4 * kPage).error == ENOMEM);
  CHECK(f.program->load(at) == 3);
}

TEST_CASE("mremap moves private pages with their content", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(3);
  const std::uint64_t behind = f.anonymous(1);
  f.program->store(at, 1);
  f.program->store(at + kPage, 2);
  f.program->store(behind, 9);
  const auto moved = f.program->mremap(at, 2 * kPage, 6 * kPage, kMayMove);
  REQUIRE(moved.ok());
  REQUIRE(moved.value != at);
  CHECK(f.program->load(moved.value) == 1);
  CHECK(f.program->load(moved.value + kPage) == 2);
  CHECK(f.program->load(moved.value + 5 * kPage) == 0);
  CHECK(f.program->try_load(at) == SimResult::segmentation_fault);
  CHECK(f.program->load(at + 2 * kPage) == 0);
  CHECK(f.program->load(behind) == 9);
  // The room it left can be mapped again, empty.
  const std::uint64_t again = f.anonymous(2, at);
  CHECK(again == at);
  CHECK(f.program->load(again) == 0);
}

TEST_CASE("mremap to a fixed place replaces what is there", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(2);
  const std::uint64_t target = f.anonymous(4, at + 100 * kPage);
  f.program->store(at, 1);
  f.program->store(target, 2);
  f.program->store(target + 3 * kPage, 3);
  CHECK(f.program->mremap(at, 2 * kPage, 2 * kPage, kMayMove | kFixed, target).value == target);
  CHECK(f.program->load(target) == 1);
  CHECK(f.program->load(target + 3 * kPage) == 3);
  CHECK(f.program->try_load(at) == SimResult::segmentation_fault);
}

TEST_CASE("mremap to a fixed smaller place gives the tail back", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(4);
  f.program->store(at, 1);
  f.program->store(at + 3 * kPage, 4);
  const std::uint64_t target = at + 100 * kPage;
  CHECK(f.program->mremap(at, 4 * kPage, kPage, kMayMove | kFixed, target).value == target);
  CHECK(f.program->load(target) == 1);
  CHECK(f.program->try_load(target + kPage) == SimResult::segmentation_fault);
  CHECK(f.program->try_load(at + 3 * kPage) == SimResult::segmentation_fault);
}

TEST_CASE("mremap of a file mapping shows more of the file", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.shared(2);
  CHECK(f.program->load(at) == f.byte(0));
  CHECK(f.program->mremap(at, 2 * kPage, 4 * kPage).value == at);
  CHECK(f.program->load(at + 3 * kPage + 1) == f.byte(3 * kPage + 1));
}

TEST_CASE("mremap in place leaves a written file mapping accessible", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.shared(2);
  f.program->store(at + 1, 200);
  REQUIRE(f.program->mremap(at, 2 * kPage, 4 * kPage).value == at);
  CHECK(f.program->load(at + 1) == 200);
  f.program->store(at + 2, 201);
  f.program->store(at + 2 * kPage, 202);
  REQUIRE(f.program->munmap(at, 4 * kPage).ok());
  CHECK(f.byte(1) == 200);
  CHECK(f.byte(2) == 201);
  CHECK(f.byte(2 * kPage) == 202);
}

TEST_CASE("an mremap that fails leaves a written file mapping accessible", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.shared(2);
  f.anonymous(1);
  f.program->store(at, 9);
  CHECK(f.program->mremap(at, 2 * kPage, 4 * kPage).error == ENOMEM);
  CHECK(f.program->load(at) == 9);
  f.program->store(at, 10);
  const std::uint64_t target = f.shared(2);
  f.program->store(target, 11);
  f.program->pmap().fail_next(hal::Step::Kind::move, ENOMEM);
  CHECK(f.program->mremap(at, 2 * kPage, 2 * kPage, kMayMove | kFixed, kElsewhere).error ==
        ENOMEM);
  CHECK(f.program->load(at) == 11);
  f.program->pmap().fail_next(hal::Step::Kind::move, ENOMEM);
  CHECK(f.program->mremap(at, 2 * kPage, 8 * kPage, kMayMove).error == ENOMEM);
  CHECK(f.program->load(at) == 11);
  f.program->store(target, 12);
}

TEST_CASE("a file mapping grows step by step, as databases do", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.shared(1);
  for (std::uint64_t pages = 1; pages < 16; pages *= 2) {
    f.program->store(at + (pages - 1) * kPage, 50 + static_cast<unsigned>(pages));
    REQUIRE(f.program->mremap(at, pages * kPage, 2 * pages * kPage).value == at);
  }
  const auto moved = f.program->mremap(at, 16 * kPage, 16 * kPage, kMayMove | kFixed,
                                       at + 1000 * kPage);
  REQUIRE(moved.ok());
  for (std::uint64_t pages = 1; pages < 16; pages *= 2) {
    CHECK(f.program->load(moved.value + (pages - 1) * kPage) == 50 + pages);
  }
}

TEST_CASE("moving a written file mapping loses no store", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.shared(4);
  f.anonymous(1);
  f.program->store(at + kPage + 5, 123);
  const auto moved = f.program->mremap(at, 4 * kPage, 8 * kPage, kMayMove);
  REQUIRE(moved.ok());
  REQUIRE(moved.value != at);
  CHECK(f.program->load(moved.value + kPage + 5) == 123);
  f.program->store(moved.value + 6 * kPage, 124);
  f.program->kill();
  f.machine.pagers.pump_all();
  CHECK(f.byte(kPage + 5) == 123);
  CHECK(f.byte(6 * kPage) == 124);
}

TEST_CASE("a file that grew shows its new pages after mremap", "[mremap]") {
  Fixture f;
  FakeFile& file = f.machine.make_file(kPage);
  const auto mapped =
      f.program->mmap(0, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.open());
  f.program->store(mapped.value, 5);
  file.resize(3 * kPage);
  file.content[2 * kPage] = std::byte{99};
  const auto grown = f.program->mremap(mapped.value, kPage, 3 * kPage, kMayMove, 0, file.open());
  REQUIRE(grown.ok());
  CHECK(f.program->load(grown.value + 2 * kPage) == 99);
  CHECK(f.program->load(grown.value) == 5);
}

TEST_CASE("mremap to more than there can be fails and changes nothing", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(2);
  f.program->store(at, 5);
  // Longer than any address space is a wrong argument; what only does not fit is not.
  for (const auto& [bytes, error] :
       {std::pair(~std::uint64_t{0} - 2 * kPage, EINVAL), std::pair(std::uint64_t{1} << 63, EINVAL),
        std::pair(kHighest / 2 / kPage * kPage, ENOMEM)}) {
    CHECK(f.program->mremap(at, 2 * kPage, bytes, kMayMove).error == error);
    CHECK(f.program->mremap(at, 2 * kPage, bytes).error == error);
  }
  CHECK(f.program->load(at) == 5);
  CHECK(f.program->space().map().managed_bytes() == 2 * kPage);
}

TEST_CASE("what mremap adds is inherited and dumped as the rest is", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(1);
  REQUIRE(f.program->madvise(at, kPage, MADV_DONTFORK).ok());
  REQUIRE(f.program->madvise(at, kPage, MADV_DONTDUMP).ok());
  REQUIRE(f.program->mremap(at, kPage, 3 * kPage).value == at);
  for (const hal::SimRegion& region : f.program->pmap().regions(
           {hal::VirtualAddress(at), hal::VirtualAddress(at + 3 * kPage)})) {
    CHECK(region.inherit == hal::Inherit::none);
    CHECK_FALSE(region.dumped);
  }
  const auto child = f.program->fork();
  CHECK(child->try_load(at + 2 * kPage) == SimResult::segmentation_fault);
}

TEST_CASE("an mremap that fails leaves one mapping one", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(4);
  CHECK(f.program->mremap(at, 2 * kPage, 3 * kPage).error == ENOMEM);
  CHECK(f.program->mremap(at, 2 * kPage, 2 * kPage).ok());
  CHECK(f.program->space().map().entry_count() == 1);
}

TEST_CASE("the host's own mappings cannot be moved where the server's are", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(1);
  CHECK(f.program->mremap(kData, kPage, kPage, kMayMove | kFixed, at).error == ENOMEM);
  const auto elsewhere = f.program->mmap(kElsewhere, kPage, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS);
  REQUIRE(elsewhere.value == kElsewhere);
  CHECK(f.program->mremap(kData, kPage, kPage, kMayMove | kFixed, kElsewhere).error == ENOMEM);
  CHECK(f.program->pmap().host_calls().empty());
  CHECK(f.program->mremap(kData, kPage, kPage, kMayMove | kFixed, kElsewhere + 4 * kPage).ok());
}

TEST_CASE("mremap of the host's own mappings is left to the host", "[mremap]") {
  Fixture f;
  const auto moved = f.program->mremap(kData, 4 * kPage, 8 * kPage, kMayMove);
  CHECK(moved.ok());
  CHECK(moved.value_from_host);
  CHECK(f.program->pmap().host_calls().size() == 1);
}

TEST_CASE("mremap of a device is EINVAL", "[mremap]") {
  Fixture f;
  f.file.attributes.kind = hal::FileKind::character_device;
  f.file.host_memory = true;
  const std::uint64_t at = f.shared(2);
  CHECK(f.program->mremap(at, 2 * kPage, 4 * kPage, kMayMove).error == EINVAL);
}

TEST_CASE("MREMAP_DONTUNMAP leaves the old range mapped, and empty", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(2);
  f.program->store(at, 5);
  f.program->store(at + kPage, 6);
  const auto moved = f.program->mremap(at, 2 * kPage, 2 * kPage, kMayMove | kDontUnmap);
  REQUIRE(moved.ok());
  CHECK(moved.value != at);
  CHECK(f.program->load(moved.value) == 5);
  CHECK(f.program->load(moved.value + kPage) == 6);
  CHECK(f.program->load(at) == 0);
  f.program->store(at, 7);
  f.program->store(moved.value, 8);
  CHECK(f.program->load(at) == 7);
  CHECK(f.program->mremap(at, 2 * kPage, kPage, kMayMove | kDontUnmap).error == EINVAL);
  CHECK(f.program->mremap(at, 2 * kPage, 2 * kPage, kDontUnmap).error == EINVAL);
}

TEST_CASE("MREMAP_DONTUNMAP of a shared file goes on telling what is written", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.shared(2);
  f.program->store(at, 9);
  const auto moved = f.program->mremap(at, 2 * kPage, 2 * kPage, kMayMove | kDontUnmap);
  REQUIRE(moved.ok());
  f.program->store(moved.value + 1, 10);
  f.program->store(at + 2, 11);
  CHECK(f.program->load(moved.value) == 9);
  REQUIRE(f.program->munmap(moved.value, 2 * kPage).ok());
  REQUIRE(f.program->munmap(at, 2 * kPage).ok());
  CHECK(f.byte(0) == 9);
  CHECK(f.byte(1) == 10);
  CHECK(f.byte(2) == 11);
}

TEST_CASE("an old length of 0 maps shared pages once more, and refuses private ones", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.shared(2);
  f.program->store(at + kPage, 9);
  const auto twice = f.program->mremap(at + kPage, 0, kPage, kMayMove);
  REQUIRE(twice.ok());
  CHECK(f.program->load(twice.value) == 9);
  f.program->store(twice.value, 10);
  CHECK(f.program->load(at + kPage) == 10);
  CHECK(f.program->mremap(at, 0, kPage).error == ENOMEM);
  CHECK(f.program->mremap(f.anonymous(1), 0, kPage, kMayMove).error == EINVAL);
}

TEST_CASE("several mappings at once are moved, but not resized", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(4);
  for (std::uint64_t i = 0; i < 4; ++i) f.program->store(at + i * kPage, 10 + i);
  REQUIRE(f.program->mprotect(at + 2 * kPage, kPage, bsd::kRead).ok());
  const std::uint64_t target = at + 16 * kPage;
  CHECK(f.program->mremap(at, 4 * kPage, 5 * kPage, kMayMove | kFixed, target).error == EFAULT);
  REQUIRE(f.program->mremap(at, 4 * kPage, 4 * kPage, kMayMove | kFixed, target).value == target);
  for (std::uint64_t i = 0; i < 4; ++i) CHECK(f.program->load(target + i * kPage) == 10 + i);
  CHECK(f.program->try_store(target + 2 * kPage) == SimResult::segmentation_fault);
  f.program->store(target + 3 * kPage, 1);
  CHECK(f.program->try_load(at) == SimResult::segmentation_fault);
}

TEST_CASE("mremap moves to a place it claims and to one it is told", "[mremap]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t at = program.mmap(0, 2 * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate).value;
  REQUIRE(program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate).ok());
  program.store(at, 5);
  const auto moved = program.mremap(at, 2 * kPage, 8 * kPage, kMayMove);
  REQUIRE(moved.ok());
  CHECK(program.load(moved.value) == 5);
  program.store(moved.value + 7 * kPage, 6);
  CHECK(program.try_load(at) == SimResult::segmentation_fault);
  const auto fixed = program.mremap(moved.value, 8 * kPage, 8 * kPage, kMayMove | kFixed, kElsewhere);
  REQUIRE(fixed.value == kElsewhere);
  CHECK(program.load(kElsewhere + 7 * kPage) == 6);
}

TEST_CASE("mremap that finds the host's mapping behind it or where it would go tries elsewhere",
          "[mremap]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t at =
      program.mmap(0, 2 * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate).value;
  program.store(at + kPage, 5);
  // The map has not heard of these.
  program.pmap().add_host_mapping({hal::VirtualAddress(at + 2 * kPage),
                                   hal::VirtualAddress(at + 8 * kPage)},
                                  hal::Protection::read(), "/lib/late.so");
  const auto grown = program.mremap(at, 2 * kPage, 4 * kPage, kMayMove);
  REQUIRE(grown.ok());
  CHECK(grown.value == at + 8 * kPage);
  CHECK(program.load(grown.value + kPage) == 5);
  CHECK(program.pmap().regions({hal::VirtualAddress(at + 2 * kPage),
                                hal::VirtualAddress(at + 8 * kPage)})
            .size() == 1);
}

// A fault can be read late: its page has come meanwhile, and the thread that touched it is on.
TEST_CASE("a late fault of what was at the target leaves alone what is there now", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(32);
  const auto mapped = f.program->mmap(0, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, f.file.open());
  REQUIRE(mapped.ok());
  const auto touch_late = [&](std::uint64_t page) {
    f.program->space().fault(hal::VirtualAddress(at + page * kPage), false);
  };
  SECTION("at the target") {
    f.program->after_plan = [&] { touch_late(9); };
  }
  SECTION("just before it: what is read ahead ends there") {
    REQUIRE(f.program->touch(at, 6) == SimResult::done);
    f.program->after_plan = [&] { touch_late(6); };
  }
  REQUIRE(f.program->mremap(mapped.value, kPage, 8 * kPage, kMayMove | kFixed, at + 8 * kPage).ok());
  for (std::uint64_t page = 8; page < 16; ++page) {
    INFO("page " << page);
    CHECK(f.program->load(at + page * kPage) == f.byte((page - 8) * kPage));
  }
}

TEST_CASE("a fault of what is being moved is answered when it has moved", "[mremap]") {
  Fixture f;
  const std::uint64_t at = f.anonymous(4);
  const std::uint64_t to = at + 64 * kPage;
  hal::SimWaiter waiter;
  bool waits = false;
  f.program->after_plan = [&] {
    const hal::VirtualAddress page(to + kPage);
    REQUIRE(f.program->pmap().access(page, {}, false, waiter) == hal::SimAccess::missing);
    f.program->space().fault(page, false);
    waits = !f.program->pmap().woken(waiter);
  };
  REQUIRE(f.program->mremap(at, 4 * kPage, 4 * kPage, kMayMove | kFixed, to).ok());
  CHECK(waits);
  CHECK(f.program->pmap().woken(waiter));
  CHECK(f.program->load(to + kPage) == 0);
}
