#include <catch2/catch.hpp>

#include <cerrno>
#include <sys/mman.h>

#include "protocol/trap_frame.h"
#include "tests/vm/test_machine.h"
#include "vmserver/vm/abi.h"

using vm::Advice;
using vm::Error;

namespace {
const vm::Abi& host() { return vm::linux_abi(); }
const vm::Abi& freebsd() { return vm::freebsd_abi(vm::FreebsdNumbers::of_7); }
const vm::Abi* find(std::uint16_t number) {
  return vm::find_abi(number, vm::FreebsdNumbers::of_7);
}
}  // namespace

TEST_CASE("a frame's numbers are found by its Abi, and no others", "[abi]") {
  CHECK(find(protocol::kAbiLinux) == &host());
  CHECK(find(protocol::kAbiFreebsd) == &freebsd());
  CHECK(find(protocol::kAbiCount) == nullptr);
  CHECK(find(0xffff) == nullptr);
}

TEST_CASE("FreeBSD's mmap flags mean what its manual says", "[abi]") {
  using namespace test;
  const vm::MapFlags flags =
      freebsd().map_flags(bsd::kShared | bsd::kFixed | bsd::kNoSync | bsd::kNoCore);
  CHECK(flags.shared);
  CHECK(flags.fixed);
  CHECK(flags.no_sync);
  CHECK(flags.no_core);
  CHECK_FALSE(flags.is_private);
  CHECK_FALSE(flags.anonymous);
  CHECK_FALSE(flags.stack);
  CHECK_FALSE(flags.no_replace);
  CHECK_FALSE(flags.host_only);
  CHECK(freebsd().map_flags(bsd::kAnon).anonymous);
  CHECK(freebsd().map_flags(bsd::kStack).stack);
  CHECK(freebsd().map_flags(bsd::kPrivate).is_private);
}

TEST_CASE("Linux's mmap flags translate by meaning, not by name", "[abi]") {
  CHECK_FALSE(host().map_flags(MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK).stack);
  CHECK(host().map_flags(MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN).stack);
  CHECK(host().map_flags(MAP_PRIVATE | MAP_ANONYMOUS).anonymous);
  CHECK(host().map_flags(MAP_PRIVATE).is_private);
  CHECK(host().map_flags(MAP_SHARED).shared);
  CHECK(host().map_flags(MAP_SHARED_VALIDATE).shared);
  CHECK_FALSE(host().map_flags(MAP_SHARED_VALIDATE).is_private);
  CHECK(host().map_flags(MAP_FIXED).fixed);
  CHECK_FALSE(host().map_flags(MAP_FIXED).no_replace);
  CHECK(host().map_flags(MAP_FIXED_NOREPLACE).fixed);
  CHECK(host().map_flags(MAP_FIXED_NOREPLACE).no_replace);
  const vm::MapFlags hints = host().map_flags(MAP_PRIVATE | MAP_NORESERVE | MAP_POPULATE |
                                              MAP_LOCKED | MAP_NONBLOCK | MAP_DENYWRITE);
  CHECK_FALSE(hints.no_sync);
  CHECK_FALSE(hints.no_core);
  CHECK_FALSE(hints.host_only);
  CHECK(host().map_flags(MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB).host_only);
  CHECK(host().map_flags(MAP_PRIVATE | MAP_ANONYMOUS | 0x40).low);  // MAP_32BIT
}

TEST_CASE("Linux's MADV_DONTNEED throws data away, FreeBSD's does not", "[abi]") {
  CHECK(host().advice(MADV_DONTNEED) == Advice::discard);
  CHECK(freebsd().advice(4) == Advice::deactivate);
}

TEST_CASE("FreeBSD's advice goes from MADV_NORMAL to MADV_PROTECT", "[abi]") {
  const Advice all[] = {Advice::normal,  Advice::random,    Advice::sequential, Advice::will_need,
                        Advice::deactivate, Advice::free,   Advice::no_sync,    Advice::auto_sync,
                        Advice::no_core, Advice::core,      Advice::protect};
  for (int i = 0; i < 11; ++i) CHECK(freebsd().advice(i) == all[i]);
  CHECK(freebsd().advice(-1) == Advice::unknown);
  CHECK(freebsd().advice(11) == Advice::unknown);
}

