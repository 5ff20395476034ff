#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(8 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);

  std::uint64_t map(std::uint64_t flags, bool with_file) {
    const auto mapped =
        program->mmap(0, 8 * kPage, bsd::kReadWrite, flags,
                      with_file ? std::optional(file.open()) : std::nullopt);
    REQUIRE(mapped.ok());
    return mapped.value;
  }
};

}  // namespace

TEST_CASE("private memory is copied on write, in both directions", "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(kAnonPrivate, false);
  f.program->store(at, 1);
  f.program->store(at + kPage, 2);
  const auto child = f.program->fork();
  CHECK(child->load(at) == 1);
  child->store(at, 11);
  CHECK(f.program->load(at) == 1);
  f.program->store(at + kPage, 22);
  CHECK(child->load(at + kPage) == 2);
  // Pages nobody had touched appear in each by itself.
  f.program->store(at + 7 * kPage, 3);
  CHECK(child->load(at + 7 * kPage) == 0);
}

TEST_CASE("a private file mapping keeps its own pages and shares the file's", "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kPrivate, true);
  f.program->store(at, 1);
  const auto child = f.program->fork();
  CHECK(child->load(at) == 1);
  CHECK(child->load(at + 3 * kPage) == static_cast<unsigned>(f.file.at(3 * kPage)));
  child->store(at, 2);
  child->store(at + 3 * kPage, 3);
  CHECK(f.program->load(at) == 1);
  CHECK(f.program->load(at + 3 * kPage) == static_cast<unsigned>(f.file.at(3 * kPage)));
}

TEST_CASE("shared memory stays shared across fork", "[fork]") {
  Fixture f;
  const std::uint64_t anonymous = f.map(bsd::kAnon | bsd::kShared, false);
  const std::uint64_t file = f.map(bsd::kShared, true);
  const auto child = f.program->fork();
  child->store(anonymous + kPage, 5);
  CHECK(f.program->load(anonymous + kPage) == 5);
  f.program->store(file + kPage, 6);
  CHECK(child->load(file + kPage) == 6);
  CHECK(f.machine.machine.object_count() == 2);
}

TEST_CASE("what a child stored in a shared file is written back though the parent lives on",
          "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared, true);
  auto child = f.program->fork();
  child->store(at + 2 * kPage, 77);
  REQUIRE(child->munmap(at, 8 * kPage).ok());
  child.reset();
  REQUIRE(f.program->msync(at, 8 * kPage, bsd::kSync).ok());
  CHECK(static_cast<unsigned>(f.file.at(2 * kPage)) == 77);
}

TEST_CASE("a parent's end leaves the child's memory alone", "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(kAnonPrivate, false);
  const std::uint64_t shared = f.map(bsd::kShared, true);
  f.program->store(at, 1);
  f.program->store(shared, 2);
  const auto child = f.program->fork();
  f.program->kill();
  f.program.reset();
  CHECK(child->load(at) == 1);
  CHECK(child->load(shared) == 2);
  CHECK(child->load(shared + 5 * kPage) == static_cast<unsigned>(f.file.at(5 * kPage)));
}

TEST_CASE("a child keeps protection and maximum", "[fork]") {
  Fixture f;
  const auto mapped =
      f.program->mmap(0, kPage, bsd::kRead, bsd::kShared, f.file.open(true, false));
  const auto child = f.program->fork();
  CHECK(child->try_store(mapped.value) == SimResult::segmentation_fault);
  CHECK(child->mprotect(mapped.value, kPage, bsd::kReadWrite).error == EACCES);
}

TEST_CASE("memory locks are not inherited", "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(kAnonPrivate, false);
  REQUIRE(f.program->mlock(at, 8 * kPage).ok());
  CHECK(f.machine.machine.wired_pages() == 8);
  auto child = f.program->fork();
  CHECK(child->space().wired_pages() == 0);
  child.reset();
  CHECK(f.machine.machine.wired_pages() == 8);
}

