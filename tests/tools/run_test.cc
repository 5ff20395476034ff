// How vmrun finds the other parts, what programs get of its environment, and that it ends the way
// they do.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tools/installation.h"
#include "tools/run_program.h"
#include "tools/spawn.h"

namespace {

namespace fs = std::filesystem;

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string path = (fs::temp_directory_path() / "tools-test-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = path;
  }
  ~TemporaryDirectory() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

  void add_program(const fs::path& name) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << "#!/bin/sh\n";
    fs::permissions(path_ / name, fs::perms::owner_all);
  }

 private:
  fs::path path_;
};

/// Runs `work` in a forked child and gives its wait status.
template <typename Work>
int in_child(Work work) {
  const pid_t pid = ::fork();
  if (pid == 0) work();
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return status;
}

int ending_of(const std::vector<std::string>& command) {
  return in_child([&] { tools::run_program(command, {}, tools::SignalState::current()).repeat(); });
}

/// The shell that ends with status 0 when `condition` holds; /bin/sh because PATH is not passed on.
int ending_when(const std::string& condition, const tools::SignalState& signals) {
  return in_child([&] { tools::run_program({"/bin/sh", "-c", condition}, {}, signals).repeat(); });
}

bool has(const tools::Environment& environment, const std::string& variable) {
  for (const std::string& each : environment)
    if (each == variable) return true;
  return false;
}

bool has_name(const tools::Environment& environment, const std::string& name) {
  for (const std::string& each : environment)
    if (each.starts_with(name + "=")) return true;
  return false;
}

}  // namespace

TEST_CASE("the installed layout is found before the build tree's", "[run]") {
  const TemporaryDirectory root;
  for (const char* name : {"tools/vmrun", "vmserver/vmserver", "pagers/pager-anon",
                           "pagers/pager-file", "pagers/pager-device", "libshim/libvmshim.so"})
    root.add_program(name);
  const fs::path to_libraries = "../lib/x86_64-linux-gnu";
  const auto built = tools::find_installation(root.path() / "tools/vmrun", to_libraries);
  CHECK(built.server == root.path() / "vmserver/vmserver");
  CHECK(built.pagers[1] == root.path() / "pagers/pager-file");
  CHECK(built.shim == root.path() / "libshim/libvmshim.so");

  for (const char* name : {"bin/vmrun", "bin/vmserver", "bin/pager-anon", "bin/pager-file",
                           "bin/pager-device", "lib/x86_64-linux-gnu/libvmshim.so"})
    root.add_program(name);
  const auto installed = tools::find_installation(root.path() / "bin/vmrun", to_libraries);
  CHECK(installed.server == root.path() / "bin/vmserver");
  CHECK(installed.shim == root.path() / "lib/x86_64-linux-gnu/libvmshim.so");
}

TEST_CASE("a missing part is named", "[run]") {
  const TemporaryDirectory root;
  root.add_program("tools/vmrun");
  root.add_program("vmserver/vmserver");
  CHECK_THROWS_WITH(tools::find_installation(root.path() / "tools/vmrun", "../lib"),
                    Catch::Contains("pager-anon"));
}

TEST_CASE("a served program has the shim first and its server's socket", "[run]") {
  ::setenv("LD_PRELOAD", "/old/libvmshim.so:/lib/a.so /lib/b.so", 1);
  ::setenv("VMSHIM_SOCKET", "/old.sock", 1);
  const auto served = tools::served_environment("/new/libvmshim.so", "/new.sock");
  CHECK(has(served, "LD_PRELOAD=/new/libvmshim.so:/lib/a.so:/lib/b.so"));
  CHECK(has(served, "VMSHIM_SOCKET=/new.sock"));
  CHECK_FALSE(has(served, "VMSHIM_SOCKET=/old.sock"));

  const auto unserved = tools::unserved_environment();
  CHECK(has(unserved, "LD_PRELOAD=/lib/a.so:/lib/b.so"));
  CHECK_FALSE(has_name(unserved, "VMSHIM_SOCKET"));

  ::setenv("LD_PRELOAD", "/old/libvmshim.so", 1);
  CHECK_FALSE(has_name(tools::unserved_environment(), "LD_PRELOAD"));
  ::unsetenv("LD_PRELOAD");
  ::unsetenv("VMSHIM_SOCKET");
  CHECK_THROWS(tools::served_environment("/with space/libvmshim.so", "/s"));
}

