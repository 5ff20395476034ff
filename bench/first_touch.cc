// first_touch: what the first touch of a page costs, served and by the kernel alone, in one program
// and in turns. Runs under vmrun.
#include "bench/benchmark.h"
#include "bench/mapping.h"
#include "bench/warm_file.h"

namespace bench {
namespace {

void touch_in_order(Report& report, Side side, const Options& options) {
  const auto before_map = Clock::now();
  double touching = 0;
  std::size_t pages = 0;
  {
    const Mapping memory = Mapping::anonymous(side, options.bytes);
    pages = memory.pages();
    const auto start = Clock::now();
    for (std::size_t i = 0; i < pages; ++i) memory.page(i) = 1;
    touching = microseconds_since(start);
  }
  const double all = microseconds_since(before_map);
  report.add("anonymous, in order", side, touching / static_cast<double>(pages));
  report.add("anonymous, in order, with mmap and munmap", side, all / static_cast<double>(pages));
}

void touch_at_random(Report& report, Side side, const Options& options) {
  Mapping memory = Mapping::anonymous(side, options.bytes);
  memory.advise(MADV_RANDOM);
  const auto order = shuffled_pages(memory.pages(), options.random_pages);
  const auto start = Clock::now();
  for (const std::size_t page : order) memory.page(page) = 1;
  report.add("anonymous, at random, MADV_RANDOM", side,
             microseconds_since(start) / static_cast<double>(order.size()));
}

double read_in_order(const Mapping& memory) {
  const auto start = Clock::now();
  for (std::size_t i = 0; i < memory.pages(); ++i) {
    const char read = memory.page(i);
    (void)read;
  }
  return microseconds_since(start) / static_cast<double>(memory.pages());
}

void read_file(Report& report, Side side, const Options& options) {
  const WarmFile file(options.bytes);
  const Mapping first = Mapping::file(side, options.bytes, file.descriptor());
  report.add("cached file, in order, mapped first", side, read_in_order(first));
  const Mapping second = Mapping::file(side, options.bytes, file.descriptor());
  report.add("cached file, in order, mapped again", side, read_in_order(second));
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_benchmark(
      "first_touch",
      "Measures the first touch of pages, of memory that the server serves and of the kernel's own "
      "4 KiB pages, in turns. Runs under vmrun.",
      {bench::touch_in_order, bench::touch_at_random, bench::read_file}, argc, argv);
}
