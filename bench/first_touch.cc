// first_touch: what the first touch of a page costs, served and by the kernel alone, in one program
// and in turns. Runs under vmrun.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <numeric>
#include <random>
#include <thread>

#include "bench/mapping.h"
#include "bench/report.h"
#include "cli/main_context.h"
#include "cli/size.h"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::size_t bytes = std::size_t{256} << 20;
  std::size_t random_pages = 4096;
  int rounds = 11;
  std::string json;
};

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

/// The kernel's own setting, such as "always [madvise] never".
std::string huge_page_setting() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string text;
  std::getline(file, text);
  return text.empty() ? "unknown" : text;
}

nlohmann::ordered_json machine() {
  utsname name = {};
  ::uname(&name);
  double load = 0;
  ::getloadavg(&load, 1);
  return {{"kernel", name.release},
          {"cpus", std::thread::hardware_concurrency()},
          {"load", load},
          {"transparent_hugepage", huge_page_setting()}};
}

/// Page numbers in an order that nobody foresees, the same in every round.
std::vector<std::size_t> shuffled_pages(std::size_t pages, std::size_t count) {
  std::vector<std::size_t> order(pages);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(20240607));
  order.resize(std::min(count, pages));
  return order;
}

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

/// A file that the kernel has in its cache and that nobody has mapped yet.
class WarmFile {
 public:
  explicit WarmFile(std::size_t bytes) {
    std::string path = (std::filesystem::temp_directory_path() / "first-touch-XXXXXX").string();
    descriptor_ = ::mkostemp(path.data(), O_CLOEXEC);
    if (descriptor_ < 0) fail("make " + path);
    ::unlink(path.c_str());
    std::vector<char> block(std::size_t{1} << 20);
    std::iota(block.begin(), block.end(), char{1});
    for (std::size_t at = 0; at < bytes;) {
      const ssize_t done = ::write(descriptor_, block.data(), std::min(block.size(), bytes - at));
      if (done < 0) fail("write " + path);
      at += static_cast<std::size_t>(done);
    }
    // Written back now, so that it is not while something is measured.
    if (::fsync(descriptor_) != 0) fail("sync " + path);
  }
  ~WarmFile() { ::close(descriptor_); }
  WarmFile(const WarmFile&) = delete;
  WarmFile& operator=(const WarmFile&) = delete;

  int descriptor() const { return descriptor_; }

 private:
  [[noreturn]] static void fail(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
  }

  int descriptor_ = -1;
};

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

void run(const Options& options) {
  // The shim has FreeBSD's calls, the C library has not.
  if (::dlsym(RTLD_DEFAULT, "minherit") == nullptr)
    throw cli::UsageError("not served; run it as vmrun -- first_touch");
  std::ofstream json;
  if (!options.json.empty()) {
    json.open(options.json);
    if (!json) throw cli::UsageError("cannot write " + options.json);
  }

  nlohmann::ordered_json result = {{"machine", machine()},
                                   {"bytes", options.bytes},
                                   {"random_pages", options.random_pages},
                                   {"rounds", options.rounds}};
  Report report;
  // The first round only warms up: the host of a VM may give memory out for the first time.
  for (int round = 0; round <= options.rounds; ++round) {
    Report warm_up;
    Report& into = round == 0 ? warm_up : report;
    const Side first = round % 2 == 0 ? Side::native : Side::served;
    const Side second = round % 2 == 0 ? Side::served : Side::native;
    for (const auto measure : {touch_in_order, touch_at_random, read_file}) {
      measure(into, first, options);
      measure(into, second, options);
    }
  }

  result["measurements"] = report.json();
  std::cout << (options.bytes >> 20) << " MiB, " << options.rounds << " rounds, "
            << result["machine"]["cpus"] << " CPUs, Linux "
            << result["machine"]["kernel"].get<std::string>() << ", load before "
            << result["machine"]["load"] << "\n\n";
  report.print(std::cout);
  if (json.is_open() && !(json << result.dump(2) << '\n').flush())
    throw std::runtime_error("cannot write " + options.json);
}

kj::MainBuilder::Validity set_bytes(Options& options, kj::StringPtr text) {
  const auto bytes = cli::parse_size({text.begin(), text.size()});
  if (!bytes || *bytes < kPageBytes) return kj::str("not a size: ", cli::kSizeForm);
  options.bytes = *bytes / kPageBytes * kPageBytes;
  return true;
}

kj::MainBuilder::Validity set_rounds(Options& options, kj::StringPtr text) {
  const auto rounds = cli::parse_size({text.begin(), text.size()});
  if (!rounds || *rounds == 0 || *rounds > 1000) return kj::str("not a number from 1 to 1000");
  options.rounds = static_cast<int>(*rounds);
  return true;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  bench::Options options;
  return cli::run(
      [&](cli::MainContext& context) {
        return kj::MainBuilder(
                   context, "first_touch " VM_VERSION,
                   "Measures the first touch of pages, of memory that the server serves and of the "
                   "kernel's own 4 KiB pages, in turns. Runs under vmrun.")
            .addOptionWithArg(
                {"size"}, [&](auto text) { return bench::set_bytes(options, text); }, "SIZE",
                "How much memory is touched in order. Default: 256M.")
            .addOptionWithArg(
                {"rounds"}, [&](auto text) { return bench::set_rounds(options, text); }, "COUNT",
                "Rounds that count, after one that does not. Default: 11.")
            .addOptionWithArg(
                {"json"},
                [&](auto text) -> kj::MainBuilder::Validity {
                  options.json = text.cStr();
                  return true;
                },
                "FILE", "Also write everything measured to FILE, as one JSON object.")
            .callAfterParsing([&]() -> kj::MainBuilder::Validity {
              bench::run(options);
              return true;
            })
            .build();
      },
      argc, argv);
}
