// cold_files: what mapped files cost that come from the disk, served, and with the least of all handlers
// in the server's place, against the kernel's own mapping. Runs under vmrun. On its own: a disk that is
// still busy with what another measurement wrote is several times as slow.
#include <sys/mman.h>

#include <vector>

#include "bench/bare_file.h"
#include "bench/benchmark.h"
#include "bench/mapping.h"
#include "bench/reading.h"
#include "bench/warm_file.h"

namespace bench {
namespace {

/// One for all rounds, so that nothing is written in between.
const WarmFile& cooled_file(const Options& options) {
  static const WarmFile file(options.bytes);
  file.cool();
  return file;
}

void cold_file(Report& report, Side side, const Options& options) {
  report.add("cold file in order", side,
             read_in_order(Mapping::file(side, options.bytes, cooled_file(options).descriptor())));
  Mapping memory = Mapping::file(side, options.bytes, cooled_file(options).descriptor());
  memory.advise(MADV_RANDOM);
  report.add("cold file at random, MADV_RANDOM", side,
             read(memory, shuffled_pages(memory.pages(), options.random_pages / 4)));
}

/// What no server of faults can do better: the floor of the two above. The native side is measured anew,
/// so that each round compares what came one after the other.
void cold_file_with_bare_handler(Report& report, Side side, const Options& options) {
  const std::size_t pages = options.bytes / kPageBytes;
  const auto time = [&](const std::vector<std::size_t>& order, BareFile::Reads reads) {
    const int file = cooled_file(options).descriptor();
    if (side == Side::served) return read(BareFile(file, options.bytes, reads), order);
    Mapping memory = Mapping::file(side, options.bytes, file);
    if (reads == BareFile::Reads::page) memory.advise(MADV_RANDOM);
    return read(memory, order);
  };
  report.add("cold file in order, with a bare handler in place of the server", side,
             time(all_pages(pages), BareFile::Reads::windows));
  report.add("cold file at random, with a bare handler in place of the server", side,
             time(shuffled_pages(pages, options.random_pages / 4), BareFile::Reads::page));
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_benchmark(
      "cold_files",
      "Measures mapped files that come from the disk, served and by the kernel alone, in turns. Runs under\n"
      "vmrun.",
      {bench::cold_file, bench::cold_file_with_bare_handler}, argc, argv);
}
