// map_calls: what the calls of the mmap family cost, served and by the kernel alone, in one program and
// in turns. Runs under vmrun.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bench/bare_handler.h"
#include "bench/benchmark.h"
#include "bench/fail.h"
#include "bench/mapping.h"

namespace bench {
namespace {

constexpr std::size_t kSmall = std::size_t{64} << 10;
constexpr std::size_t kLarge = std::size_t{1} << 30;
constexpr int kTimes = 200;
constexpr int kTimesOfLarge = 20;

void map_touch_unmap(Report& report, Side side, const Options&) {
  report.add("mmap, touch one page, munmap, 64 KiB", side, time_of(kTimes, [&] {
               const Mapping memory = Mapping::anonymous_as_it_is(side, kSmall);
               memory.page(3) = 1;
             }));
}

// Linux 6.13; not in all headers.
constexpr int kGuardInstall = 102;
constexpr int kGuardRemove = 103;

int guard(char* start, int advice) {
  return static_cast<int>(::syscall(SYS_madvise, start, kSmall, advice));
}

/// What is left of it when nobody is asked or told and nothing is looked at: memory that is registered,
/// guarded, and given the one page that is touched.
void guard_touch_guard(Report& report, Side side, const Options&) {
  const int userfaultfd = make_userfaultfd();
  const Mapping memory = Mapping::anonymous_as_it_is(Side::native, kSmall);
  char* const start = const_cast<char*>(&memory.page(0));
  uffdio_register range{};
  range.range = {reinterpret_cast<std::uintptr_t>(start), kSmall};
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (::ioctl(userfaultfd, UFFDIO_REGISTER, &range) != 0) fail("register memory");
  const bool known = guard(start, kGuardInstall) == 0;
  if (known) {
    alignas(kPageBytes) static const char zeroes[kPageBytes] = {};
    report.add("mmap, touch one page, munmap, 64 KiB, with guards and nothing else", side,
               time_of(kTimes, [&] {
                 if (side == Side::native) {
                   const Mapping native = Mapping::anonymous_as_it_is(Side::native, kSmall);
                   native.page(3) = 1;
                   return;
                 }
                 uffdio_copy copy{};
                 copy.dst = reinterpret_cast<std::uintptr_t>(&memory.page(3));
                 copy.src = reinterpret_cast<std::uintptr_t>(zeroes);
                 copy.len = kPageBytes;
                 if (guard(start, kGuardRemove) != 0 ||
                     ::ioctl(userfaultfd, UFFDIO_COPY, &copy) != 0) {
                   fail("bring a page");
                 }
                 memory.page(3) = 1;
                 if (guard(start, kGuardInstall) != 0) fail("guard memory");
               }));
  }
  ::close(userfaultfd);
}

void protect(Report& report, Side side, const Options&) {
  const Mapping memory = Mapping::anonymous(side, kLarge);
  memory.page(0) = 1;
  const auto toggle = [&](std::size_t bytes) {
    memory.protect(bytes, PROT_READ);
    memory.protect(bytes, PROT_READ | PROT_WRITE);
  };
  report.add("mprotect, one page", side, time_of(kTimes, [&] { toggle(kPageBytes); }) / 2);
  report.add("mprotect, 1 GiB", side, time_of(kTimesOfLarge, [&] { toggle(kLarge); }) / 2);
}

void advise(Report& report, Side side, const Options&) {
  const Mapping memory = Mapping::anonymous(side, kLarge);
  report.add("madvise, one page", side,
             time_of(kTimes, [&] { memory.advise(kPageBytes, MADV_DONTNEED); }));
  report.add("madvise, 1 GiB", side,
             time_of(kTimesOfLarge, [&] { memory.advise(kLarge, MADV_DONTNEED); }));
}

void ask_core(Report& report, Side side, const Options&) {
  const Mapping memory = Mapping::anonymous(side, kLarge);
  std::vector<unsigned char> vector(kLarge / kPageBytes);
  report.add("mincore, one page", side,
             time_of(kTimes, [&] { memory.in_core(kPageBytes, vector.data()); }));
  report.add("mincore, 1 GiB", side,
             time_of(kTimesOfLarge, [&] { memory.in_core(kLarge, vector.data()); }));
}

void lock(Report& report, Side side, const Options&) {
  const Mapping memory = Mapping::anonymous(side, kLarge);
  report.add("mlock and munlock, one page", side,
             time_of(kTimes, [&] { memory.lock_and_unlock(kPageBytes); }));
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  // As far as this user may.
  const std::size_t most = std::min<rlim_t>(limit.rlim_cur, kLarge) / kPageBytes * kPageBytes;
  const std::string name = most == kLarge ? "1 GiB" : std::to_string(most >> 10) + " KiB";
  report.add("mlock and munlock, " + name + ", the first time", side,
             time_of(1, [&] { memory.lock_and_unlock(most); }));
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  return bench::run_benchmark(
      "map_calls",
      "Measures calls of the mmap family, served and by the kernel alone, in turns. Runs under vmrun.",
      {bench::map_touch_unmap, bench::guard_touch_guard, bench::protect, bench::advise,
       bench::ask_core, bench::lock},
      argc, argv);
}
