// g++ compiling and linking C++ files of the project.
#include <catch2/catch.hpp>

#include "tests/real/comparison.h"

TEST_CASE("g++ compiles and links a program of the project", "[compiler]") {
  const std::string include = std::string("-I") + PROJECT_SOURCE;
  const std::string source = std::string(PROJECT_SOURCE) + "/";
  real::Comparison comparison;
  comparison.on_both([&](real::Side& side) {
    const auto compile = [&](const std::string& file, const std::string& object,
                             const std::string& optimization) {
      const real::Outcome& outcome =
          side.run({"g++", "-std=c++20", "-D_GNU_SOURCE", "-Wall", "-Wextra", optimization, "-g",
                    include, "-c", source + file, "-o", object});
      INFO(outcome.errors);
      CHECK(outcome.exited_with(0));
    };
    compile("vmserver/vm/vm_map.cc", "vm_map.o", "-O2");
    compile("tests/real/window_trace.cc", "window_trace.o", "-O0");
    const real::Outcome& link = side.run({"g++", "window_trace.o", "-o", "window_trace"});
    INFO(link.errors);
    CHECK(link.exited_with(0));
    CHECK(side.run({"./window_trace", "40"}).exited_with(0));
  });
  comparison.check_same();
  comparison.check_served();
}
