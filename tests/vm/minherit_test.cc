// minherit, and what fork makes of it.
#include <catch2/catch.hpp>

#include <cerrno>
#include <sys/mman.h>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(8 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  std::uint64_t at = program->mmap(0, 4 * kPage, bsd::kReadWrite, kAnonPrivate).value;
};

}  // namespace

TEST_CASE("minherit refuses a range that wraps and a number that is none", "[minherit]") {
  Fixture f;
  CHECK(f.program->minherit(f.at, ~std::uint64_t{0}, bsd::kInheritCopy).error == EINVAL);
  CHECK(f.program->minherit(f.at, kPage, 3).error == EINVAL);  // INHERIT_ZERO came later
  CHECK(f.program->minherit(f.at, kPage, 4).error == EINVAL);
  CHECK(f.program->minherit(f.at, kPage, ~std::uint64_t{0}).error == EINVAL);
}

TEST_CASE("a child has no mapping of what it does not inherit", "[minherit]") {
  Fixture f;
  f.program->store(f.at, 1);
  f.program->store(f.at + kPage, 2);
  REQUIRE(f.program->minherit(f.at + kPage + 1, 1, bsd::kInheritNone).ok());
  const auto child = f.program->fork();
  CHECK(child->load(f.at) == 1);
  CHECK(child->try_load(f.at + kPage) == SimResult::segmentation_fault);
  CHECK(child->load(f.at + 2 * kPage) == 0);
  CHECK(f.program->load(f.at + kPage) == 2);
  // It may map there; the room is the server's again.
  const auto mapped = child->mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  CHECK(mapped.value == f.at + kPage);
  CHECK(child->load(mapped.value) == 0);
}

TEST_CASE("the last word about a range counts", "[minherit]") {
  Fixture f;
  f.program->store(f.at, 1);
  REQUIRE(f.program->minherit(f.at, 4 * kPage, bsd::kInheritNone).ok());
  REQUIRE(f.program->minherit(f.at, 4 * kPage, bsd::kInheritCopy).ok());
  CHECK(f.program->fork()->load(f.at) == 1);
  CHECK(f.program->space().map().entry_count() == 1);
}

TEST_CASE("shared memory is inherited as shared", "[minherit]") {
  Fixture f;
  const auto shared = f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared);
  CHECK(f.program->minherit(shared.value, kPage, bsd::kInheritShare).ok());
  const auto child = f.program->fork();
  child->store(shared.value, 5);
  CHECK(f.program->load(shared.value) == 5);
}

TEST_CASE("INHERIT_SHARE of private memory shares what is there and what comes", "[minherit]") {
  Fixture f;
  f.program->store(f.at, 1);
  f.program->store(f.at + 2 * kPage, 3);
  REQUIRE(f.program->minherit(f.at, 4 * kPage, bsd::kInheritShare).ok());
  CHECK(f.program->load(f.at) == 1);
  CHECK(f.program->load(f.at + kPage) == 0);
  CHECK(f.program->load(f.at + 2 * kPage) == 3);
  const auto child = f.program->fork();
  CHECK(child->load(f.at + 2 * kPage) == 3);
  child->store(f.at + kPage, 7);
  child->store(f.at + 3 * kPage, 8);
  CHECK(f.program->load(f.at + kPage) == 7);
  CHECK(f.program->load(f.at + 3 * kPage) == 8);
  f.program->store(f.at, 9);
  CHECK(child->load(f.at) == 9);
}

TEST_CASE("INHERIT_SHARE keeps the rest of a mapping private", "[minherit]") {
  Fixture f;
  for (std::uint64_t i = 0; i < 4; ++i) f.program->store(f.at + i * kPage, 10 + i);
  REQUIRE(f.program->minherit(f.at + kPage, 2 * kPage, bsd::kInheritShare).ok());
  const auto child = f.program->fork();
  for (std::uint64_t i = 0; i < 4; ++i) child->store(f.at + i * kPage, 20 + i);
  CHECK(f.program->load(f.at) == 10);
  CHECK(f.program->load(f.at + kPage) == 21);
  CHECK(f.program->load(f.at + 2 * kPage) == 22);
  CHECK(f.program->load(f.at + 3 * kPage) == 13);
}

