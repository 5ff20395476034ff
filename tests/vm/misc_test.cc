// sbrk, sstk, brk, getpagesize, and the table of calls.
#include <catch2/catch.hpp>

#include <cerrno>
#include <cstring>

#include "tests/vm/test_machine.h"
#include "vmserver/vm/calls/table.h"

using namespace test;

TEST_CASE("sbrk and sstk are not offered: EOPNOTSUPP in the caller's numbers", "[misc]") {
  TestMachine machine;
  Program program(machine);
  for (protocol::CallNumber number : {protocol::kCallSbrk, protocol::kCallSstk}) {
    program.abi = protocol::kAbiFreebsd;
    CHECK(program.call(program.request(number, {4096})).error == EOPNOTSUPP);
    program.abi = protocol::kAbiLinux;
    CHECK(program.call(program.request(number, {4096})).error == EOPNOTSUPP);
  }
}

TEST_CASE("getpagesize answers the size of a page", "[misc]") {
  TestMachine machine;
  Program program(machine);
  CHECK(program.call(program.request(protocol::kCallGetpagesize)).value == 4096);
}

TEST_CASE("the break is the host's", "[misc]") {
  TestMachine machine;
  Program program(machine);
  const auto result = program.call(program.request(protocol::kCallBrk, {0x1234567}));
  CHECK(result.ok());
  CHECK(result.value_from_host);
  REQUIRE(program.pmap().host_calls().size() == 1);
  CHECK(program.pmap().host_calls()[0].start().value() == 0x1234567);
}

TEST_CASE("a number that is no call is ENOSYS in the caller's numbers", "[misc]") {
  TestMachine machine;
  Program program(machine);
  for (unsigned number : {unsigned{protocol::kCallContinue}, unsigned{protocol::kCallCount}, 60000u}) {
    protocol::TrapRequest request = program.request(protocol::kCallMmap);
    request.call = static_cast<std::uint16_t>(number);
    CHECK(program.call(request).error == ENOSYS);
  }
}

TEST_CASE("each call is counted under its name", "[misc]") {
  TestMachine machine;
  Program program(machine);
  program.munmap(0, 0);
  program.munmap(0, 0);
  CHECK(machine.machine.counters().calls[protocol::kCallMunmap] == 2);
  CHECK(std::strcmp(vm::calls::name(protocol::kCallMunmap), "munmap") == 0);
  CHECK(std::strcmp(vm::calls::name(protocol::kCallExit), "exit") == 0);
  CHECK(vm::calls::name(protocol::kCallContinue) == nullptr);
  CHECK(vm::calls::name(protocol::kCallCount) == nullptr);
}

TEST_CASE("mlock2 is mlock", "[misc]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  CHECK(program.call(program.request(protocol::kCallMlock2, {mapped.value, kPage})).ok());
  CHECK(program.space().wired_pages() == 1);
}

TEST_CASE("personalities are found by name", "[misc]") {
  REQUIRE(vm::find_personality("freebsd-7") != nullptr);
  CHECK(std::strcmp(vm::find_personality("freebsd-7")->name, "freebsd-7") == 0);
  CHECK(vm::find_personality("vms") == nullptr);
  CHECK(vm::find_personality("") == nullptr);
}

TEST_CASE("a closed space answers nothing and is done with its entries", "[misc]") {
  TestMachine machine;
  Program program(machine);
  const auto mapped = program.mmap(0, kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate);
  program.kill();
  CHECK(program.space().map().entry_count() == 0);
  program.space().fault(hal::VirtualAddress(mapped.value), true);
  program.space().close();
  CHECK(program.try_load(mapped.value) == hal::SimResult::segmentation_fault);
}
