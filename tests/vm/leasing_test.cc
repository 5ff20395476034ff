// What programs map and unmap by themselves: see "Calls without a round trip" in docs/architecture.md.
#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"
#include "vmserver/vm/map_entry.h"

using namespace test;
using hal::Protection;
using hal::SimResult;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;

VirtualRange range_of(std::uint64_t at, std::uint64_t pages) {
  return {VirtualAddress(at), VirtualAddress(at + pages * kPage)};
}

/// A program that asks for a lease, and has one where it may.
struct Tenant {
  TestMachine machine;
  Program program{machine};

  explicit Tenant(const MachineChoices& choices = {}) : machine(choices) { ask(); }

  CallResult ask() {
    auto request = program.request(protocol::kCallMmap,
                                   {0, kPage, bsd::kReadWrite, kAnonPrivate, ~std::uint64_t{0}, 0});
    request.flags |= protocol::kRequestLease;
    return program.call(request);
  }
  VirtualRange lease() { return program.space().lease(); }
  std::uint64_t start() { return lease().start().value(); }

  void map_at_host(std::uint64_t at, std::uint64_t pages) {
    hal::Plan plan;
    plan.add(Step::Kind::claim, range_of(at, pages)).protection = Protection(bsd::kReadWrite);
    REQUIRE(program.pmap().apply(plan) == 0);
  }
  bool tell(protocol::CallNumber call, std::uint64_t at, std::uint64_t bytes, std::uint64_t brought = 0) {
    return program.space().note(program.request(call, {at, bytes, brought}), program.pid);
  }
  /// Maps by itself, and says so. Returns where.
  std::uint64_t map(std::uint64_t pages) {
    const std::uint64_t at = start();
    map_at_host(at, pages);
    REQUIRE(tell(protocol::kCallMmap, at, pages * kPage));
    return at;
  }
  bool unmap(std::uint64_t at, std::uint64_t pages) {
    hal::Plan plan;
    plan.add(Step::Kind::give_back, range_of(at, pages));
    REQUIRE(program.pmap().apply(plan) == 0);
    return tell(protocol::kCallMunmap, at, pages * kPage);
  }
};

}  // namespace

TEST_CASE("what a program maps in its lease is its private memory", "[lease]") {
  Tenant tenant;
  REQUIRE(tenant.lease().bytes() >= protocol::kMostLeasedBytes);
  const std::uint64_t at = tenant.map(40);
  CHECK(tenant.start() == at + 40 * kPage);
  tenant.program.store(at + 39 * kPage, 7);
  CHECK(tenant.program.load(at) == 0);
  CHECK(tenant.program.load(at + 39 * kPage) == 7);
  CHECK(tenant.program.try_load(at + 40 * kPage) == SimResult::segmentation_fault);
  const vm::MapEntry* entry = tenant.program.space().map().find(VirtualAddress(at));
  CHECK(entry->protection == Protection(bsd::kReadWrite));
  CHECK(entry->maximum == Protection::all());
  CHECK(tenant.program.mprotect(at, kPage, bsd::kRead).ok());
}

TEST_CASE("the server puts nothing into a lease, and programs do not find it", "[lease]") {
  Tenant tenant;
  const VirtualRange lease = tenant.lease();
  for (const std::uint64_t pages : {1, 100, 3000}) {
    const auto mapped = tenant.program.mmap(0, pages * kPage, bsd::kReadWrite, kAnonPrivate);
    REQUIRE(mapped.ok());
    CHECK_FALSE(lease.overlaps(range_of(mapped.value, pages)));
  }
  CHECK(tenant.program.mincore(lease.start().value(), kPage).error == ENOMEM);
}

TEST_CASE("in a lease mappings begin at its start and end in it", "[lease]") {
  Tenant tenant;
  const std::uint64_t at = tenant.start();
  const std::uint64_t bytes = tenant.lease().bytes();
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at + kPage, kPage));
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at - kPage, 2 * kPage));
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at, bytes + kPage));
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at, kPage + 1));
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at, 0));
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at, ~std::uint64_t{0}));
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at, kPage, 2));  // more pages than it has
  CHECK(tenant.lease().bytes() == bytes);
  CHECK(tenant.tell(protocol::kCallMmap, at, bytes, 1));
  CHECK(tenant.lease().empty());
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at + bytes, kPage));
}