TEST_CASE("a sharing that fails on its way leaves everything as it was", "[minherit]") {
  for (const auto step : {hal::Step::Kind::take_away, hal::Step::Kind::copy_out,
                          hal::Step::Kind::map_backing}) {
    Fixture f;
    f.program->store(f.at + kPage, 5);
    f.program->pmap().fail_next(step, ENOMEM);
    CHECK(f.program->minherit(f.at, 4 * kPage, bsd::kInheritShare).error == ENOMEM);
    CHECK(f.program->load(f.at + kPage) == 5);
    CHECK(f.program->load(f.at) == 0);
    CHECK(f.program->space().map().entry_count() == 1);
    const auto child = f.program->fork();
    child->store(f.at + kPage, 6);
    CHECK(f.program->load(f.at + kPage) == 5);
  }
}

TEST_CASE("INHERIT_SHARE of a private mapping of a file shares the program's own pages",
          "[minherit]") {
  Fixture f;
  const auto mapped = f.program->mmap(0, 8 * kPage, bsd::kReadWrite, bsd::kPrivate, f.file.open());
  f.program->store(mapped.value + kPage, 77);
  REQUIRE(f.program->minherit(mapped.value, 8 * kPage, bsd::kInheritShare).ok());
  CHECK(f.program->load(mapped.value + kPage) == 77);
  CHECK(f.program->load(mapped.value + 5 * kPage) == static_cast<unsigned>(f.file.at(5 * kPage)));
  const auto child = f.program->fork();
  child->store(mapped.value + 6 * kPage, 78);
  CHECK(f.program->load(mapped.value + 6 * kPage) == 78);
  CHECK(f.file.at(kPage) != std::byte{77});
  CHECK(f.file.at(6 * kPage) != std::byte{78});
}

TEST_CASE("INHERIT_COPY of shared memory gives a child its own copy", "[minherit]") {
  Fixture f;
  const auto shared = f.program->mmap(0, 3 * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared);
  f.program->store(shared.value, 1);
  REQUIRE(f.program->minherit(shared.value, 3 * kPage, bsd::kInheritCopy).ok());
  const auto child = f.program->fork();
  CHECK(child->load(shared.value) == 1);
  child->store(shared.value, 2);
  child->store(shared.value + kPage, 3);
  CHECK(f.program->load(shared.value) == 1);
  CHECK(f.program->load(shared.value + kPage) == 0);
  f.program->store(shared.value + 2 * kPage, 4);
  CHECK(child->load(shared.value + 2 * kPage) == 0);
  // The child's own children copy as usual.
  const auto grandchild = child->fork();
  grandchild->store(shared.value, 9);
  CHECK(child->load(shared.value) == 2);
}

TEST_CASE("INHERIT_COPY of anonymous memory copies what is there, however much is mapped",
          "[minherit]") {
  Fixture f;
  constexpr std::uint64_t kBytes = std::uint64_t{1} << 26;
  const std::uint64_t at =
      f.program->mmap(0, kBytes, bsd::kReadWrite, bsd::kAnon | bsd::kShared).value;
  REQUIRE(f.program->minherit(at, kBytes, bsd::kInheritCopy).ok());
  f.program->store(at + 5 * kPage, 5);
  f.machine.pagers.forget_records();
  const auto child = f.program->fork();
  CHECK(f.machine.pagers.records().empty());
  CHECK(child->load(at + 5 * kPage) == 5);
  CHECK(child->load(at + kBytes - 1) == 0);
}

