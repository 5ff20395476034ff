#include "tests/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

namespace support {
namespace {

std::set<pid_t>& known() {
  static std::set<pid_t> pids;
  return pids;
}

tools::UniqueFd scratch_file(const char* name) {
  tools::UniqueFd file(memfd_create(name, MFD_CLOEXEC));
  REQUIRE(file);
  // A program of another user may open its descriptors again through /proc.
  REQUIRE(fchmod(file.get(), 0666) == 0);
  return file;
}

std::string content(int descriptor) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = pread(descriptor, buffer, sizeof(buffer), static_cast<off_t>(text.size()));
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const std::string& text : strings) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// What each thread of a process does, and of its descendants: where one of them hangs that is what
// its log cannot tell.
void describe_threads(const std::string& process, const std::string& indentation,
                      std::string& text) {
  std::vector<std::string> children;
  std::error_code gone;
  std::filesystem::directory_iterator entry(process + "/task", gone);
  for (; !gone && entry != std::filesystem::directory_iterator(); entry.increment(gone)) {
    const std::string task = entry->path().string();
    text += indentation + entry->path().filename().string() + " " + first_line(task + "/comm") +
            ", wchan " + first_line(task + "/wchan") + ", syscall " +
            first_line(task + "/syscall") + "\n";
    std::istringstream of_task(first_line(task + "/children"));
    for (std::string child; of_task >> child;) children.push_back(child);
  }
  for (const std::string& child : children) {
    text += indentation + "child " + child + ":\n";
    describe_threads("/proc/" + child, indentation + "  ", text);
  }
}

// Appends, so that several processes that share the file do not overwrite each other.
bool become(int descriptor, int number) {
  if (dup2(descriptor, number) != number) return false;
  return fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_APPEND) == 0;
}

}  // namespace

Environment plain_environment() {
  Environment result;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    if (text.starts_with("VMSHIM_") || text.starts_with("LD_PRELOAD=")) continue;
    result.emplace_back(text);
  }
  return result;
}

std::string Outcome::text() const {
  std::string result =
      signal != 0 ? "signal " + std::to_string(signal) : "status " + std::to_string(status);
  if (!errors.empty()) result += ": " + errors;
  return result;
}

Process::Process(const Command& command) { start(command); }

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      handle_(std::move(other.handle_)),
      input_(std::move(other.input_)),
      input_end_(std::move(other.input_end_)),
      output_(std::move(other.output_)),
      errors_(std::move(other.errors_)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (pid_ > 0) kill();
  pid_ = std::exchange(other.pid_, -1);
  handle_ = std::move(other.handle_);
  input_ = std::move(other.input_);
  input_end_ = std::move(other.input_end_);
  output_ = std::move(other.output_);
  errors_ = std::move(other.errors_);
  return *this;
}

Process::~Process() {
  if (pid_ > 0) kill();
}

void Process::start(const Command& command) {
  output_ = scratch_file("output");
  errors_ = scratch_file("errors");
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  tools::UniqueFd input(ends[0]);
  input_.reset(ends[1]);
  if (!command.asks) input_.reset();
  const std::vector<char*> arguments = pointers(command.arguments);
  const std::vector<char*> environment = pointers(command.environment);
  const pid_t parent = getpid();

  pid_ = fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    bool ready = dup2(input.get(), STDIN_FILENO) == STDIN_FILENO &&
                 become(output_.get(), STDOUT_FILENO) && become(errors_.get(), STDERR_FILENO);
    ready = close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC) == 0 && ready;
    for (int descriptor : command.descriptors) ready = fcntl(descriptor, F_SETFD, 0) == 0 && ready;
    for (const auto& [resource, value] : command.limits) {
      rlimit limit{};
      ready = getrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0 && ready;
      limit.rlim_cur = value;
      ready = setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0 && ready;
    }
    if (command.user) {
      ready = setresgid(*command.user, *command.user, *command.user) == 0 &&
              setresuid(*command.user, *command.user, *command.user) == 0 && ready;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!ready || getppid() != parent) _exit(125);
    execve(arguments[0], arguments.data(), environment.data());
    dprintf(STDERR_FILENO, "%s cannot be started\n", arguments[0]);
    _exit(125);
  }
  // What is said to one that has ended is no SIGPIPE.
  if (command.asks) input_end_ = std::move(input);
  known().insert(pid_);
  handle_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  REQUIRE(handle_);
}

bool Process::ended() const {
  pollfd end{handle_.get(), POLLIN, 0};
  return poll(&end, 1, 0) > 0;
}

void Process::signal(int number) const {
  REQUIRE(pid_ > 0);
  REQUIRE(syscall(SYS_pidfd_send_signal, handle_.get(), number, nullptr, 0) == 0);
}

void Process::freeze() const {
  signal(SIGSTOP);
  siginfo_t info{};
  REQUIRE(waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WEXITED | WNOWAIT) == 0);
  REQUIRE(info.si_code == CLD_STOPPED);
}

void Process::thaw() const { signal(SIGCONT); }

std::string Process::state() const {
  std::string text;
  describe_threads("/proc/" + std::to_string(pid_), "  ", text);
  return text;
}

Outcome Process::wait(std::chrono::milliseconds within) {
  REQUIRE(pid_ > 0);
  pollfd end{handle_.get(), POLLIN, 0};
  int ready = -1;
  do {
    ready = poll(&end, 1, static_cast<int>(within.count()));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    const std::string where = state();
    const std::string said = errors();
    kill();
    FAIL("a process did not end within " << within.count() << " ms; its threads:\n"
                                         << where << "stderr: " << said);
  }
  int status = 0;
  REQUIRE(waitpid(pid_, &status, 0) == pid_);
  known().erase(pid_);
  pid_ = -1;
  Outcome outcome;
  if (WIFEXITED(status)) outcome.status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  outcome.output = output();
  outcome.errors = errors();
  return outcome;
}

void Process::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  known().erase(pid_);
  pid_ = -1;
}

void Process::say(const std::string& text) {
  REQUIRE(write(input_.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string Process::output() const { return content(output_.get()); }
std::string Process::errors() const { return content(errors_.get()); }

void Process::await_output(const std::string& text) {
  const bool came = eventually([&] {
    const bool end = ended();
    return output().find(text) != std::string::npos || end;
  });
  const std::string said = output();
  INFO("waiting for \"" << text << "\"; stdout: " << said << "; stderr: " << errors() << "; "
                        << state());
  REQUIRE(came);
  REQUIRE(said.find(text) != std::string::npos);
}

Outcome run(const Command& command, std::chrono::milliseconds within) {
  return Process(command).wait(within);
}

void adopt_orphans() { REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); }

std::vector<pid_t> stray_children() {
  std::vector<pid_t> strays;
  std::ifstream children("/proc/self/task/" + std::to_string(getpid()) + "/children");
  for (pid_t pid = 0; children >> pid;) {
    if (known().contains(pid)) continue;
    if (waitpid(pid, nullptr, WNOHANG) == 0) strays.push_back(pid);
  }
  return strays;
}

}  // namespace support