TEST_CASE("a call that is about the lease ends it first", "[lease]") {
  Tenant tenant;
  const std::uint64_t at = tenant.start() + 8 * kPage;
  SECTION("mmap") {
    const auto mapped =
        tenant.program.mmap(at, kPage, bsd::kReadWrite, kAnonPrivate | bsd::kFixed);
    REQUIRE(mapped.ok());
    tenant.program.store(at, 3);
    CHECK(tenant.program.load(at) == 3);
  }
  SECTION("munmap") { CHECK(tenant.program.munmap(at, kPage).error == EINVAL); }
  SECTION("mlockall") { CHECK(tenant.program.mlockall(2).ok()); }
  CHECK(tenant.lease().end() == VirtualAddress(0));
  CHECK_FALSE(tenant.tell(protocol::kCallMmap, at - 8 * kPage, kPage));
}

TEST_CASE("a program has another lease once the first is used up", "[lease]") {
  Tenant tenant;
  const std::uint64_t at = tenant.start();
  while (tenant.lease().bytes() >= protocol::kMostLeasedBytes) tenant.map(1024);
  const VirtualRange rest = tenant.lease();
  REQUIRE(tenant.ask().ok());
  CHECK(tenant.lease().bytes() >= protocol::kMostLeasedBytes);
  CHECK(tenant.lease() != rest);
  tenant.program.store(at, 1);
  tenant.program.store(tenant.map(1), 2);
}

TEST_CASE("what was mapped last is unmapped into the lease, what was before that is free", "[lease]") {
  Tenant tenant;
  const std::uint64_t first = tenant.map(4);
  const std::uint64_t second = tenant.map(6);
  tenant.program.store(second, 5);
  REQUIRE(tenant.unmap(second, 6));
  CHECK(tenant.start() == second);
  CHECK(tenant.map(2) == second);
  CHECK(tenant.program.load(second) == 0);
  REQUIRE(tenant.unmap(first, 4));
  CHECK(tenant.start() == second + 2 * kPage);
  CHECK(tenant.program.try_load(first) == SimResult::segmentation_fault);
  const auto mapped = tenant.program.mmap(0, 4 * kPage, bsd::kReadWrite, kAnonPrivate);
  CHECK(mapped.value == first);
}

TEST_CASE("a program unmaps by itself what is private memory alone", "[lease]") {
  Tenant tenant;
  FakeFile& file = tenant.machine.make_file(kPage);
  const auto mapped = tenant.program.mmap(0, kPage, bsd::kReadWrite, bsd::kShared, file.open());
  REQUIRE(mapped.ok());
  CHECK_FALSE(tenant.tell(protocol::kCallMunmap, mapped.value, kPage));
  const std::uint64_t at = tenant.map(2);
  tenant.map(1);
  CHECK_FALSE(tenant.tell(protocol::kCallMunmap, at + 1, kPage));
  CHECK_FALSE(tenant.tell(protocol::kCallMunmap, at, kPage + 1));
  CHECK_FALSE(tenant.tell(protocol::kCallMunmap, at, 0));
  CHECK(tenant.program.space().map().find(VirtualAddress(at)) != nullptr);
  // A child may lack what its parent kept to itself.
  CHECK(tenant.unmap(at, 2));
  CHECK(tenant.tell(protocol::kCallMunmap, at, 2 * kPage));
}

TEST_CASE("wired memory that a program unmaps by itself is not counted any more", "[lease]") {
  Tenant tenant;
  const std::uint64_t at = tenant.map(3);
  REQUIRE(tenant.program.mlock(at, 3 * kPage).ok());
  CHECK(tenant.program.space().wired_pages() == 3);
  REQUIRE(tenant.unmap(at, 3));
  CHECK(tenant.program.space().wired_pages() == 0);
}

TEST_CASE("there is no lease where each page or each mapping has to be asked for", "[lease]") {
  SECTION("a limit to memory") {
    Tenant tenant({.memory_limit_pages = 64});
    CHECK(tenant.lease().end() == VirtualAddress(0));
    CHECK_FALSE(tenant.tell(protocol::kCallMunmap, 0x1000, kPage));
  }
  SECTION("a policy") {
    Tenant tenant({.policy = "deny prot x\n"});
    CHECK(tenant.lease().end() == VirtualAddress(0));
  }
  SECTION("a limit to entries that a lease could exceed") {
    Tenant tenant({.max_entries = 1000});
    CHECK(tenant.lease().end() == VirtualAddress(0));
  }
  SECTION("what is mapped is to be wired") {
    Tenant tenant;
    REQUIRE(tenant.program.mlockall(2).ok());
    REQUIRE(tenant.ask().ok());
    CHECK(tenant.lease().end() == VirtualAddress(0));
  }
}

