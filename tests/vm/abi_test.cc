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
const vm::Abi& freebsd() { return vm::freebsd_abi(); }
}  // namespace

TEST_CASE("a frame's numbers are found by its Abi, and no others", "[abi]") {
  CHECK(vm::find_abi(protocol::kAbiLinux) == &host());
  CHECK(vm::find_abi(protocol::kAbiFreebsd) == &freebsd());
  CHECK(vm::find_abi(protocol::kAbiCount) == nullptr);
  CHECK(vm::find_abi(0xffff) == nullptr);
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
  CHECK(host().map_flags(MAP_PRIVATE | MAP_ANONYMOUS | 0x40).host_only);  // MAP_32BIT
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
  CHECK_FALSE(on_fault.current);
  CHECK(freebsd().lock_all_flags(3).current);
  CHECK(freebsd().lock_all_flags(3).future);
}

TEST_CASE("minherit knows share, copy and none", "[abi]") {
  for (const vm::Abi* abi : {&host(), &freebsd()}) {
    CHECK(abi->inheritance(0).value == hal::Inherit::share);
    CHECK(abi->inheritance(1).value == hal::Inherit::copy);
    CHECK(abi->inheritance(2).value == hal::Inherit::none);
    CHECK_FALSE(abi->inheritance(3).valid);
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

TEST_CASE("errors up to ERANGE are the same numbers, with EAGAIN apart", "[abi]") {
  for (Error error : {Error::not_permitted, Error::io, Error::bad_descriptor, Error::no_memory,
                      Error::access, Error::fault, Error::busy, Error::exists, Error::no_device,
                      Error::invalid}) {
    CHECK(freebsd().error_number(error) == vm::to_errno(error));
    CHECK(host().error_number(error) == vm::to_errno(error));
  }
  CHECK(freebsd().error_number(Error::again) == 35);
  CHECK(freebsd().error_number(Error::not_supported) == 45);
  CHECK(freebsd().error_number(Error::no_call) == 78);
  CHECK(host().error_number(Error::again) == EAGAIN);
  CHECK(host().error_number(Error::not_supported) == EOPNOTSUPP);
  CHECK(freebsd().error_number(Error::none) == 0);
}

TEST_CASE("errors that a pager brings have FreeBSD's numbers too", "[abi]") {
  const auto number = [](int value) {
    return freebsd().error_number(vm::error_from_errno(value));
  };
  CHECK(number(ENOSPC) == 28);
  CHECK(number(EROFS) == 30);
  CHECK(number(EDEADLK) == 11);
  CHECK(number(ENAMETOOLONG) == 63);
  CHECK(number(ELOOP) == 62);
  CHECK(number(EOVERFLOW) == 84);
  CHECK(number(ETIMEDOUT) == 60);
  CHECK(number(ESTALE) == 70);
  CHECK(number(EDQUOT) == 69);
  // What FreeBSD has no number for must not come out as another error's.
  CHECK(number(EUCLEAN) == 5);
}

TEST_CASE("protection bits are the same in both, and unknown ones are dropped", "[abi]") {
  CHECK(vm::Abi::protection(0x7).bits() == 7);
  CHECK(vm::Abi::protection(0xf9) == hal::Protection::read());
}
