// mapped_files: what mapped files that the host has in its cache cost, served, against the nearest that
// the kernel has: see each measurement. Runs under vmrun.
#include <sys/mman.h>

#include "bench/benchmark.h"
#include "bench/fail.h"
#include "bench/mapping.h"
#include "bench/reading.h"
#include "bench/warm_file.h"

namespace bench {
namespace {

/// The kernel's pread() into memory that was never touched, against the first mapping of a file.
void warm_file_against_pread(Report& report, Side side, const Options& options) {
  const WarmFile file(options.bytes);
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  double time = 0;
  if (side == Side::native) {
    const Mapping memory = Mapping::anonymous(Side::native, options.bytes);
    auto* const start = const_cast<char*>(&memory.page(0));
    time = time_of(1, [&] {
             for (std::size_t at = 0; at < options.bytes; at += kPiece) {
               if (::pread(file.descriptor(), start + at, kPiece, static_cast<off_t>(at)) < 0)
                 fail("pread");
             }
           }) /
           static_cast<double>(memory.pages());
  } else {
    time = read_in_order(Mapping::file(side, options.bytes, file.descriptor()));
  }
  report.add("warm file in order: first mapping, against pread into fresh memory", side, time);
}

/// A mapping of a file whose pages the server has, against one of a memfd.
void resident_file(Report& report, Side side, const Options& options) {
  const WarmFile file(options.bytes);
  const int memory_file = ::memfd_create("resident", MFD_CLOEXEC);
  if (memory_file < 0) fail("memfd_create");
  const auto descriptor = side == Side::native ? memory_file : file.descriptor();
  if (side == Side::native && ::ftruncate(memory_file, static_cast<off_t>(options.bytes)) != 0)
    fail("ftruncate");
  {
    const Mapping first = side == Side::native
                              ? Mapping::writable_file(side, options.bytes, descriptor)
                              : Mapping::file(side, options.bytes, descriptor);
    for (std::size_t i = 0; i < first.pages(); ++i) {
      if (side == Side::native) {
        first.page(i) = 1;
      } else {
        first.read(i);
      }
    }
    report.add("resident file in order: mapped again, against a memfd", side,
               read_in_order(Mapping::file(side, options.bytes, descriptor)));
  }
  ::close(memory_file);
}

void dirty_and_sync(Report& report, Side side, const Options& options) {
  const std::size_t bytes = options.bytes / 4;
  const WarmFile file(bytes);
  const Mapping memory = Mapping::writable_file(side, bytes, file.descriptor());
  for (std::size_t i = 0; i < memory.pages(); ++i) memory.read(i);
  report.add("dirtying a shared file in order, and msync", side, time_of(1, [&] {
               for (std::size_t i = 0; i < memory.pages(); ++i) memory.page(i) = 2;
               memory.sync();
             }) / static_cast<double>(memory.pages()));
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_benchmark(
      "mapped_files",
      "Measures mapped files, served and by the kernel alone, in turns. Runs under vmrun.",
      {bench::warm_file_against_pread, bench::resident_file, bench::dirty_and_sync},
      argc, argv);
}
