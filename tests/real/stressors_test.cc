// stress-ng's stressors of memory and processes, each with its own checks, for STRESS_SECONDS (30).
//
// A stressor that this version of stress-ng or this machine cannot run is no success: the native
// run says so, and only then may the served one say the same.
#include <sys/mount.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "tests/real/served.h"

namespace {

using Words = std::vector<std::string>;

std::string seconds() {
  const char* text = std::getenv("STRESS_SECONDS");
  return std::string(text != nullptr ? text : "30") + "s";
}

struct Run {
  real::Outcome outcome;
  std::string said;
  bool good() const {
    return outcome.exited_with(0) && said.find("successful run completed") != std::string::npos &&
           said.find("unsuccessful") == std::string::npos &&
           said.find("fail:") == std::string::npos && said.find("error:") == std::string::npos;
  }
};

/// A tmpfs, for as long as it lives.
class MountedMemory {
 public:
  explicit MountedMemory(const std::filesystem::path& path) : path_(path) {
    std::filesystem::create_directory(path);
    REQUIRE(mount("none", path.c_str(), "tmpfs", 0, "size=256M") == 0);
  }
  ~MountedMemory() { umount2(path_.c_str(), MNT_DETACH); }

 private:
  const std::filesystem::path path_;
};

/// The same with the tmpfs at `directory`/memory for /tmp, where nobody else sees it. forkheavy's
/// children make files there for as long as there is room, which would be all of the disk. The
/// directory stays where it is.
Words with_small_tmp(const std::filesystem::path& directory, Words words) {
  const auto inside = directory.lexically_relative("/tmp");
  const bool hidden = !inside.empty() && *inside.begin() != "..";
  const auto place = directory / "memory" / (hidden ? inside : "nothing");
  std::filesystem::create_directories(place);
  Words all{"unshare", "--mount", "sh", "-ec",
            R"(mount --bind "$1" "$2"; mount --rbind "$1/memory" /tmp; shift 2; exec "$@")",
            "sh", directory.string(), place.string()};
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

/// `count` workers of a stressor. Rules are the host's where `personality` is "linux".
void check_stressor(const std::string& name, Words options, const std::string& personality,
                    const std::string& count = "2") {
  const real::TemporaryDirectory directory;
  Words words{"stress-ng", "--" + name, count};
  // What grows until there is no more gets an end.
  if (name == "bigheap" || name == "brk")
    words.insert(words.begin(), {"prlimit", "--as=1073741824"});
  Words served_options{"--personality", personality};
  // Root it refuses to execute anything as.
  if (name == "exec") {
    std::filesystem::permissions(directory.path(), std::filesystem::perms::all);
    words.insert(words.begin(), {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"});
    served_options.insert(served_options.end(), {"--socket-mode", "0666"});
  }
  std::optional<MountedMemory> memory;
  if (name == "tmpfs" || name == "forkheavy") memory.emplace(directory.path() / "memory");
  words.insert(words.end(), options.begin(), options.end());
  words.insert(words.end(), {"--verify", "-t", seconds()});
  if (name == "forkheavy") words = with_small_tmp(directory.path(), std::move(words));
  const real::Command command{words, "", directory.path().string(),
                              real::plain_environment(directory.path())};
  real::find_program(command);
  constexpr std::chrono::seconds kPatience{300};

  real::Served program(command, directory.path(), served_options);
  Run served{program.wait(kPatience), {}};
  served.said = served.outcome.output + served.outcome.errors;
  INFO("served: " << served.outcome.ending() << "\n" << served.said);
  INFO(program.statistics().dump());
  CHECK(program.statistics()["failed_faults"].get<std::uint64_t>() == 0);
  CHECK(program.statistics()["sessions_rejected"].get<std::uint64_t>() == 0);
  if (served.good()) {
    CHECK(program.statistics()["forks"].get<std::uint64_t>() > 0);
    return;
  }
  // Not good: so it must not be natively either.
  Run native{real::Process(command).wait(kPatience), {}};
  native.said = native.outcome.output + native.outcome.errors;
  INFO("native: " << native.outcome.ending() << "\n" << native.said);
  CHECK_FALSE(native.good());
  CHECK(native.outcome.ending() == served.outcome.ending());
}

}  // namespace

#define STRESSOR(name, personality, ...)                             \
  TEST_CASE("stress-ng --" name " finds no failure", "[" name "]") { \
    check_stressor(name, Words{__VA_ARGS__}, personality);           \
  }

STRESSOR("mmap", "freebsd-7", "--mmap-bytes", "64M")
STRESSOR("mmapmany", "freebsd-7")
STRESSOR("mmapaddr", "freebsd-7")
STRESSOR("mmapfixed", "freebsd-7")
STRESSOR("munmap", "linux")  // unmaps holes
STRESSOR("mremap", "freebsd-7", "--mremap-bytes", "16M")
STRESSOR("mprotect", "freebsd-7")
STRESSOR("madvise", "freebsd-7")
STRESSOR("mincore", "linux")  // ENOMEM for what is not mapped
STRESSOR("mlock", "linux")    // of addresses between pages
STRESSOR("mlockmany", "linux", "--pathological")
STRESSOR("msync", "freebsd-7", "--msync-bytes", "16M")
STRESSOR("vm", "freebsd-7", "--vm-bytes", "64M")
STRESSOR("vm-addr", "freebsd-7")
STRESSOR("vm-splice", "freebsd-7", "--vm-splice-bytes", "4M")
STRESSOR("fork", "freebsd-7")
STRESSOR("forkheavy", "freebsd-7")
STRESSOR("vfork", "freebsd-7")
STRESSOR("clone", "freebsd-7")
STRESSOR("exec", "freebsd-7")
STRESSOR("pthread", "freebsd-7")
STRESSOR("sigsegv", "freebsd-7")
STRESSOR("stack", "linux")  // grows by MAP_GROWSDOWN as the host does
STRESSOR("malloc", "freebsd-7", "--malloc-bytes", "64M")
STRESSOR("userfaultfd", "freebsd-7", "--userfaultfd-bytes", "16M")
STRESSOR("brk", "linux")  // sbrk is granted
STRESSOR("bigheap", "freebsd-7", "--bigheap-growth", "64K")
STRESSOR("shm", "linux", "--shm-bytes", "8M")  // maps objects of shm_open with the host's rules
STRESSOR("shm-sysv", "freebsd-7", "--shm-sysv-bytes", "8M")
STRESSOR("tmpfs", "freebsd-7")
STRESSOR("memfd", "linux", "--memfd-bytes", "16M")

TEST_CASE("stress-ng --mmapfork finds no failure", "[mmapfork]") {
  check_stressor("mmapfork", {}, "freebsd-7", "1");  // a worker takes what memory there is
}
