// What the server counts is what the host says that programs and memory files hold; there is never
// more than the limit; and with too little memory everybody still comes forward.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "tests/support/server.h"
#include "tools/control_client.h"

using support::Command;
using support::eventually;
using support::Process;
using support::ServerOptions;
using support::ServerUnderTest;

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

const std::string kOk = "status 0";

// Pages, as the server counts them or as the host shows them.
struct Pages {
  std::uint64_t programs = 0;  ///< private memory, in programs
  std::uint64_t objects = 0;   ///< files and shared memory
  std::uint64_t swap = 0;      ///< out of programs, and still in memory

  std::uint64_t total() const { return programs + objects + swap; }
};

std::string text_of(const Pages& pages) {
  return std::to_string(pages.programs) + " in programs, " + std::to_string(pages.objects) +
         " of objects, " + std::to_string(pages.swap) + " of the swap space, " +
         std::to_string(pages.total()) + " in all";
}

// Two hundredths; or a few pages, because of programs that have forked all anonymous memory is counted,
// also what the server did not give them.
bool alike(std::uint64_t one, std::uint64_t other) {
  constexpr std::uint64_t kFew = 80;
  const std::uint64_t apart = one > other ? one - other : other - one;
  return apart <= std::max(std::max(one, other) / 50, kFew);
}

bool alike(const Pages& one, const Pages& other) {
  return alike(one.programs, other.programs) && alike(one.objects, other.objects) &&
         alike(one.swap, other.swap) && alike(one.total(), other.total());
}

struct Counted {
  Pages pages;
  std::uint64_t free = 0;
  std::uint64_t limit = 0;
  std::uint64_t deactivations = 0;
};

Counted counted(const ServerUnderTest& server) {
  const auto answer = tools::ControlClient(server.socket()).statistics();
  const auto statistics = answer.getStatistics();
  const auto paging = statistics.getPaging();
  return {{paging.getPrivatePages(), paging.getObjectPages(),
           paging.getInactivePages() + paging.getLaundryPages() + paging.getCleanPages()},
          paging.getFreePages(), statistics.getMemoryLimitPages(), paging.getDeactivations()};
}

std::vector<pid_t> served(const ServerUnderTest& server) {
  const auto answer = tools::ControlClient(server.socket()).spaces();
  std::vector<pid_t> pids;
  for (const auto space : answer.getSpaces()) pids.push_back(space.getPid());
  return pids;
}

// A program's own pages in what is served, which the host marks "um": a part of each page that it
// shares with others since a fork.
std::uint64_t held_by_program(pid_t pid) {
  std::ifstream smaps("/proc/" + std::to_string(pid) + "/smaps");
  bool shared = false;
  bool of_file = false;
  std::uint64_t proportional = 0;
  std::uint64_t anonymous = 0;
  std::uint64_t kib = 0;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    if (!name.ends_with(':')) {  // START-END PERMISSIONS OFFSET DEVICE INODE [PATH]
      std::string permissions, offset, device;
      std::uint64_t inode = 0;
      words >> permissions >> offset >> device >> inode;
      shared = permissions.ends_with('s');
      of_file = inode != 0;
    } else if (name == "Pss:") {
      words >> proportional;
    } else if (name == "Anonymous:") {
      words >> anonymous;
    } else if (name == "VmFlags:" && !shared && line.find(" um") != std::string::npos) {
      kib += of_file ? anonymous : proportional;
    }
  }
  return kib / 4;
}

Pages held(const std::vector<pid_t>& programs, pid_t server) {
  Pages pages;
  for (const pid_t pid : programs) pages.programs += held_by_program(pid);
  std::set<ino_t> seen;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(server) + "/fd")) {
    std::error_code gone;
    const std::string target = fs::read_symlink(entry.path(), gone).string();
    struct stat file {};
    if (!target.starts_with("/memfd:") || stat(entry.path().c_str(), &file) != 0) continue;
    if (!seen.insert(file.st_ino).second) continue;
    (target.starts_with("/memfd:swap") ? pages.swap : pages.objects) +=
        static_cast<std::uint64_t>(file.st_blocks) * 512 / 4096;
  }
  return pages;
}