TEST_CASE("what inheritance leaves out is free in the child", "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(kAnonPrivate, false);
  REQUIRE(f.program->minherit(at + kPage, 2 * kPage, bsd::kInheritNone).ok());
  const auto child = f.program->fork_unsettled();
  hal::Plan plan;
  child->space().settle(plan);
  CHECK(plan.empty());
  CHECK(child->try_load(at + kPage) == SimResult::segmentation_fault);
  CHECK(child->mmap(0, 2 * kPage, bsd::kReadWrite, kAnonPrivate).value == at + kPage);
  CHECK(child->load(at + kPage) == 0);
}

TEST_CASE("what a call of another thread took away while the parent forked is taken from the child",
          "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(kAnonPrivate, false);
  const std::uint64_t behind = f.map(kAnonPrivate, false);
  f.program->store(at + kPage, 9);
  f.program->store(behind, 8);

  // munmap has let go of the range, and the program has not carried it out yet.
  auto pmap = f.program->pmap().fork();
  hal::SimPmap& childs = *pmap;
  hal::Plan plan;
  {
    const auto guard = f.program->space().lock();
    f.program->space().remove({hal::VirtualAddress(at + kPage), hal::VirtualAddress(behind)}, plan);
  }
  auto child = f.program->space().fork(std::move(pmap));
  hal::Plan settle;
  child->settle(settle);
  REQUIRE(childs.apply(settle) == 0);
  const auto regions =
      childs.regions({hal::VirtualAddress(at), hal::VirtualAddress(behind + kPage)});
  for (const hal::SimRegion& region : regions) {
    const bool gone = region.range.start().value() >= at + kPage &&
                      region.range.start().value() < behind;
    CHECK((region.protection == hal::Protection::none()) == gone);
  }
  CHECK(f.program->pmap().apply(plan) == 0);
}

// The map says already that the host leaves the range out of forks, the host has not heard of it.
TEST_CASE("a child is whole though another thread is in the middle of a call when its parent forks",
          "[fork]") {
  Fixture f;
  const std::uint64_t changing = f.map(bsd::kShared, true);
  const std::uint64_t copied = f.map(bsd::kShared, true);
  REQUIRE(f.program->minherit(copied, 8 * kPage, bsd::kInheritCopy).ok());
  f.program->store(copied, 5);
  f.program->store(changing + kPage, 6);
  REQUIRE(f.program->call(f.program->request(protocol::kCallFork, {7})).ok());
  f.program->holds_plans = true;
  const auto call = f.program->start(f.program->request(
      protocol::kCallMinherit, {changing, 8 * kPage, bsd::kInheritCopy}));
  while (f.machine.pump()) continue;
  const auto child = f.program->fork_unannounced();
  call->carry_out();
  CHECK(call->result().ok());
  REQUIRE(f.program->call(f.program->request(protocol::kCallForked, {7})).ok());
  f.program->store(copied, 50);
  f.program->store(changing + kPage, 60);
  CHECK(child->load(copied) == 5);
  CHECK(child->load(changing + kPage) == 6);
}

TEST_CASE("many generations keep apart what each stored", "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(kAnonPrivate, false);
  std::vector<std::unique_ptr<Program>> line;
  line.push_back(std::move(f.program));
  for (unsigned i = 1; i < 8; ++i) {
    line.back()->store(at, i);
    line.push_back(line.back()->fork());
    line.back()->store(at + i * kPage, i);
  }
  for (unsigned i = 0; i < 7; ++i) CHECK(line[i]->load(at) == i + 1);
  for (unsigned i = 1; i < 8; ++i) {
    for (unsigned j = 1; j < 8; ++j) {
      CHECK(line[i]->load(at + j * kPage) == (j <= i ? j : 0));
    }
  }
  CHECK(f.machine.machine.counters().forks == 7);
}

TEST_CASE("a fork while a page is on its way in wakes both", "[fork]") {
  Fixture f;
  const std::uint64_t at = f.map(bsd::kShared, true);
  f.machine.pagers.hold(true);
  f.program->space().fault(hal::VirtualAddress(at), false);
  const auto child = f.program->fork();
  CHECK(child->try_load(at) == SimResult::stuck);
  f.machine.pagers.hold(false);
  CHECK(child->load(at) == static_cast<unsigned>(f.file.at(0)));
  CHECK(f.program->load(at) == static_cast<unsigned>(f.file.at(0)));
  CHECK(f.machine.pagers.records(vm::Transfer::Kind::page_in).size() == 1);
}
