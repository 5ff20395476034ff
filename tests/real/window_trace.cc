// Compiled by compiler_test.cc: prints the windows that a walk through memory gets.
#include <cstdio>
#include <cstdlib>

#include "vmserver/vm/fault_window.h"

int main(int argc, char** argv) {
  const int faults = argc > 1 ? std::atoi(argv[1]) : 20;
  vm::FaultWindow window;
  std::uint64_t page = 1000;
  for (int i = 0; i < faults; ++i) {
    const std::uint32_t pages = window.grow(page, vm::Advice::normal).count;
    std::printf("fault at page %llu brings in %u\n", static_cast<unsigned long long>(page), pages);
    page += i % 13 == 12 ? 5000 : pages;
  }
  return 0;
}