bool all_threads_stand(pid_t pid) {
  std::error_code gone;
  for (const auto& task : fs::directory_iterator("/proc/" + std::to_string(pid) + "/task", gone)) {
    std::ifstream file(task.path() / "stat");
    std::string text;
    std::getline(file, text);
    const std::size_t state = text.rfind(')') + 2;
    if (state < text.size() && text[state] != 'T' && text[state] != 'Z') return false;
  }
  return true;
}

// Processes that stand still for as long as it lives, if they all can: a thread whose system call waits
// for a page cannot before it has got it.
class StandStill {
 public:
  explicit StandStill(std::vector<pid_t> processes) : processes_(std::move(processes)) {
    for (const pid_t pid : processes_) ::kill(pid, SIGSTOP);
    all_stand_ = eventually(
        [&] { return std::all_of(processes_.begin(), processes_.end(), all_threads_stand); },
        std::chrono::milliseconds(100));
  }
  ~StandStill() {
    for (const pid_t pid : processes_) ::kill(pid, SIGCONT);
  }
  StandStill(const StandStill&) = delete;
  StandStill& operator=(const StandStill&) = delete;

  bool all_stand() const { return all_stand_; }

 private:
  std::vector<pid_t> processes_;
  bool all_stand_ = false;
};

// What the host shows of one moment in which all work, if it can be had: first the programs stand
// still, which the server may have to answer for that, then whoever serves them.
std::optional<Pages> held_at_once(ServerUnderTest& server, const std::vector<pid_t>& programs) {
  const StandStill still(programs);
  if (!still.all_stand()) return std::nullopt;
  const StandStill servers({server.pager("anon").pid(), server.process().pid()});
  if (!servers.all_stand()) return std::nullopt;
  return held(programs, server.process().pid());
}

Process start(const ServerUnderTest& server, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "memory_use");
  Command command = server.command(std::move(arguments));
  command.asks = true;
  Process program(command);
  program.await_output("ready\n");
  return program;
}

void check_alike(ServerUnderTest& server) {
  const std::vector<pid_t> programs = served(server);
  Counted count;
  Pages host;
  // As long as a page-out or a count of what the host did by itself may take.
  const bool same = eventually(
      [&] {
        count = counted(server);
        host = held(programs, server.process().pid());
        return alike(count.pages, host) && count.free + count.pages.total() == count.limit;
      },
      std::chrono::seconds(3));
  INFO("counted: " << text_of(count.pages) << ", " << count.free << " free of " << count.limit
                   << "\nthe host's: " << text_of(host));
  CHECK(same);
}

void check_end(Process& program) {
  program.say(".");
  CHECK(program.wait().text() == kOk);
}

// MiB that each of these programs uses.
struct Sizes {
  int of_its_own;
  int shared;
  int file;
  int copies;
  int family;
};

// One program after the other, and each time what is counted is right.
std::vector<Process> start_each_kind(ServerUnderTest& server, const Sizes& mib) {
  const std::vector<std::vector<std::string>> kinds = {
      {"private", std::to_string(mib.of_its_own)},
      {"shared", std::to_string(mib.shared)},
      {"file", server.directory() / "shared", std::to_string(mib.file)},
      {"copies", server.directory() / "copied", std::to_string(mib.copies)},
      {"family", std::to_string(mib.family)}};
  std::vector<Process> programs;
  for (const auto& kind : kinds) {
    programs.push_back(start(server, kind));
    check_alike(server);
  }
  return programs;
}

void end_each(ServerUnderTest& server, std::vector<Process>& programs) {
  for (Process& program : programs) {
    check_end(program);
    check_alike(server);
  }
}

ServerOptions with_memory(const std::string& size) { return {.options = {"--memory", size}}; }

}  // namespace

TEST_CASE("what is counted is what programs and memory files hold, with memory for all") {
  ServerUnderTest server(with_memory("256M"));
  std::vector<Process> programs = start_each_kind(
      server, {.of_its_own = 24, .shared = 16, .file = 16, .copies = 12, .family = 24});
  CHECK(counted(server).deactivations == 0);
  end_each(server, programs);
}

