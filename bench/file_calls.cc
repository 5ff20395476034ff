// file_calls: what read and write cost in a served program, against the system calls alone, in one
// program and in turns. Runs under vmrun.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "bench/benchmark.h"
#include "bench/fail.h"
#include "bench/mapping.h"
#include "bench/warm_file.h"

namespace bench {
namespace {

constexpr std::size_t kFileBytes = std::size_t{1} << 20;
constexpr int kTimes = 20'000;
constexpr int kTimesOfMapped = 1000;

std::array<char, kPageBytes> buffer;

off_t place(int i) {
  return static_cast<off_t>(static_cast<std::size_t>(i) * kPageBytes % kFileBytes);
}

void check(const char* what, ssize_t bytes) {
  if (bytes != static_cast<ssize_t>(kPageBytes)) fail(what);
}

double reading(Side side, int file, int times) {
  int i = 0;
  return time_of(times, [&] {
    const off_t at = place(i++);
    check("pread", side == Side::native
                       ? ::syscall(SYS_pread64, file, buffer.data(), kPageBytes, at)
                       : ::pread(file, buffer.data(), kPageBytes, at));
  });
}

double writing(Side side, int file, int times) {
  int i = 0;
  return time_of(times, [&] {
    const off_t at = place(i++);
    check("pwrite", side == Side::native
                        ? ::syscall(SYS_pwrite64, file, buffer.data(), kPageBytes, at)
                        : ::pwrite(file, buffer.data(), kPageBytes, at));
  });
}

void nobody_maps(Report& report, Side side, const Options&) {
  const WarmFile file(kFileBytes);
  report.add("pread of 4 KiB, nobody maps a file", side, reading(side, file.descriptor(), kTimes));
  report.add("pwrite of 4 KiB, nobody maps a file", side, writing(side, file.descriptor(), kTimes));
}

void another_is_mapped(Report& report, Side side, const Options&) {
  const WarmFile file(kFileBytes);
  const WarmFile other(kFileBytes);
  const Mapping mapping = Mapping::writable_file(Side::served, kFileBytes, other.descriptor());
  report.add("pread of 4 KiB, another file is mapped for writing", side,
             reading(side, file.descriptor(), kTimes));
  report.add("pwrite of 4 KiB, another file is mapped for writing", side,
             writing(side, file.descriptor(), kTimes));
}

void it_is_mapped(Report& report, Side side, const Options&) {
  const WarmFile file(kFileBytes);
  const Mapping mapping = Mapping::writable_file(Side::served, kFileBytes, file.descriptor());
  for (std::size_t i = 0; i < mapping.pages(); ++i) mapping.read(i);
  report.add("pread of 4 KiB, the file is mapped for writing", side,
             reading(side, file.descriptor(), kTimesOfMapped));
  report.add("pwrite of 4 KiB, the file is mapped for writing", side,
             writing(side, file.descriptor(), kTimesOfMapped));
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_benchmark(
      "file_calls",
      "Measures read and write in a served program, against the system calls alone, in turns. Runs "
      "under vmrun.",
      {bench::nobody_maps, bench::another_is_mapped, bench::it_is_mapped}, argc, argv);
}