TEST_CASE("INHERIT_COPY of a shared file copies what is not resident too", "[minherit]") {
  Fixture f;
  const auto mapped = f.program->mmap(0, 8 * kPage, bsd::kReadWrite, bsd::kShared, f.file.open());
  REQUIRE(f.program->minherit(mapped.value, 8 * kPage, bsd::kInheritCopy).ok());
  const auto child = f.program->fork();
  CHECK(child->load(mapped.value + 5 * kPage) == static_cast<unsigned>(f.file.at(5 * kPage)));
  const unsigned before = f.program->load(mapped.value + 5 * kPage);
  f.program->store(mapped.value + 5 * kPage, before + 1);
  CHECK(child->load(mapped.value + 5 * kPage) == before);
  child->store(mapped.value + 6 * kPage, 77);
  CHECK(f.program->load(mapped.value + 6 * kPage) == static_cast<unsigned>(f.file.at(6 * kPage)));
}

TEST_CASE("a child of a fork that was not announced has no copy of what is shared", "[minherit]") {
  Fixture f;
  const auto shared = f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared);
  REQUIRE(f.program->minherit(shared.value, kPage, bsd::kInheritCopy).ok());
  const auto child = f.program->fork_unannounced();
  CHECK(child->try_load(shared.value) == SimResult::segmentation_fault);
}

TEST_CASE("INHERIT_ZERO gives a child zeroes, of shared memory too", "[minherit]") {
  TestMachine machine({.personality = "freebsd-14"});
  Program program(machine);
  const auto own = program.mmap(0, kPage, bsd::kReadWrite, kAnonPrivate);
  const auto shared = program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared);
  program.store(own.value, 1);
  program.store(shared.value, 2);
  REQUIRE(program.minherit(own.value, kPage, bsd::kInheritZero).ok());
  REQUIRE(program.minherit(shared.value, kPage, bsd::kInheritZero).ok());
  const auto child = program.fork();
  CHECK(child->load(own.value) == 0);
  CHECK(child->load(shared.value) == 0);
  child->store(shared.value, 7);
  CHECK(program.load(own.value) == 1);
  CHECK(program.load(shared.value) == 2);
}

TEST_CASE("minherit passes over holes", "[minherit]") {
  Fixture f;
  REQUIRE(f.program->munmap(f.at + kPage, kPage).ok());
  CHECK(f.program->minherit(f.at, 4 * kPage, bsd::kInheritNone).ok());
  CHECK(f.program->fork()->try_load(f.at) == SimResult::segmentation_fault);
}

TEST_CASE("MADV_DONTFORK, MADV_DOFORK and MADV_WIPEONFORK are inheritance", "[minherit]") {
  Fixture f;
  f.program->abi = protocol::kAbiLinux;
  for (std::uint64_t i = 0; i < 4; ++i) f.program->store(f.at + i * kPage, 7);
  REQUIRE(f.program->madvise(f.at, kPage, MADV_DONTFORK).ok());
  REQUIRE(f.program->madvise(f.at + kPage, kPage, MADV_WIPEONFORK).ok());
  REQUIRE(f.program->madvise(f.at + 2 * kPage, kPage, MADV_DONTFORK).ok());
  REQUIRE(f.program->madvise(f.at + 2 * kPage, kPage, MADV_DOFORK).ok());
  const auto child = f.program->fork();
  CHECK(child->try_load(f.at) == SimResult::segmentation_fault);
  CHECK(child->load(f.at + kPage) == 0);
  CHECK(child->load(f.at + 2 * kPage) == 7);
  CHECK(child->load(f.at + 3 * kPage) == 7);
  CHECK(f.program->load(f.at + kPage) == 7);
}

TEST_CASE("a child's child inherits by the same rules", "[minherit]") {
  Fixture f;
  f.program->store(f.at, 7);
  f.program->store(f.at + kPage, 8);
  REQUIRE(f.program->minherit(f.at, kPage, bsd::kInheritNone).ok());
  const auto child = f.program->fork();
  const auto grandchild = child->fork();
  CHECK(grandchild->try_load(f.at) == SimResult::segmentation_fault);
  CHECK(grandchild->load(f.at + kPage) == 8);
}

