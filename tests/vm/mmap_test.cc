// mmap: the checks of the seed's mmap() and vm_mmap(), in their order, and anonymous memory.
#include <catch2/catch.hpp>

#include <cerrno>
#include <sys/mman.h>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;

namespace {
constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;
}

TEST_CASE("private anonymous memory is zero, and stores stay", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, 3 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(mapped.ok());
  CHECK(mapped.value == kRoomStart);
  CHECK(program.load(mapped.value + 2 * kPage + 17) == 0);
  program.store(mapped.value + 17, 200);
  program.store(mapped.value + 3 * kPage - 1, 201);
  CHECK(program.load(mapped.value + 17) == 200);
  CHECK(program.load(mapped.value + 3 * kPage - 1) == 201);
  CHECK(program.try_load(mapped.value + 3 * kPage) == SimResult::segmentation_fault);
}

TEST_CASE("protection holds from the start", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto read = program.mmap(0, kPage, bsd::kRead, kAnonPrivate);
  CHECK(program.load(read.value) == 0);
  CHECK(program.try_store(read.value) == SimResult::segmentation_fault);
  const auto none = program.mmap(0, kPage, bsd::kNone, kAnonPrivate);
  CHECK(program.try_load(none.value) == SimResult::segmentation_fault);
}

TEST_CASE("a length below 0 is EINVAL, first of all", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  program.bad_descriptor = true;
  CHECK(program.mmap(0, std::uint64_t{1} << 63, bsd::kRead, bsd::kPrivate).error == EINVAL);
}

TEST_CASE("MAP_ANON with a descriptor is EINVAL, before the descriptor is looked at", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  program.bad_descriptor = true;
  CHECK(program.mmap(0, kPage, bsd::kRead, kAnonPrivate).error == EINVAL);
}

TEST_CASE("MAP_STACK needs read and write and no descriptor", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  CHECK(program.mmap(0, kPage, bsd::kRead, bsd::kStack).error == EINVAL);
  CHECK(program.mmap(0, kPage, bsd::kWrite, bsd::kStack).error == EINVAL);
  CHECK(program.mmap(0, kPage, bsd::kReadWrite, bsd::kStack, machine.make_file(kPage).open())
            .error == EINVAL);
  const auto stack = program.mmap(0, 4 * kPage, bsd::kReadWrite, bsd::kStack);
  REQUIRE(stack.ok());
  program.store(stack.value, 1);
  program.store(stack.value + 4 * kPage - 1, 2);
  // It implies MAP_ANON, and its offset counts for nothing.
  const auto offset = program.mmap(0, kPage, bsd::kReadWrite, bsd::kStack, std::nullopt, 0x123);
  CHECK(offset.ok());
  CHECK(offset.value % kPage == 0);
}

TEST_CASE("an unaligned offset is added to the answer, and to the length", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  FakeFile& file = machine.make_file(8 * kPage);
  const auto mapped = program.mmap(0, kPage, bsd::kRead, bsd::kPrivate, file.open(), kPage + 100);
  REQUIRE(mapped.ok());
  CHECK(mapped.value % kPage == 100);
  CHECK(program.load(mapped.value) == static_cast<unsigned>(file.at(kPage + 100)));
  // One page from there reaches into the next.
  CHECK(program.load(mapped.value + kPage - 1) == static_cast<unsigned>(file.at(2 * kPage + 99)));
  CHECK(program.try_load(mapped.value - 100 + 2 * kPage) == SimResult::segmentation_fault);

  // Anonymous memory too: the seed's arithmetic comes before it forgets the offset.
  const auto anonymous =
      program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate, std::nullopt, 0x10);
  CHECK(anonymous.value % kPage == 0x10);
}

