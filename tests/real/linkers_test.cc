// The linkers write their output through a mapping of it, or by write: either way it runs, and is
// the same.
#include <catch2/catch.hpp>

#include "tests/real/comparison.h"

TEST_CASE("ld.bfd, ld.gold and ld.lld write programs and libraries that run", "[linkers]") {
  const std::string linker = GENERATE("bfd", "gold", "lld");
  INFO(linker);
  const std::string include = std::string("-I") + PROJECT_SOURCE;
  const std::string source = std::string(PROJECT_SOURCE) + "/tests/real/window_trace.cc";
  real::Comparison comparison;
  comparison.on_both([&](real::Side& side) {
    const auto make = [&](std::vector<std::string> words) {
      const real::Outcome& outcome = side.run(std::move(words));
      INFO(outcome.errors);
      CHECK(outcome.exited_with(0));
    };
    const std::string use = "-fuse-ld=" + linker;
    make({"g++", "-std=c++20", "-O1", "-g", "-fPIC", include, "-c", source, "-o", "object.o"});
    make({"g++", use, "object.o", "-o", "dynamic"});
    make({"g++", use, "-static", "object.o", "-o", "static"});
    make({"g++", use, "-shared", "object.o", "-o", "library.so"});
    make({"g++", use, "-r", "-nostdlib", "object.o", "-o", "joined.o"});
    // Over what is there, which the linker may truncate or replace.
    make({"g++", use, "object.o", "-o", "dynamic"});
    make({"./dynamic", "40"});
    make({"./static", "40"});
    make({"readelf", "-aW", "library.so"});
  });
  comparison.check_same();
  comparison.check_served();
}