TEST_CASE("a child has what its parent had mapped without having been heard", "[lease]") {
  Tenant tenant;
  const std::uint64_t known = tenant.map(2);
  const std::uint64_t at = tenant.start();
  const std::uint64_t bytes = tenant.lease().bytes();
  tenant.map_at_host(at, 4);
  const auto child = tenant.program.fork_unsettled();
  // The child need not say anything before it uses it.
  child->store(at + 3 * kPage, 9);
  CHECK(child->load(at + 3 * kPage) == 9);
  child->space().settle_lease(true);
  CHECK(child->load(at + 3 * kPage) == 9);
  child->store(at, 1);
  child->store(known, 1);
  vm::VmMap& map = child->space().map();
  CHECK(map.find(VirtualAddress(at + 3 * kPage)) != nullptr);
  CHECK(map.find(VirtualAddress(at + 4 * kPage)) == nullptr);
  CHECK(map.find(VirtualAddress(at + bytes - kPage)) == nullptr);
  CHECK(child->space().lease().end() == VirtualAddress(0));
  // The parent goes on with it.
  CHECK(tenant.tell(protocol::kCallMmap, at, 4 * kPage));
  tenant.program.store(at, 2);
}

TEST_CASE("a child has nothing of what its parent had unmapped without having been heard", "[lease]") {
  Tenant tenant;
  const std::uint64_t at = tenant.map(8);
  const auto elsewhere = tenant.program.mmap(kElsewhere, 8 * kPage, bsd::kReadWrite,
                                             kAnonPrivate | bsd::kFixed);
  REQUIRE(elsewhere.ok());
  hal::Plan plan;
  plan.add(Step::Kind::give_back, range_of(at + 2 * kPage, 3));
  plan.add(Step::Kind::give_back, range_of(kElsewhere, 4));
  REQUIRE(tenant.program.pmap().apply(plan) == 0);
  const auto child = tenant.program.fork_unsettled();
  child->space().settle_lease(true);
  vm::VmMap& map = child->space().map();
  CHECK(map.covers(range_of(at, 2)));
  CHECK(map.is_free(range_of(at + 2 * kPage, 3)));
  CHECK(map.covers(range_of(at + 5 * kPage, 3)));
  CHECK(map.is_free(range_of(kElsewhere, 4)));
  CHECK(map.covers(range_of(kElsewhere + 4 * kPage, 4)));
}

TEST_CASE("a child has what it gets of its own, also of an unheard parent", "[lease]") {
  Tenant tenant({.personality = "freebsd-14"});
  const auto shared =
      tenant.program.mmap(0, 4 * kPage, bsd::kReadWrite, bsd::kShared | bsd::kAnon);
  REQUIRE(shared.ok());
  // The host leaves it out of the fork, and the child is to have zeroes there.
  REQUIRE(tenant.program.minherit(shared.value, 4 * kPage, bsd::kInheritZero).ok());
  const auto child = tenant.program.fork_unsettled();
  child->space().settle_lease(true);
  hal::Plan plan;
  child->space().settle(plan);
  REQUIRE(child->pmap().apply(plan) == 0);
  child->store(shared.value, 3);
}

TEST_CASE("a child has its own of what its parent changes by itself while it forks", "[lease]") {
  Tenant tenant;
  const std::uint64_t first = tenant.map(8);
  const std::uint64_t second = tenant.map(4);
  tenant.map(1);
  tenant.program.store(first, 7);
  std::uint64_t third = 0;
  const auto child = tenant.program.fork_now([&] {
    REQUIRE(tenant.unmap(first, 8));
    hal::Plan plan;
    plan.add(Step::Kind::protect, range_of(second, 4)).protection = Protection(bsd::kRead);
    REQUIRE(tenant.program.pmap().apply(plan) == 0);
    REQUIRE(tenant.tell(protocol::kCallMprotect, second, 4 * kPage, bsd::kRead));
    third = tenant.map(4);
  });
  // Before it has said anything.
  CHECK(child->load(first) == 7);
  child->store(first + 5 * kPage, 3);
  child->space().settle_lease(false);
  hal::Plan plan;
  child->space().settle(plan);
  REQUIRE(child->pmap().apply(plan) == 0);
  child->store(first + 6 * kPage, 4);
  CHECK(child->load(first + 5 * kPage) == 3);
  child->store(second + kPage, 5);
  vm::VmMap& map = child->space().map();
  CHECK(map.covers(range_of(first, 8)));
  CHECK(map.find(VirtualAddress(second))->protection == Protection(bsd::kReadWrite));
  CHECK(map.is_free(range_of(third, 4)));
  CHECK(child->mprotect(first, 8 * kPage, bsd::kRead).ok());
}

TEST_CASE("a child of a parent that has been heard has nothing of its lease", "[lease]") {
  Tenant tenant;
  const VirtualRange lease = tenant.lease();
  const auto child = tenant.program.fork_unsettled();
  child->space().settle_lease(false);
  CHECK(child->space().map().is_free(lease));
}