TEST_CASE("MAP_FIXED wants the address aligned as the offset is", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t flags = kAnonPrivate | bsd::kFixed;
  const std::uint64_t at = program.room() + 16 * kPage;
  CHECK(program.mmap(at + 1, kPage, bsd::kRead, flags).error == EINVAL);
  CHECK(program.mmap(at, kPage, bsd::kRead, flags, std::nullopt, 1).error == EINVAL);
  const auto same = program.mmap(at + 5, kPage, bsd::kRead, flags, std::nullopt, 5);
  CHECK(same.ok());
  CHECK(same.value == at + 5);
}

TEST_CASE("MAP_FIXED outside what a program may map is EINVAL", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t flags = kAnonPrivate | bsd::kFixed;
  CHECK(program.mmap(0, kPage, bsd::kRead, flags).error == EINVAL);
  CHECK(program.mmap(kLowest - kPage, 2 * kPage, bsd::kRead, flags).error == EINVAL);
  CHECK(program.mmap(kHighest - kPage, 2 * kPage, bsd::kRead, flags).error == EINVAL);
  CHECK(program.mmap(~std::uint64_t{0} - kPage + 1, kPage, bsd::kRead, flags).error == EINVAL);
  CHECK(program.mmap(kHighest - kPage, std::uint64_t{1} << 62, bsd::kRead, flags).error == EINVAL);
}

TEST_CASE("the server's own page cannot be replaced", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t plate = program.space().layout().nameplate.start().value();
  CHECK(program.mmap(plate, kPage, bsd::kRead, kAnonPrivate | bsd::kFixed).error == EINVAL);
}

TEST_CASE("MAP_FIXED replaces what was there", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, 4 * kPage, bsd::kReadWrite, kAnonPrivate);
  for (std::uint64_t i = 0; i < 4; ++i) program.store(mapped.value + i * kPage, 9);
  const auto fixed = program.mmap(mapped.value + kPage, 2 * kPage, bsd::kRead,
                                  kAnonPrivate | bsd::kFixed);
  REQUIRE(fixed.ok());
  CHECK(fixed.value == mapped.value + kPage);
  CHECK(program.load(mapped.value) == 9);
  CHECK(program.load(mapped.value + kPage) == 0);
  CHECK(program.load(mapped.value + 2 * kPage) == 0);
  CHECK(program.try_store(mapped.value + kPage) == SimResult::segmentation_fault);
  CHECK(program.load(mapped.value + 3 * kPage) == 9);
}

TEST_CASE("MAP_FIXED takes away what was there even if the rest fails", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  program.store(mapped.value, 9);
  FakeFile& file = machine.make_file(kPage);
  file.attributes.kind = hal::FileKind::directory;
  CHECK(program.mmap(mapped.value, kPage, bsd::kRead, bsd::kFixed | bsd::kPrivate, file.open())
            .error == EINVAL);
  CHECK(program.try_load(mapped.value) == SimResult::segmentation_fault);
  CHECK(program.munmap(mapped.value, kPage).error == EINVAL);
}

TEST_CASE("MAP_FIXED outside the server's room replaces the host's mappings", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped =
      program.mmap(kData + kPage, kPage, bsd::kReadWrite, kAnonPrivate | bsd::kFixed);
  REQUIRE(mapped.ok());
  program.store(kData + kPage, 3);
  CHECK(program.load(kData + kPage) == 3);
  CHECK(program.try_load(kData) == SimResult::done);
  const auto regions = program.pmap().regions(
      {hal::VirtualAddress(kData), hal::VirtualAddress(kData + 4 * kPage)});
  CHECK(regions.size() == 3);
  CHECK(program.munmap(kData + kPage, kPage).ok());
  CHECK(program.try_load(kData + kPage) == SimResult::segmentation_fault);
}

TEST_CASE("without MAP_FIXED a hint is taken where there is room", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t hint = program.room() + 100 * kPage;
  CHECK(program.mmap(hint, kPage, bsd::kRead, kAnonPrivate).value == hint);
  CHECK(program.mmap(hint, kPage, bsd::kRead, kAnonPrivate).value == hint + kPage);
  // Rounded up, as the seed does.
  CHECK(program.mmap(hint + 10 * kPage + 1, kPage, bsd::kRead, kAnonPrivate).value ==
        hint + 11 * kPage);
}