TEST_CASE("what another thread cuts off after a fork was announced leaves the rest a copy",
          "[minherit]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t at =
      program.mmap(0, 4 * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared).value;
  REQUIRE(program.minherit(at, 4 * kPage, bsd::kInheritCopy).ok());
  for (std::uint64_t i = 0; i < 4; ++i) program.store(at + i * kPage, 10 + static_cast<unsigned>(i));
  REQUIRE(program.call(program.request(protocol::kCallFork, {1})).ok());
  REQUIRE(program.munmap(at + kPage, kPage).ok());
  const auto child = program.fork_unannounced();
  REQUIRE(program.call(program.request(protocol::kCallForked, {1})).ok());
  CHECK(child->load(at) == 10);
  CHECK(child->try_load(at + kPage) == hal::SimResult::segmentation_fault);
  CHECK(child->load(at + 2 * kPage) == 12);
  CHECK(child->load(at + 3 * kPage) == 13);
  child->store(at + 2 * kPage, 1);
  CHECK(program.load(at + 2 * kPage) == 12);
}

// The host has moved other memory to where the map still has what children get a copy of.
TEST_CASE("a child has its copies though another thread is just moving memory over one",
          "[minherit]") {
  TestMachine machine;
  Program program(machine);
  program.abi = protocol::kAbiLinux;
  const auto map = [&](std::uint64_t how) {
    return program.mmap(0, kPage, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | how).value;
  };
  const std::uint64_t from = map(MAP_PRIVATE);
  const std::uint64_t target = map(MAP_SHARED);
  const std::uint64_t at = map(MAP_SHARED);
  REQUIRE(target < at);
  REQUIRE(program.minherit(target, kPage, bsd::kInheritCopy).ok());
  REQUIRE(program.minherit(at, kPage, bsd::kInheritCopy).ok());
  program.store(from, 9);
  program.store(at, 7);
  REQUIRE(program.call(program.request(protocol::kCallFork, {1})).ok());
  std::unique_ptr<Program> child;
  program.after_plan = [&] {
    if (!child) child = program.fork_unannounced();
  };
  REQUIRE(program.mremap(from, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, target).ok());
  program.after_plan = {};
  REQUIRE(program.call(program.request(protocol::kCallForked, {1})).ok());
  REQUIRE(child);
  CHECK(program.load(target) == 9);
  CHECK(child->load(at) == 7);
}

TEST_CASE("copies for children go with the last fork that was announced", "[minherit]") {
  TestMachine machine;
  Program program(machine);
  const std::uint64_t at =
      program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared).value;
  REQUIRE(program.minherit(at, kPage, bsd::kInheritCopy).ok());
  REQUIRE(program.call(program.request(protocol::kCallFork, {1})).ok());
  REQUIRE(program.call(program.request(protocol::kCallFork, {2})).ok());
  REQUIRE(program.call(program.request(protocol::kCallForked, {1})).ok());
  CHECK(program.fork_unannounced()->try_load(at) == hal::SimResult::done);
  REQUIRE(program.call(program.request(protocol::kCallForked, {2})).ok());
  CHECK(program.fork_unannounced()->try_load(at) == hal::SimResult::segmentation_fault);
}

TEST_CASE("what is zeroed for a child is zeroed for its children", "[minherit]") {
  TestMachine machine({.personality = "freebsd-14"});
  Program program(machine);
  const std::uint64_t at =
      program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared).value;
  REQUIRE(program.minherit(at, kPage, bsd::kInheritZero).ok());
  program.store(at, 1);
  const auto child = program.fork();
  CHECK(child->load(at) == 0);
  child->store(at, 2);
  const auto grandchild = child->fork();
  CHECK(grandchild->load(at) == 0);
}
