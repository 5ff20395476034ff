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
  CHECK(f.program->minherit(f.at, kPage, 3).error == EINVAL);
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

TEST_CASE("shared memory is inherited as shared; private memory cannot be", "[minherit]") {
  Fixture f;
  const auto shared = f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kShared);
  CHECK(f.program->minherit(shared.value, kPage, bsd::kInheritShare).ok());
  // Saying yes would lose data, so these are refused.
  CHECK(f.program->minherit(f.at, kPage, bsd::kInheritShare).error == EOPNOTSUPP);
  CHECK(f.program->minherit(shared.value, kPage, bsd::kInheritCopy).error == EOPNOTSUPP);
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
