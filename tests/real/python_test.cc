// python3 with its mmap module: the scripts beside this file print digests of what they see.
#include <catch2/catch.hpp>

#include "tests/real/comparison.h"

namespace {

void compare_script(const std::string& name) {
  real::Comparison comparison;
  comparison.on_both([&](real::Side& side) {
    const real::Outcome& outcome = side.run({"python3", REAL_SCRIPTS + name});
    INFO(outcome.errors);
    CHECK(outcome.exited_with(0));
  });
  comparison.check_same();
  comparison.check_served();
}

}  // namespace

TEST_CASE("python3 maps, changes, resizes and copies a file of 256 MiB", "[python]") {
  compare_script("/python_file.py");
}

TEST_CASE("python3 shares 256 MiB of anonymous memory with a child, or does not", "[python]") {
  compare_script("/python_anonymous.py");
}