TEST_CASE("Linux's advice translates by meaning", "[abi]") {
  CHECK(host().advice(MADV_NORMAL) == Advice::normal);
  CHECK(host().advice(MADV_RANDOM) == Advice::random);
  CHECK(host().advice(MADV_SEQUENTIAL) == Advice::sequential);
  CHECK(host().advice(MADV_WILLNEED) == Advice::will_need);
  CHECK(host().advice(MADV_FREE) == Advice::free);
  CHECK(host().advice(MADV_REMOVE) == Advice::remove);
  CHECK(host().advice(MADV_DONTFORK) == Advice::inherit_none);
  CHECK(host().advice(MADV_DOFORK) == Advice::inherit_copy);
  CHECK(host().advice(MADV_WIPEONFORK) == Advice::inherit_zero);
  CHECK(host().advice(MADV_KEEPONFORK) == Advice::inherit_copy);
  CHECK(host().advice(MADV_DONTDUMP) == Advice::no_core);
  CHECK(host().advice(MADV_DODUMP) == Advice::core);
  CHECK(host().advice(MADV_HUGEPAGE) == Advice::ignore);
  CHECK(host().advice(23) == Advice::host);  // MADV_POPULATE_WRITE
  CHECK(host().advice(12345) == Advice::unknown);
  CHECK(host().advice(-1) == Advice::unknown);
}

TEST_CASE("posix_madvise has numbers of its own, and its DONTNEED keeps data", "[abi]") {
  CHECK(host().posix_advice(POSIX_MADV_DONTNEED) == Advice::deactivate);
  CHECK(host().posix_advice(POSIX_MADV_WILLNEED) == Advice::will_need);
  CHECK(freebsd().posix_advice(4) == Advice::deactivate);
  CHECK(host().posix_advice(5) == Advice::unknown);
  CHECK(freebsd().posix_advice(5) == Advice::unknown);
  CHECK(freebsd().posix_advice(-1) == Advice::unknown);
}

TEST_CASE("MS_SYNC is 4 on Linux and 0 on FreeBSD; both are synchronous", "[abi]") {
  CHECK_FALSE(host().sync_flags(MS_SYNC).asynchronous);
  CHECK_FALSE(freebsd().sync_flags(0).asynchronous);
  CHECK(host().sync_flags(MS_ASYNC).asynchronous);
  CHECK(host().sync_flags(MS_INVALIDATE).invalidate);
  CHECK(freebsd().sync_flags(1).asynchronous);
  CHECK(freebsd().sync_flags(2).invalidate);
}

TEST_CASE("mlockall refuses no flags and unknown ones in both Abis", "[abi]") {
  CHECK(host().lock_all_flags(0).unknown);
  CHECK(freebsd().lock_all_flags(0).unknown);
  CHECK(host().lock_all_flags(8).unknown);
  CHECK(freebsd().lock_all_flags(4).unknown);
  CHECK(host().lock_all_flags(MCL_CURRENT).current);
  CHECK(host().lock_all_flags(MCL_FUTURE).future);
  const vm::LockAllFlags on_fault = host().lock_all_flags(MCL_CURRENT | 4);
  CHECK_FALSE(on_fault.unknown);
  CHECK(on_fault.current);
  CHECK(on_fault.on_fault);
  CHECK(host().lock_all_flags(4).unknown);  // of nothing
  CHECK(freebsd().lock_all_flags(3).current);
  CHECK(freebsd().lock_all_flags(3).future);
}

TEST_CASE("minherit knows share, copy, none and zero", "[abi]") {
  for (const vm::Abi* abi : {&host(), &freebsd()}) {
    CHECK(abi->inheritance(0).value == hal::Inherit::share);
    CHECK(abi->inheritance(1).value == hal::Inherit::copy);
    CHECK(abi->inheritance(2).value == hal::Inherit::none);
    CHECK(abi->inheritance(3).value == hal::Inherit::zero);
    CHECK_FALSE(abi->inheritance(4).valid);
    CHECK_FALSE(abi->inheritance(-1).valid);
  }
}