TEST_CASE("what is caught is said anew, or stays as the environment says", "[run]") {
  ::setenv("VMSHIM_CAPTURE", "plt", 1);
  const auto anew = tools::served_environment("/libvmshim.so", "/s", "libc");
  CHECK(has(anew, "VMSHIM_CAPTURE=libc"));
  CHECK_FALSE(has(anew, "VMSHIM_CAPTURE=plt"));
  CHECK(has(tools::served_environment("/libvmshim.so", "/s"), "VMSHIM_CAPTURE=plt"));
  ::unsetenv("VMSHIM_CAPTURE");
  CHECK_FALSE(has_name(tools::served_environment("/libvmshim.so", "/s"), "VMSHIM_CAPTURE"));
}

TEST_CASE("vmrun ends with the program's status", "[run]") {
  CHECK(ending_of({"/bin/sh", "-c", "exit 0"}) == 0);
  CHECK(WEXITSTATUS(ending_of({"sh", "-c", "exit 42"})) == 42);
}

TEST_CASE("vmrun ends by the program's signal and leaves no core of its own", "[run]") {
  const int terminated = ending_of({"/bin/sh", "-c", "kill -TERM $$"});
  CHECK(WIFSIGNALED(terminated));
  CHECK(WTERMSIG(terminated) == SIGTERM);

  const int killed = ending_of({"/bin/sh", "-c", "kill -KILL $$"});
  CHECK(WIFSIGNALED(killed));
  CHECK(WTERMSIG(killed) == SIGKILL);

  const int aborted = ending_of({"/bin/sh", "-c", "ulimit -c 0; kill -ABRT $$"});
  CHECK(WIFSIGNALED(aborted));
  CHECK(WTERMSIG(aborted) == SIGABRT);
  CHECK_FALSE(WCOREDUMP(aborted));
}

TEST_CASE("a program that cannot be run gives a shell's statuses", "[run]") {
  const TemporaryDirectory root;
  std::ofstream(root.path() / "text") << "no program\n";
  CHECK(WEXITSTATUS(ending_of({"no-such-program-anywhere"})) == 127);
  CHECK(WEXITSTATUS(ending_of({(root.path() / "absent").string()})) == 127);
  CHECK(WEXITSTATUS(ending_of({(root.path() / "text").string()})) == 126);
}

TEST_CASE("a program gets the signal state vmrun was started with", "[run]") {
  const auto plain = tools::SignalState::defaults();
  CHECK(ending_when("exec /bin/grep -q '^SigBlk:.*0000000000000000' /proc/self/status", plain) ==
        0);
  CHECK(ending_when("exec /bin/grep -q '^SigIgn:.*0000000000000000' /proc/self/status", plain) ==
        0);
  // SIGHUP is 1 and SIGCHLD 17: bits 0 and 16 of the mask.
  const int status = in_child([] {
    // Whoever started the tests may have had others ignored: a shell does, in the background.
    for (int number = 1; number < SIGRTMIN; ++number) signal(number, SIG_DFL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGCHLD, SIG_IGN);
    const auto signals = tools::SignalState::current();
    tools::run_program({"/bin/grep", "-q", "^SigIgn:.*0000000000010001", "/proc/self/status"}, {},
                       signals)
        .repeat();
  });
  CHECK(status == 0);
}

TEST_CASE("signals sent to vmrun go to the program", "[run]") {
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t vmrun = ::fork();
  if (vmrun == 0) {
    ::dup2(ready[1], 9);
    ::close(ready[0]);
    // Its end is a status of its own, so the signal was the program's and not vmrun's.
    tools::run_program({"/bin/sh", "-c", "trap 'exit 33' TERM; echo up >&9; while :; do :; done"},
                       {}, tools::SignalState::current())
        .repeat();
  }
  char up[3];
  REQUIRE(::read(ready[0], up, sizeof up) == 3);
  ::kill(vmrun, SIGTERM);
  int status = 0;
  REQUIRE(::waitpid(vmrun, &status, 0) == vmrun);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 33);
  ::close(ready[0]);
  ::close(ready[1]);
}
