// PagingFixture: a machine with next to no memory and a program that uses more, for the tests of
// pages that leave and come back.
#pragma once

#include <sys/mman.h>

#include <catch2/catch.hpp>

#include <cstdint>
#include <memory>

#include "tests/vm/test_machine.h"

namespace test {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;

struct PagingFixture {
  static constexpr std::uint64_t kPages = 64;  ///< of memory

  TestMachine machine{{.memory_limit_pages = kPages}};
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
  vm::Memory& memory = machine.machine.memory();
  vm::SwapSpace& swap = machine.machine.swap();

  std::uint64_t map(std::uint64_t pages, std::uint64_t flags = kAnonPrivate) {
    const auto mapped = program->mmap(0, pages * kPage, bsd::kReadWrite, flags);
    REQUIRE(mapped.ok());
    return mapped.value;
  }
  /// What fill() stores into the page of a range, and check() expects there.
  static unsigned value_of(std::uint64_t page, unsigned salt = 0) {
    return static_cast<unsigned>((page * 7 + salt) % 251 + 1);
  }
  void fill(Program& who, std::uint64_t at, std::uint64_t pages, unsigned salt = 0) {
    for (std::uint64_t i = 0; i < pages; ++i) who.store(at + i * kPage, value_of(i, salt));
  }
  void check(Program& who, std::uint64_t at, std::uint64_t pages, unsigned salt = 0) {
    for (std::uint64_t i = 0; i < pages; ++i) {
      INFO("page " << i);
      REQUIRE(who.load(at + i * kPage) == value_of(i, salt));
    }
  }
  /// So many pages of the program that have been stored to.
  std::uint64_t filled(std::uint64_t pages) {
    const std::uint64_t at = map(pages);
    fill(*program, at, pages);
    return at;
  }
  /// The same of a program with the host's numbers, which it has from here on.
  std::uint64_t filled_on_linux(std::uint64_t pages) {
    program->abi = protocol::kAbiLinux;
    const auto mapped = program->mmap(0, pages * kPage, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS);
    REQUIRE(mapped.ok());
    fill(*program, mapped.value, pages);
    return mapped.value;
  }
  /// The same as filled(), when they have left; with all else that can leave.
  std::uint64_t in_swap(std::uint64_t pages) {
    const std::uint64_t at = filled(pages);
    page_everything_out();
    return at;
  }
  /// Has all that can leave do so, and get to the pager.
  void page_everything_out() {
    for (int i = 0; i < 1000; ++i) {
      bool any = false;
      for (Program* one : machine.programs) {
        any = one->space().start_leaving() || any;
        while (one->pmap().carry_out_taking()) continue;
      }
      std::uint64_t left = 0;
      for (Program* one : machine.programs) left += resident(*one);
      if (left == 0 || !any) break;
    }
    swap.launder(~std::uint64_t{0});
    machine.pagers.pump_all();
    swap.reclaim(~std::uint64_t{0});
  }
  static std::uint64_t resident(Program& who) { return who.space().private_pages(); }
  vm::SwapSpace::Figures figures() const { return swap.figures(); }
};

}  // namespace test
