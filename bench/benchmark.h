// What every benchmark program has: options, rounds in turns, a table and JSON.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "bench/report.h"

namespace bench {

struct Options {
  std::size_t bytes = std::size_t{256} << 20;  ///< how much memory is touched in order
  std::size_t random_pages = 4096;
  int rounds = 11;
  std::string json;
};

/// Measures one side once and adds what it finds to the report.
using Measure = void (*)(Report& report, Side side, const Options& options);

/// Runs every measurement of both sides, in turns, `rounds` times after one round that does not
/// count. Returns the program's exit status. The program has to run under vmrun.
int run_benchmark(const char* name, const char* description, const std::vector<Measure>& measures,
                  int argc, char** argv);

using Clock = std::chrono::steady_clock;

inline double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

/// Microseconds that `work` takes, each time that it is done.
template <class Work>
double time_of(int times, Work&& work) {
  const auto start = Clock::now();
  for (int i = 0; i < times; ++i) work();
  return microseconds_since(start) / times;
}

}  // namespace bench
