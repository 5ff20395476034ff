// What passes through vmrun: endings, signals, streams and words; and what --stats tells.
#include <catch2/catch.hpp>
#include <csignal>

#include "tests/real/comparison.h"

namespace {

constexpr const char* kPython = "python3";

/// Python that has memory of its own from the server before it goes on.
const std::string kWithMemory =
    "import mmap, os, sys, signal, resource\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    "m = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
    "m[:] = b'\\7' * (1 << 20)\n";

/// Compares a script's run on both sides and gives the served one's outcome.
real::Outcome compare(const std::string& script, const std::string& input = {},
                      const std::vector<std::string>& words = {}) {
  real::Comparison comparison;
  real::Outcome outcome;
  comparison.on_both([&](real::Side& side) {
    std::vector<std::string> command{kPython, "-c", kWithMemory + script};
    command.insert(command.end(), words.begin(), words.end());
    outcome = side.run(command, input);
  });
  comparison.check_same();
  comparison.check_served();
  return outcome;
}

}  // namespace

TEST_CASE("a program's exit status is vmrun's", "[vmrun]") {
  CHECK(compare("sys.exit(3)").exited_with(3));
  CHECK(compare("os._exit(255)").exited_with(255));
}

TEST_CASE("a program that ends by a signal ends vmrun by it", "[vmrun]") {
  CHECK(compare("os.kill(os.getpid(), signal.SIGTERM)").killed_by(SIGTERM));
  CHECK(compare("os.kill(os.getpid(), signal.SIGKILL)").killed_by(SIGKILL));
  CHECK(compare("os.abort()").killed_by(SIGABRT));
}

TEST_CASE("a wild read and a store to read-only memory are SIGSEGV", "[vmrun]") {
  CHECK(compare("import ctypes; ctypes.string_at(8)").killed_by(SIGSEGV));
  CHECK(compare("import ctypes\n"
                "libc = ctypes.CDLL(None)\n"
                "libc.mmap.restype = ctypes.c_void_p\n"
                "a = libc.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ,"
                " mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)\n"
                "ctypes.memset(a, 1, 1)\n")
            .killed_by(SIGSEGV));
}

TEST_CASE("a read past the end of a mapped file is SIGBUS", "[vmrun]") {
  // Python itself maps no more than the file holds.
  const std::string map_three_pages =
      "import ctypes\n"
      "libc = ctypes.CDLL(None)\n"
      "libc.mmap.restype = ctypes.c_void_p\n"
      "with open('short', 'wb+') as f:\n"
      "  f.write(b'x' * 5000)\n"
      "  f.flush()\n"
      "  b = libc.mmap(None, ctypes.c_size_t(12288), mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(), "
      "0)\n";
  CHECK(compare(map_three_pages + "os.write(1, ctypes.string_at(b + 4990, 20))\n").exited_with(0));
  CHECK(compare(map_three_pages + "ctypes.string_at(b + 8192, 1)\n").killed_by(SIGBUS));
}

TEST_CASE("SIGTERM sent to vmrun is the program's", "[vmrun]") {
  const real::TemporaryDirectory directory;
  real::Served program(
      {{kPython, "-c",
        kWithMemory + "signal.signal(signal.SIGTERM, lambda *_: (print(m[9]), sys.exit(33)))\n"
                      "open('ready', 'w').close()\n"
                      "while True: signal.pause()\n"},
       "",
       directory.path().string(),
       real::plain_environment(directory.path())},
      directory.path());
  REQUIRE(real::holds_in_time([&] { return std::filesystem::exists(directory.path() / "ready"); }));
  program.process().signal(SIGTERM);
  const real::Outcome outcome = program.wait();
  CHECK(outcome.exited_with(33));
  CHECK(outcome.output == "7\n");
  CHECK(outcome.errors.empty());
}

TEST_CASE("standard input and output are the program's alone", "[vmrun]") {
  std::string input;
  for (int i = 0; input.size() < 9'000'000; ++i) input += "line " + std::to_string(i * 7919) + "\n";
  // Read by the kernel straight into pages never touched before, and written from them.
  const real::Outcome outcome = compare(
      "p = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
      "n = 0\n"
      "with memoryview(p) as v:\n"
      "  while got := os.readv(0, [v[n:]]): n += got\n"
      "  at = 0\n"
      "  while at < n: at += os.write(1, v[at:n])\n"
      "os.write(2, b'%d bytes\\n' % n)\n",
      input);
  CHECK(outcome.output == input);
  CHECK(outcome.errors == std::to_string(input.size()) + " bytes\n");
}

