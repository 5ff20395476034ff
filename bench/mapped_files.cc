// mapped_files: what mapped files cost, served, against the nearest that the kernel has: see each
// measurement. Runs under vmrun.
#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <memory>
#include <numeric>
#include <vector>

#include "bench/bare_handler.h"
#include "bench/benchmark.h"
#include "bench/mapping.h"
#include "bench/warm_file.h"

namespace bench {
namespace {

double read_in_order(const Mapping& memory) {
  return time_of(1, [&] {
           for (std::size_t i = 0; i < memory.pages(); ++i) memory.read(i);
         }) /
         static_cast<double>(memory.pages());
}

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
  const auto order = shuffled_pages(memory.pages(), options.random_pages / 4);
  report.add("cold file at random, MADV_RANDOM", side, time_of(1, [&] {
               for (const std::size_t page : order) memory.read(page);
             }) / static_cast<double>(order.size()));
}

/// Answers faults of a file's pages: a window of the file goes into the memfd through a pipe, as
/// pager-file's do, and whoever waits is woken. The window behind follows while the program is busy.
class BareFilePages {
 public:
  BareFilePages(int file, int memfd, std::size_t bytes, std::size_t window, bool ahead)
      : file_(file), memfd_(memfd), bytes_(bytes), window_(window), ahead_(ahead), filled_(bytes / window) {
    if (::pipe2(pipe_, O_CLOEXEC) != 0) BareHandler::fail("pipe2");
    ::fcntl(pipe_[1], F_SETPIPE_SZ, 1 << 20);
  }
  ~BareFilePages() {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  BareFilePages(const BareFilePages&) = delete;
  BareFilePages& operator=(const BareFilePages&) = delete;

  void answer(int userfaultfd, std::uint64_t start, std::uint64_t page) {
    const std::size_t number = (page - start) / window_;
    fill(number);
    uffdio_range range{start + number * window_, window_};
    if (::ioctl(userfaultfd, UFFDIO_WAKE, &range) != 0) BareHandler::fail("UFFDIO_WAKE");
    if (ahead_ && number + 1 < filled_.size()) fill(number + 1);
  }

 private:
  void fill(std::size_t number) {
    if (filled_[number]) return;
    filled_[number] = true;
    loff_t from = static_cast<loff_t>(number * window_);
    loff_t to = from;
    if (window_ > kPageBytes) ::posix_fadvise(file_, from, static_cast<off_t>(window_), POSIX_FADV_WILLNEED);
    for (std::size_t rest = window_; rest > 0;) {
      ssize_t held = ::splice(file_, &from, pipe_[1], nullptr, rest, SPLICE_F_MOVE);
      if (held <= 0) BareHandler::fail("splice from a file");
      rest -= static_cast<std::size_t>(held);
      while (held > 0) {
        const ssize_t put = ::splice(pipe_[0], nullptr, memfd_, &to, static_cast<std::size_t>(held), SPLICE_F_MOVE);
        if (put <= 0) BareHandler::fail("splice into a memfd");
        held -= put;
      }
    }
  }

  int file_;
  int memfd_;
  std::size_t bytes_;
  std::size_t window_;
  bool ahead_;
  std::vector<bool> filled_;
  int pipe_[2];
};

double read_with_bare_handler(const WarmFile& file, const std::vector<std::size_t>& order,
                              std::size_t bytes, std::size_t window, bool ahead) {
  const int memfd = ::memfd_create("bare", MFD_CLOEXEC);
  if (memfd < 0) BareHandler::fail("memfd_create");
  double time = 0;
  {
    BareFilePages pages(file.descriptor(), memfd, bytes, window, ahead);
    const volatile char* memory = nullptr;
    BareHandler handler(bytes, memfd, [&](int userfaultfd, std::uint64_t page) {
      pages.answer(userfaultfd, reinterpret_cast<std::uintptr_t>(memory), page);
    });
    memory = handler.memory();
    time = time_of(1, [&] {
      for (const std::size_t page : order) static_cast<void>(memory[page * kPageBytes]);
    });
  }
  ::close(memfd);
  return time / static_cast<double>(order.size());
}

/// What no server of faults can do better: the floor of the two above.
void cold_file_with_bare_handler(Report& report, Side side, const Options& options) {
  const WarmFile file(options.bytes);
  const std::size_t pages = options.bytes / kPageBytes;
  std::vector<std::size_t> in_order(pages);
  std::iota(in_order.begin(), in_order.end(), std::size_t{0});
  const auto at_random = shuffled_pages(pages, options.random_pages / 4);
  const auto read = [&](const std::vector<std::size_t>& order, bool random) {
    file.cool();
    if (side == Side::served) {
      return random ? read_with_bare_handler(file, order, options.bytes, kPageBytes, false)
                    : read_with_bare_handler(file, order, options.bytes, 512 * kPageBytes, true);
    }
    Mapping memory = Mapping::file(side, options.bytes, file.descriptor());
    if (random) memory.advise(MADV_RANDOM);
    return time_of(1, [&] {
             for (const std::size_t page : order) memory.read(page);
           }) / static_cast<double>(order.size());
  };
  report.add("cold file in order, with a bare handler in place of the server", side,
             read(in_order, false));
  report.add("cold file at random, with a bare handler in place of the server", side,
             read(at_random, true));
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