TEST_CASE("mincore answers one bit on Linux and five on FreeBSD", "[abi]") {
  vm::CoreBits bits;
  CHECK(freebsd().core_bits(bits) == 0);
  bits.in_core = bits.referenced = bits.modified = true;
  CHECK(freebsd().core_bits(bits) == 0x07);
  CHECK(host().core_bits(bits) == 1);
  bits = {};
  bits.in_core = bits.referenced_other = bits.modified_other = true;
  CHECK(freebsd().core_bits(bits) == 0x19);
  bits.in_core = false;
  CHECK(host().core_bits(bits) == 0);
}

TEST_CASE("protection bits are the same in both, and unknown ones are dropped", "[abi]") {
  for (const vm::Abi* abi : {&host(), &freebsd()}) {
    CHECK(abi->protection(0x7).value.bits() == 7);
    CHECK_FALSE(abi->protection(0x7).unknown);
    CHECK(abi->protection(0xf1).value == hal::Protection::read());
    CHECK(abi->protection(0xf1).unknown);
    CHECK_FALSE(abi->protection(0x70007).maximum);
  }
}

TEST_CASE("PROT_MAX() is FreeBSD 14's, and others' unknown bits", "[abi]") {
  const vm::Abi& newer = vm::freebsd_abi(vm::FreebsdNumbers::of_14);
  const vm::ProtectionArgument argument = newer.protection(1 | 3 << 16);
  CHECK(argument.value == hal::Protection::read());
  REQUIRE(argument.maximum);
  CHECK(argument.maximum->bits() == 3);
  CHECK_FALSE(argument.unknown);
  CHECK_FALSE(newer.protection(1).maximum);
  CHECK(host().protection(1 | 3 << 16).unknown);
}

TEST_CASE("the host's PROT_GROWSDOWN and PROT_SEM are known, and nothing else", "[abi]") {
  CHECK(host().protection(PROT_READ | PROT_GROWSDOWN).grows_down);
  CHECK_FALSE(host().protection(PROT_READ | PROT_GROWSDOWN | 8).unknown);
  CHECK(host().protection(0x10).unknown);
}

TEST_CASE("flags that FreeBSD 7 did not have are unknown to it", "[abi]") {
  const vm::Abi& newer = vm::freebsd_abi(vm::FreebsdNumbers::of_14);
  constexpr std::uint64_t kGuard = 0x2000, kExcl = 0x4000, kPrefault = 0x40000, kLow = 0x80000;
  const std::uint64_t all = kGuard | kExcl | kPrefault | kLow | (std::uint64_t{21} << 24);
  const vm::MapFlags old_flags = freebsd().map_flags(all);
  CHECK(old_flags.unknown);
  CHECK_FALSE(old_flags.guard);
  CHECK_FALSE(old_flags.no_replace);
  CHECK(old_flags.alignment == 0);
  const vm::MapFlags flags = newer.map_flags(all);
  CHECK_FALSE(flags.unknown);
  CHECK(flags.guard);
  CHECK(flags.no_replace);
  CHECK(flags.prefault);
  CHECK(flags.low);
  CHECK(flags.alignment == 21);
  CHECK_FALSE(flags.bad_alignment);
  CHECK(newer.map_flags(std::uint64_t{11} << 24).bad_alignment);
  CHECK(newer.map_flags(std::uint64_t{64} << 24).bad_alignment);
  CHECK_FALSE(newer.map_flags(std::uint64_t{12} << 24).bad_alignment);
  CHECK(newer.map_flags(0x8).unknown);
  CHECK_FALSE(newer.map_flags(0x20 | 0x40 | 0x200).unknown);  // never did anything
}

TEST_CASE("4.3BSD's mmap had its own protection bits and four flags", "[abi]") {
  using hal::Protection;
  const vm::Abi& old = vm::bsd43_abi();
  CHECK(old.protection(1).value == Protection::execute());
  CHECK(old.protection(2).value == Protection::write());
  CHECK(old.protection(4).value == Protection::read());
  CHECK(old.protection(15).value == Protection::all());
  CHECK(old.map_flags(0).is_private);
  CHECK_FALSE(old.map_flags(0).shared);
  CHECK(old.map_flags(0x10).shared);
  CHECK_FALSE(old.map_flags(0x10).is_private);
  CHECK(old.map_flags(0x20).is_private);
  CHECK(old.map_flags(0x2).anonymous);
  CHECK(old.map_flags(0x100).fixed);
}
