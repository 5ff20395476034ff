// mapped_files: what mapped files cost, served, against the nearest that the kernel has: see each
// measurement. Runs under vmrun.
#include <sys/mman.h>

#include <cerrno>
#include <memory>
#include <numeric>
#include <vector>

#include "bench/bare_file.h"
#include "bench/benchmark.h"
#include "bench/mapping.h"
#include "bench/warm_file.h"

namespace bench {
namespace {

std::vector<std::size_t> all_pages(std::size_t count) {
  std::vector<std::size_t> pages(count);
  std::iota(pages.begin(), pages.end(), std::size_t{0});
  return pages;
}

/// Microseconds a page.
template <class Memory>
double read(const Memory& memory, const std::vector<std::size_t>& order) {
  return time_of(1, [&] {
           for (const std::size_t page : order) memory.read(page);
         }) /
         static_cast<double>(order.size());
}

double read_in_order(const Mapping& memory) { return read(memory, all_pages(memory.pages())); }

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
                 throw std::system_error(errno, std::generic_category(), "pread");
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
  if (memory_file < 0) throw std::system_error(errno, std::generic_category(), "memfd_create");
  const auto descriptor = side == Side::native ? memory_file : file.descriptor();
  if (side == Side::native && ::ftruncate(memory_file, static_cast<off_t>(options.bytes)) != 0)
    throw std::system_error(errno, std::generic_category(), "ftruncate");
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

void cold_file(Report& report, Side side, const Options& options) {
  const WarmFile file(options.bytes);
  file.cool();
  report.add("cold file in order", side,
             read_in_order(Mapping::file(side, options.bytes, file.descriptor())));
  file.cool();
  Mapping memory = Mapping::file(side, options.bytes, file.descriptor());
  memory.advise(MADV_RANDOM);
  report.add("cold file at random, MADV_RANDOM", side,
             read(memory, shuffled_pages(memory.pages(), options.random_pages / 4)));
}

/// What no server of faults can do better: the floor of the two above.
void cold_file_with_bare_handler(Report& report, Side side, const Options& options) {
  const WarmFile file(options.bytes);
  const std::size_t pages = options.bytes / kPageBytes;
  const auto time = [&](const std::vector<std::size_t>& order, BareFile::Reads reads) {
    file.cool();
    if (side == Side::served) return read(BareFile(file.descriptor(), options.bytes, reads), order);
    Mapping memory = Mapping::file(side, options.bytes, file.descriptor());
    if (reads == BareFile::Reads::page) memory.advise(MADV_RANDOM);
    return read(memory, order);
  };
  report.add("cold file in order, with a bare handler in place of the server", side,
             time(all_pages(pages), BareFile::Reads::windows));
  report.add("cold file at random, with a bare handler in place of the server", side,
             time(shuffled_pages(pages, options.random_pages / 4), BareFile::Reads::page));
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
      {bench::warm_file_against_pread, bench::resident_file, bench::cold_file,
       bench::cold_file_with_bare_handler, bench::dirty_and_sync},
      argc, argv);
}
