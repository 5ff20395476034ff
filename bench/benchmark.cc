#include "bench/benchmark.h"

#include <dlfcn.h>
#include <sys/utsname.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <thread>

#include "cli/main_context.h"
#include "cli/size.h"

namespace bench {
namespace {

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

void run(const char* name, const std::vector<Measure>& measures, const Options& options) {
  // The shim has FreeBSD's calls, the C library has not.
  if (::dlsym(RTLD_DEFAULT, "minherit") == nullptr)
    throw cli::UsageError(std::string("not served; run it as vmrun -- ") + name);
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
    for (const Measure measure : measures) {
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

int run_benchmark(const char* name, const char* description, const std::vector<Measure>& measures,
                  int argc, char** argv) {
  Options options;
  return cli::run(
      [&](cli::MainContext& context) {
        return kj::MainBuilder(context, kj::str(name, " " VM_VERSION), description)
            .addOptionWithArg({"size"}, [&](auto text) { return set_bytes(options, text); }, "SIZE",
                              "How much memory is touched in order. Default: 256M.")
            .addOptionWithArg({"rounds"}, [&](auto text) { return set_rounds(options, text); },
                              "COUNT", "Rounds that count, after one that does not. Default: 11.")
            .addOptionWithArg(
                {"json"},
                [&](auto text) -> kj::MainBuilder::Validity {
                  options.json = text.cStr();
                  return true;
                },
                "FILE", "Also write everything measured to FILE, as one JSON object.")
            .callAfterParsing([&]() -> kj::MainBuilder::Validity {
              run(name, measures, options);
              return true;
            })
            .build();
      },
      argc, argv);
}

}  // namespace bench