TEST_CASE("words with spaces, quotes, dashes and nothing at all reach the program", "[vmrun]") {
  const std::vector<std::string> words{
      "two words",  "",          "--stats", "--", "'quoted' \"twice\"",
      "$HOME `id`", "new\nline", "*",       "-c", "\xff\xfe"};
  const real::Outcome outcome = compare("print(list(map(os.fsencode, sys.argv[1:])))", "", words);
  CHECK(outcome.output.find("b'two words', b'', b'--stats', b'--'") != std::string::npos);
}

TEST_CASE("a program finds its directory and its environment as they were", "[vmrun]") {
  // LD_PRELOAD and VMSHIM_SOCKET are how a program is served, XDG_RUNTIME_DIR is set for vmrun.
  const real::Outcome outcome = compare(
      "own = ('LD_PRELOAD', 'VMSHIM_SOCKET', 'XDG_RUNTIME_DIR')\n"
      "print(os.getcwd(), sorted(i for i in os.environ.items() if i[0] not in own))\n"
      "print(sorted(f for f in os.listdir('/proc/self/fd') if int(f) < 900))\n"
      "print(signal.pthread_sigmask(signal.SIG_BLOCK, []), os.umask(0),"
      " resource.getrlimit(resource.RLIMIT_AS))\n");
  CHECK(outcome.exited_with(0));
}

TEST_CASE("--stats writes what the server counted", "[vmrun]") {
  const real::TemporaryDirectory directory;
  real::Served program({{kPython, "-c", kWithMemory},
                        "",
                        directory.path().string(),
                        real::plain_environment(directory.path())},
                       directory.path());
  CHECK(program.wait().exited_with(0));
  const auto& statistics = program.statistics();
  INFO(statistics.dump());
  for (const char* key : {"faults", "zero_fills", "pageins", "pageouts", "spaces", "resident_pages",
                          "memory_limit_pages"}) {
    INFO(key);
    CHECK(statistics.contains(key));
    CHECK(statistics[key].is_number_unsigned());
  }
  REQUIRE(statistics["calls"].is_object());
  CHECK(statistics["calls"]["mmap"].get<std::uint64_t>() > 0);
  CHECK(statistics["faults"].get<std::uint64_t>() > 0);
  // The mapping's 256 pages were all written.
  CHECK(statistics["zero_fills"].get<std::uint64_t>() >= 256);
  CHECK(statistics["spaces"].get<std::uint64_t>() == 0);
}

TEST_CASE("--socket-mode lets processes of other users in", "[vmrun]") {
  const auto run_as_nobody = [](const std::vector<std::string>& options, real::Outcome& outcome) {
    const real::TemporaryDirectory directory;
    std::filesystem::permissions(directory.path(), std::filesystem::perms::all);
    real::Served program({{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", kPython,
                           "-c", kWithMemory},
                          "",
                          "/",
                          real::plain_environment(directory.path())},
                         directory.path(), options);
    outcome = program.wait();
    return program.statistics()["zero_fills"].get<std::uint64_t>();
  };
  real::Outcome outcome;
  CHECK(run_as_nobody({}, outcome) < 256);
  INFO(outcome.errors);
  CHECK(outcome.exited_with(127));
  CHECK(outcome.errors.find("connect: Permission denied") != std::string::npos);
  CHECK(run_as_nobody({"--socket-mode", "0666"}, outcome) >= 256);
  CHECK(outcome.exited_with(0));
}

TEST_CASE("--host-files leaves mappings of such files to the host", "[vmrun]") {
  const auto pageins = [](const std::vector<std::string>& options) {
    const real::TemporaryDirectory directory;
    real::Served program({{kPython, "-c",
                           "import mmap\n"
                           "with open('data.bin', 'wb') as f: f.write(b'x' * 40960)\n"
                           "with open('data.bin', 'r+b') as f:\n"
                           "  m = mmap.mmap(f.fileno(), 0)\n"
                           "  assert m[:] == b'x' * 40960\n"},
                          "",
                          directory.path().string(),
                          real::plain_environment(directory.path())},
                         directory.path(), options);
    CHECK(program.wait().exited_with(0));
    return program.statistics()["pageins"].get<std::uint64_t>();
  };
  CHECK(pageins({}) >= 10);
  CHECK(pageins({"--host-files", "*.txt", "--host-files", "*/data.*"}) == 0);
}

TEST_CASE("a program that is not there is status 127", "[vmrun]") {
  const real::TemporaryDirectory directory;
  real::Served program({{"no-such-program-anywhere"},
                        "",
                        directory.path().string(),
                        real::plain_environment(directory.path())},
                       directory.path());
  const real::Outcome outcome = program.wait();
  CHECK(outcome.exited_with(127));
  CHECK(outcome.errors.find("no-such-program-anywhere") != std::string::npos);
}