TEST_CASE("what is counted is what programs and memory files hold, when most has left") {
  ServerUnderTest server(with_memory("32M"));
  std::vector<Process> programs = start_each_kind(
      server, {.of_its_own = 24, .shared = 24, .file = 24, .copies = 8, .family = 24});
  CHECK(counted(server).deactivations > 0);
  end_each(server, programs);
}

TEST_CASE("copies that the host makes after a fork are counted") {
  ServerUnderTest server(with_memory("256M"));
  const std::uint64_t before = counted(server).pages.programs;
  Process family = start(server, {"family", "48"});
  check_alike(server);
  // Two children have copied a third each.
  CHECK(counted(server).pages.programs - before >= 48 * 256 * 5 / 3);
  check_end(family);
}

TEST_CASE("memory in use stays within three hundredths of the limit while all want more") {
  ServerUnderTest server(with_memory("64M"));
  std::vector<Process> programs;
  std::vector<pid_t> pids;
  for (int i = 0; i < 2; ++i) {
    programs.push_back(start(server, {"greedy", "160"}));
    pids.push_back(programs.back().pid());
  }
  const std::uint64_t limit = counted(server).limit;
  const std::uint64_t most = limit + limit * 3 / 100;
  std::uint64_t samples = 0;
  std::uint64_t most_counted = 0;
  Pages most_held;
  while (std::none_of(programs.begin(), programs.end(), [](auto& one) { return one.ended(); })) {
    most_counted = std::max(most_counted, counted(server).pages.total());
    const std::optional<Pages> now = held_at_once(server, pids);
    if (!now) continue;
    if (now->total() > most_held.total()) most_held = *now;
    ++samples;
  }
  for (Process& program : programs) CHECK(program.wait().text() == kOk);
  INFO(samples << " looks; limit " << limit << ", counted at most " << most_counted
               << ", held at most: " << text_of(most_held));
  CHECK(counted(server).deactivations > 0);
  CHECK(samples >= 10);
  CHECK(most_held.total() > limit / 2);
  CHECK(most_counted <= most);
  CHECK(most_held.total() <= most);
}

TEST_CASE("with half the memory that is used every program comes forward, and vmctl answers in 100 ms") {
  constexpr std::size_t kPrograms = 4;
  constexpr int kRounds = 5;
  ServerUnderTest server(with_memory("32M"));
  std::vector<Process> programs;
  for (std::size_t i = 0; i < kPrograms; ++i) {
    programs.push_back(start(server, {"random", "16", std::to_string(i + 1)}));
  }
  const auto steps_of = [&](Process& program, int round) {
    program.say("?");
    const auto said = [&] {
      const std::string text = program.output();
      return std::count(text.begin(), text.end(), '\n') == round + 2;  // the first is "ready"
    };
    REQUIRE(eventually(said));
    const std::string text = program.output();
    return std::stoull(text.substr(text.rfind('\n', text.size() - 2) + 1));
  };
  std::vector<std::uint64_t> steps(kPrograms, 0);
  std::vector<double> latencies;
  for (int round = 0; round < kRounds; ++round) {
    for (int ask = 0; ask < 10; ++ask) {
      const auto begin = Clock::now();
      support::Command command;
      command.arguments = {support::vmctl_path(), "--socket", server.socket(), "stat", "--json"};
      const auto told = support::run(command);
      latencies.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
      REQUIRE(told.text() == kOk);
    }
    for (std::size_t i = 0; i < kPrograms; ++i) {
      INFO("program " << i << ", round " << round);
      const std::uint64_t before = std::exchange(steps[i], steps_of(programs[i], round));
      CHECK(steps[i] > before);
    }
  }
  std::sort(latencies.begin(), latencies.end());
  // One in ten may have met somebody else's work on this machine.
  const double usual = latencies[latencies.size() * 9 / 10];
  INFO("vmctl: median " << latencies[latencies.size() / 2] << " ms, nine of ten within " << usual
                        << " ms, most " << latencies.back() << " ms");
  CHECK(usual < 100);
  for (Process& program : programs) check_end(program);
}
