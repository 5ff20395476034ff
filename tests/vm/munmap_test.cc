#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;

namespace {
constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;
}

TEST_CASE("munmap of nothing is EINVAL", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kRead, kAnonPrivate);
  CHECK(program.munmap(mapped.value, 0).error == EINVAL);
}

TEST_CASE("munmap of a range that wraps or is out of bounds is EINVAL", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  CHECK(program.munmap(program.room(), ~std::uint64_t{0}).error == EINVAL);
  CHECK(program.munmap(program.room(), ~std::uint64_t{0} - program.room()).error == EINVAL);
  CHECK(program.munmap(kLowest - kPage, kPage).error == EINVAL);
  CHECK(program.munmap(kHighest, kPage).error == EINVAL);
}

TEST_CASE("munmap with a hole in the range is EINVAL and takes nothing away", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, 3 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(program.munmap(mapped.value + kPage, kPage).ok());
  program.store(mapped.value, 1);
  CHECK(program.munmap(mapped.value, 3 * kPage).error == EINVAL);
  CHECK(program.munmap(mapped.value + kPage, kPage).error == EINVAL);
  CHECK(program.munmap(mapped.value + 2 * kPage, 2 * kPage).error == EINVAL);
  CHECK(program.load(mapped.value) == 1);
}

TEST_CASE("munmap rounds the address down and the end up", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, 4 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(program.munmap(mapped.value + kPage + 10, kPage).ok());
  CHECK(program.try_load(mapped.value) == SimResult::done);
  CHECK(program.try_load(mapped.value + kPage) == SimResult::segmentation_fault);
  CHECK(program.try_load(mapped.value + 2 * kPage) == SimResult::segmentation_fault);
  CHECK(program.try_load(mapped.value + 3 * kPage) == SimResult::done);
}

TEST_CASE("memory that is mapped again after munmap is zero", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  program.store(mapped.value, 1);
  REQUIRE(program.munmap(mapped.value, kPage).ok());
  const auto again = program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  CHECK(again.value == mapped.value);
  CHECK(program.load(again.value) == 0);
}

TEST_CASE("munmap across different entries takes them all", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  FakeFile& file = machine.make_file(4 * kPage);
  const auto first = program.mmap(0, 2 * kPage, bsd::kRead, kAnonPrivate);
  const auto second = program.mmap(0, 4 * kPage, bsd::kRead, bsd::kShared, file.open());
  const auto third = program.mmap(0, 2 * kPage, bsd::kReadWrite, kAnonPrivate);
  REQUIRE(third.value == first.value + 6 * kPage);
  REQUIRE(program.munmap(first.value + kPage, 6 * kPage).ok());
  CHECK(program.try_load(first.value) == SimResult::done);
  CHECK(program.try_load(second.value) == SimResult::segmentation_fault);
  CHECK(program.try_load(third.value + kPage) == SimResult::done);
  CHECK(machine.machine.object_count() == 0);
}

TEST_CASE("munmap of the host's own mappings is carried out there", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  REQUIRE(program.munmap(kData + kPage, kPage).ok());
  CHECK(program.try_load(kData + kPage) == SimResult::segmentation_fault);
  CHECK(program.try_load(kData) == SimResult::done);
  CHECK(program.munmap(kData + kPage, kPage).error == EINVAL);
}

TEST_CASE("the server's own page cannot be unmapped", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t plate = program.space().layout().nameplate.start().value();
  CHECK(program.munmap(plate, kPage).error == EINVAL);
}

TEST_CASE("stores to a shared file mapping are written back by munmap", "[munmap]") {
  TestMachine machine;
  Program program(machine);
  FakeFile& file = machine.make_file(10 * kPage);
  const auto mapped = program.mmap(0, 10 * kPage, bsd::kReadWrite, bsd::kShared, file.open());
  REQUIRE(program.touch(mapped.value, 10) == SimResult::done);
  program.store(mapped.value + 3 * kPage + 7, 250);
  program.store(mapped.value + 8 * kPage, 251);
  machine.pagers.forget_records();
  REQUIRE(program.munmap(mapped.value, 5 * kPage).ok());
  CHECK(static_cast<unsigned>(file.at(3 * kPage + 7)) == 250);
  // Only the page that was written, and only of the part that went.
  const auto out = machine.pagers.records(vm::Transfer::Kind::page_out);
  REQUIRE(out.size() == 1);
  CHECK(out[0].pages == hal::PageRange(hal::PageIndex(3), 1));
  CHECK(program.load(mapped.value + 8 * kPage) == 251);
}
