// bare_faults: one page a fault at random, with the least of all handlers: a thread that reads the
// event and answers with one UFFDIO_COPY. With "loop" as argument it waits as event loops do. With
// "mapped" the same walk through memory that the C library's mmap() gave, served or not; with a number
// behind it, so many threads walk at the same time, each through as many pages. Prints microseconds a page.
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "bench/bare_handler.h"

namespace {

constexpr std::size_t kPage = bench::BareHandler::kPage;
constexpr std::size_t kBytes = std::size_t{256} << 20;
constexpr std::size_t kTouched = 4096;

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

void enter_zeroes(int userfaultfd, std::uint64_t page) {
  alignas(kPage) static char zeroes[kPage];
  uffdio_copy copy{};
  copy.dst = page;
  copy.src = reinterpret_cast<std::uintptr_t>(zeroes);
  copy.len = kPage;
  if (ioctl(userfaultfd, UFFDIO_COPY, &copy) != 0) fail("UFFDIO_COPY");
}

char* mapped() {
  void* const memory =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  madvise(memory, kBytes, MADV_NOHUGEPAGE);
  madvise(memory, kBytes, MADV_RANDOM);
  return static_cast<char*>(memory);
}

}  // namespace

int main(int argc, char** argv) {
  const bool is_mapped = argc > 1 && std::strcmp(argv[1], "mapped") == 0;
  std::optional<bench::BareHandler> handler;
  using Waits = bench::BareHandler::Waits;
  const bool loops = argc > 1 && std::strcmp(argv[1], "loop") == 0;
  if (!is_mapped) handler.emplace(kBytes, -1, enter_zeroes, loops ? Waits::in_loop : Waits::in_read);
  volatile char* const memory = is_mapped ? mapped() : handler->memory();
  const std::size_t threads = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1;
  if (threads == 0 || threads > kBytes / kPage / kTouched) {
    std::fprintf(stderr, "bare_faults: %s threads cannot be\n", argv[2]);
    return 2;
  }
  std::vector<std::size_t> order(kBytes / kPage);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(20240607));
  const auto walk = [&](std::size_t thread) {
    for (std::size_t i = thread * kTouched; i < (thread + 1) * kTouched; ++i)
      memory[order[i] * kPage] = 1;
  };
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (std::size_t thread = 1; thread < threads; ++thread) others.emplace_back(walk, thread);
  walk(0);
  for (std::thread& other : others) other.join();
  const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
  std::printf("%.2f\n", time.count() / static_cast<double>(kTouched * threads));
}