TEST_CASE("a hint outside the server's room is taken if nothing is there", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(kElsewhere, 2 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(mapped.value == kElsewhere);
  program.store(kElsewhere + kPage, 5);
  CHECK(program.load(kElsewhere + kPage) == 5);
  CHECK(program.mmap(kElsewhere, kPage, bsd::kRead, kAnonPrivate).value == program.room());
}

TEST_CASE("a hint where the heap may grow moves behind it", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  CHECK(program.mmap(kData + 16 * kPage, kPage, bsd::kRead, kAnonPrivate).value ==
        program.room());
  CHECK(program.mmap(kText, kPage, bsd::kRead, kAnonPrivate).value == program.room() + kPage);
  // A small RLIMIT_DATA makes the heap end early.
  program.data_limit = 64 * kPage;
  CHECK(program.mmap(kData + 80 * kPage, kPage, bsd::kRead, kAnonPrivate).value ==
        kData + 80 * kPage);
}

TEST_CASE("room that looked free but is the host's is left alone", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  // The server places mappings here without looking first; the claim finds the host's mapping.
  program.pmap().add_host_mapping(
      {hal::VirtualAddress(kRoomStart), hal::VirtualAddress(kRoomStart + 4 * kPage)},
      hal::Protection::read(), "/lib/late.so");
  const auto mapped = program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(mapped.ok());
  CHECK(mapped.value == kRoomStart + 4 * kPage);
  program.store(mapped.value, 1);
}

TEST_CASE("what is unmapped of a mapping is given back, the rest stays", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, 2 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(mapped.ok());
  program.store(mapped.value, 1);
  REQUIRE(program.munmap(mapped.value, kPage).ok());
  const hal::VirtualRange where(hal::VirtualAddress(mapped.value),
                                hal::VirtualAddress(mapped.value + 2 * kPage));
  const auto left = program.pmap().regions(where);
  REQUIRE(left.size() == 1);
  CHECK(left[0].range.start() == where.start() + kPage);
}

TEST_CASE("RLIMIT_AS is checked against all that is mapped", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  program.address_space_limit = 100 * kPage;  // the host has 26 pages mapped
  CHECK(program.mmap(0, 75 * kPage, bsd::kRead, kAnonPrivate).error == ENOMEM);
  CHECK(program.mmap(0, 74 * kPage, bsd::kRead, kAnonPrivate).ok());
  CHECK(program.mmap(0, kPage, bsd::kRead, kAnonPrivate).error == ENOMEM);
}

TEST_CASE("RLIMIT_AS comes before MAP_FIXED takes anything away", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  program.store(mapped.value, 8);
  program.address_space_limit = kPage;
  CHECK(program.mmap(mapped.value, kPage, bsd::kRead, kAnonPrivate | bsd::kFixed).error == ENOMEM);
  CHECK(program.load(mapped.value) == 8);
}

TEST_CASE("a mapping that fits nowhere is ENOMEM", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  CHECK(program.mmap(0, kRoomBytes + kPage, bsd::kRead, kAnonPrivate).error == ENOMEM);
  CHECK(program.mmap(0, (std::uint64_t{1} << 63) - 1, bsd::kRead, kAnonPrivate).error == ENOMEM);
  CHECK(program.mmap(0, kRoomBytes, bsd::kRead, kAnonPrivate).ok());
  CHECK(program.mmap(0, kPage, bsd::kRead, kAnonPrivate).error == ENOMEM);
}

TEST_CASE("vm.max_proc_mmap is the most entries of a program", "[mmap]") {
  TestMachine machine({.max_entries = 2});
  Program program(machine);
  const auto first = program.mmap(0, kPage, bsd::kRead, kAnonPrivate);
  CHECK(program.mmap(first.value + 2 * kPage, kPage, bsd::kRead, kAnonPrivate).ok());
  CHECK(program.mmap(0, kPage, bsd::kRead, kAnonPrivate).error == ENOMEM);
  // The seed counts entries even where nothing will be mapped.
  CHECK(program.mmap(0, 0, bsd::kRead, kAnonPrivate).error == ENOMEM);
}

TEST_CASE("a length of 0 maps nothing and is no error", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  CHECK(program.mmap(program.room(), 0, bsd::kRead, kAnonPrivate).value == program.room());
  CHECK(program.space().map().entry_count() == 0);
  // The descriptor is looked at all the same.
  program.bad_descriptor = true;
  CHECK(program.mmap(0, 0, bsd::kRead, bsd::kPrivate).error == EBADF);
}

TEST_CASE("neighbours that are alike become one entry", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  CHECK(program.space().map().entry_count() == 1);
  program.mmap(0, kPage, bsd::kRead, kAnonPrivate);
  CHECK(program.space().map().entry_count() == 2);
}

TEST_CASE("Linux: MAP_FIXED_NOREPLACE is EEXIST where something is", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  program.abi = protocol::kAbiLinux;
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  const auto mapped = program.mmap(0, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  program.store(mapped.value, 7);
  CHECK(program.mmap(mapped.value, kPage, PROT_READ, flags).error == EEXIST);
  CHECK(program.load(mapped.value) == 7);
  CHECK(program.mmap(mapped.value + kPage, kPage, PROT_READ, flags).value ==
        mapped.value + kPage);
  CHECK(program.mmap(kData, kPage, PROT_READ, flags).error == EEXIST);
  CHECK(program.mmap(kElsewhere, kPage, PROT_READ, flags).value == kElsewhere);
  CHECK(program.mmap(kElsewhere, kPage, PROT_READ, flags).error == EEXIST);
}

TEST_CASE("Linux: what only the host can give is left to the host", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  program.abi = protocol::kAbiLinux;
  const auto mapped =
      program.mmap(0, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
  CHECK(mapped.ok());
  CHECK(mapped.value_from_host);
  CHECK(program.pmap().host_calls().size() == 1);
  CHECK(program.space().map().entry_count() == 0);
}

TEST_CASE("a program that cannot map takes the mapping back", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  program.pmap().fail_next(hal::Step::Kind::claim, ENOMEM);
  CHECK(program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate).error == ENOMEM);
  CHECK(program.space().map().entry_count() == 0);
  CHECK(program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate).ok());
}

TEST_CASE("MAP_NOCORE leaves the mapping out of core dumps", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kRead, kAnonPrivate | bsd::kNoCore);
  const auto regions = program.pmap().regions(
      {hal::VirtualAddress(mapped.value), hal::VirtualAddress(mapped.value + kPage)});
  REQUIRE(regions.size() == 1);
  CHECK_FALSE(regions[0].dumped);
}

TEST_CASE("shared anonymous memory is zero and stays with the object", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, 40 * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared);
  REQUIRE(mapped.ok());
  CHECK(program.load(mapped.value + 20 * kPage) == 0);
  program.store(mapped.value + 20 * kPage, 4);
  CHECK(program.load(mapped.value + 20 * kPage) == 4);
  CHECK(machine.machine.object_count() == 1);
  CHECK(program.munmap(mapped.value, 40 * kPage).ok());
  CHECK(machine.machine.object_count() == 0);
  CHECK(machine.pagers.records(vm::Transfer::Kind::page_out).empty());
}

TEST_CASE("shared anonymous memory without a pager is ENOMEM", "[mmap]") {
  TestMachine machine;
  Program program(machine);
  machine.pagers.refuse_anonymous(true);
  CHECK(program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared).error == ENOMEM);
  machine.pagers.refuse_anonymous(false);
  machine.backings.fail_next(EMFILE);
  CHECK(program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared).error == ENOMEM);
}
