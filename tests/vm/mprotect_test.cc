#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;

struct Fixture {
  TestMachine machine;
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at = program->mmap(0, 4 * kPage, bsd::kReadWrite, kAnonPrivate).value;
};

}  // namespace

TEST_CASE("mprotect takes rights away and gives them back, and pages stay", "[mprotect]") {
  Fixture f;
  f.program->store(f.at + kPage, 7);
  REQUIRE(f.program->mprotect(f.at + kPage, kPage, bsd::kRead).ok());
  CHECK(f.program->load(f.at + kPage) == 7);
  CHECK(f.program->try_store(f.at + kPage) == SimResult::segmentation_fault);
  CHECK(f.program->try_store(f.at) == SimResult::done);
  CHECK(f.program->try_store(f.at + 2 * kPage) == SimResult::done);
  REQUIRE(f.program->mprotect(f.at + kPage, kPage, bsd::kNone).ok());
  CHECK(f.program->try_load(f.at + kPage) == SimResult::segmentation_fault);
  REQUIRE(f.program->mprotect(f.at, 4 * kPage, bsd::kReadWrite).ok());
  CHECK(f.program->load(f.at + kPage) == 7);
  CHECK(f.program->space().map().entry_count() == 1);
}

TEST_CASE("mprotect rounds the address down and the end up", "[mprotect]") {
  Fixture f;
  REQUIRE(f.program->mprotect(f.at + kPage + 100, kPage, bsd::kRead).ok());
  CHECK(f.program->try_store(f.at) == SimResult::done);
  CHECK(f.program->try_store(f.at + kPage) == SimResult::segmentation_fault);
  CHECK(f.program->try_store(f.at + 2 * kPage) == SimResult::segmentation_fault);
  CHECK(f.program->try_store(f.at + 3 * kPage) == SimResult::done);
}

TEST_CASE("mprotect of a range that wraps is EINVAL", "[mprotect]") {
  Fixture f;
  CHECK(f.program->mprotect(f.at, ~std::uint64_t{0}, bsd::kRead).error == EINVAL);
  CHECK(f.program->mprotect(f.at, ~std::uint64_t{0} - f.at, bsd::kRead).error == EINVAL);
}

TEST_CASE("unknown protection bits are dropped", "[mprotect]") {
  Fixture f;
  REQUIRE(f.program->mprotect(f.at, kPage, bsd::kRead | 0x100).ok());
  CHECK(f.program->try_load(f.at) == SimResult::done);
  CHECK(f.program->try_store(f.at) == SimResult::segmentation_fault);
}

TEST_CASE("mprotect of nothing succeeds", "[mprotect]") {
  Fixture f;
  for (std::uint64_t at : {f.at, f.at + kPage}) {
    CHECK(f.program->mprotect(at, 0, bsd::kNone).ok());
    CHECK(f.program->try_load(at) == SimResult::done);
  }
  for (const auto& entry : f.program->entries()) {
    if (entry.type == "anonymous") CHECK(entry.protection.writable());
  }
}

TEST_CASE("mprotect passes over holes", "[mprotect]") {
  Fixture f;
  REQUIRE(f.program->munmap(f.at + kPage, kPage).ok());
  REQUIRE(f.program->mprotect(f.at, 4 * kPage, bsd::kRead).ok());
  CHECK(f.program->try_store(f.at) == SimResult::segmentation_fault);
  CHECK(f.program->try_load(f.at + kPage) == SimResult::segmentation_fault);
  CHECK(f.program->try_store(f.at + 2 * kPage) == SimResult::segmentation_fault);
}

TEST_CASE("more than the maximum is EACCES, and nothing is changed", "[mprotect]") {
  Fixture f;
  FakeFile& file = f.machine.make_file(kPage);
  const auto mapped =
      f.program->mmap(f.at + 4 * kPage, kPage, bsd::kRead, bsd::kShared, file.open(true, false));
  REQUIRE(mapped.value == f.at + 4 * kPage);
  CHECK(f.program->mprotect(f.at, 5 * kPage, bsd::kReadWrite | bsd::kExec).error == EACCES);
  CHECK(f.program->mprotect(f.at, 5 * kPage, bsd::kNone).ok());
  CHECK(f.program->mprotect(f.at, 5 * kPage, bsd::kWrite).error == EACCES);
  CHECK(f.program->try_load(f.at) == SimResult::segmentation_fault);
}

TEST_CASE("mprotect of the server's own page is EACCES", "[mprotect]") {
  Fixture f;
  const std::uint64_t plate = f.program->space().layout().nameplate.start().value();
  CHECK(f.program->mprotect(plate, kPage, bsd::kReadWrite).error == EACCES);
}

TEST_CASE("mprotect of the host's own mappings is left to the host", "[mprotect]") {
  Fixture f;
  CHECK(f.program->mprotect(kData, 2 * kPage, bsd::kRead).ok());
  REQUIRE(f.program->pmap().host_calls().size() == 1);
  CHECK(f.program->pmap().host_calls()[0].start().value() == kData);
  CHECK(f.program->pmap().host_calls()[0].pages() == 2);
}

TEST_CASE("a shared file mapping that becomes writable tells what is written from then on",
          "[mprotect]") {
  Fixture f;
  FakeFile& file = f.machine.make_file(4 * kPage);
  const auto mapped = f.program->mmap(0, 4 * kPage, bsd::kRead, bsd::kShared, file.open());
  REQUIRE(f.program->touch(mapped.value, 4) == SimResult::done);
  const auto sharing = [&] {
    return f.program->pmap()
        .regions({hal::VirtualAddress(mapped.value), hal::VirtualAddress(mapped.value + 1)})[0]
        .sharing;
  };
  CHECK(sharing() == hal::Sharing::shared);
  REQUIRE(f.program->mprotect(mapped.value, 2 * kPage, bsd::kReadWrite).ok());
  CHECK(sharing() == hal::Sharing::shared_tracked);
  f.program->store(mapped.value + kPage, 99);
  REQUIRE(f.program->msync(mapped.value, 4 * kPage, bsd::kSync).ok());
  CHECK(static_cast<unsigned>(file.at(kPage)) == 99);
  const auto out = f.machine.pagers.records(vm::Transfer::Kind::page_out);
  REQUIRE(out.size() == 1);
  CHECK(out[0].pages == hal::PageRange(hal::PageIndex(1), 1));
}

TEST_CASE("stores made before rights were taken away are written back", "[mprotect]") {
  Fixture f;
  FakeFile& file = f.machine.make_file(2 * kPage);
  const auto mapped = f.program->mmap(0, 2 * kPage, bsd::kReadWrite, bsd::kShared, file.open());
  f.program->store(mapped.value + 1, 98);
  REQUIRE(f.program->mprotect(mapped.value, 2 * kPage, bsd::kRead).ok());
  REQUIRE(f.program->munmap(mapped.value, 2 * kPage).ok());
  CHECK(static_cast<unsigned>(file.at(1)) == 98);
}
