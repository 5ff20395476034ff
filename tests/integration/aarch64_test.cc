// The preloaded library on aarch64, as far as a machine without one can tell: it is built with that
// machine's compiler, and its redirection runs on that machine's libc under an emulator of user
// programs. Such an emulator has no userfaultfd, so nothing is served there.
#include <catch2/catch.hpp>

#include "tests/support/files.h"
#include "tests/support/process.h"

using support::Outcome;
using support::TemporaryDirectory;

namespace {

const std::string kCompile =
    "cd '" SOURCE_ROOT
    "' && aarch64-linux-gnu-g++ -std=c++20 -O2 -D_GNU_SOURCE -I. -Wall -Wextra "
    "-Werror ";

Outcome shell(const std::string& line) {
  support::Command command;
  command.arguments = {"/bin/sh", "-c", line};
  return support::run(command, std::chrono::minutes(5));
}

}  // namespace

TEST_CASE("the library builds for aarch64 and needs nothing but libc") {
  const TemporaryDirectory directory;
  const std::string library = directory / "libvmshim.so";
  CHECK(shell(kCompile + "-fPIC -shared " SHIM_FLAGS " -o " + library +
              " " SHIM_SOURCES " " SHIM_LINK_FLAGS)
            .text() == "status 0");
  const Outcome needed = shell("aarch64-linux-gnu-readelf -d " + library +
                               " | sed -n 's/.*(NEEDED).*\\[\\(.*\\)\\]/\\1/p' | sort");
  CHECK(needed.output == "ld-linux-aarch64.so.1\nlibc.so.6\n");
}

TEST_CASE("the calls of aarch64's libc are caught at its functions") {
  const TemporaryDirectory directory;
  const std::string program = directory / "redirect_libc";
  REQUIRE(shell(kCompile + "-fno-exceptions -fno-rtti -o " + program +
                " tests/aarch64/redirect_libc.cc libshim/libc_image.cc libshim/machine_code.cc "
                "libshim/redirect.cc libshim/report.cc -lpthread")
              .text() == "status 0");
  CHECK(shell("qemu-aarch64 -L /usr/aarch64-linux-gnu " + program).text() == "status 0");
}
