#include "tests/real/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>

namespace real {
namespace {

struct Pipe {
  int reader = -1;
  int writer = -1;

  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) FAIL("pipe: " << std::strerror(errno));
    reader = ends[0];
    writer = ends[1];
  }
};

void read_all(int fd, std::string& text) {
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  ::close(fd);
}

/// Ends early when the program reads no more.
void write_all(int fd, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t done = ::write(fd, text.data() + at, text.size() - at);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) break;
    at += static_cast<std::size_t>(done);
  }
  ::close(fd);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

// posix_spawnp() would search the test's own PATH.
std::string find_program(const Command& command) {
  const std::string& name = command.words.front();
  if (name.find('/') != std::string::npos) return name;
  for (const std::string& variable : command.environment) {
    if (!variable.starts_with("PATH=")) continue;
    std::string_view rest = std::string_view(variable).substr(5);
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find(':'), rest.size());
      const std::string path = std::string(rest.substr(0, end)) + "/" + name;
      if (::access(path.c_str(), X_OK) == 0) return path;
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  FAIL(name << " is not installed; scripts/packages lists what these tests need");
  return {};
}

bool Outcome::exited_with(int status) const {
  return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == status;
}

bool Outcome::killed_by(int signal) const {
  return WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == signal;
}

std::string Outcome::ending() const {
  if (WIFSIGNALED(wait_status)) return "signal " + std::to_string(WTERMSIG(wait_status));
  return "exit status " + std::to_string(WEXITSTATUS(wait_status));
}

Process::Process(Command command) : name_(command.words.front()) {
  const std::string path = find_program(command);
  // A program that stops reading is no reason for the test to end.
  ::signal(SIGPIPE, SIG_IGN);
  const Pipe input;
  const Pipe output;
  const Pipe errors;

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input.reader, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, output.writer, STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, errors.writer, STDERR_FILENO);
  if (!command.directory.empty())
    ::posix_spawn_file_actions_addchdir_np(&actions, command.directory.c_str());

  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t defaults;
  ::sigemptyset(&defaults);
  ::sigaddset(&defaults, SIGPIPE);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  const int error =
      ::posix_spawn(&pid_, path.c_str(), &actions, &attributes, pointers(command.words).data(),
                    pointers(command.environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  ::close(input.reader);
  ::close(output.writer);
  ::close(errors.writer);
  if (error != 0) {
    ::close(input.writer);
    ::close(output.reader);
    ::close(errors.reader);
    FAIL("start " << path << ": " << std::strerror(error));
  }
  reads_output_ = std::thread([this, fd = output.reader] { read_all(fd, outcome_.output); });
  reads_errors_ = std::thread([this, fd = errors.reader] { read_all(fd, outcome_.errors); });
  writes_input_ =
      std::thread([fd = input.writer, text = std::move(command.input)] { write_all(fd, text); });
}

Process::~Process() {
  if (!ended_) end_group();
  join();
}

void Process::signal(int number) const { REQUIRE(::kill(pid_, number) == 0); }

bool Process::reap(std::chrono::steady_clock::time_point deadline) {
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
  if (process < 0) FAIL("pidfd_open: " << std::strerror(errno));
  int ready = 0;
  do {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd poll{process, POLLIN, 0};
    ready = ::poll(&poll, 1, std::max<int>(0, static_cast<int>(left.count())));
  } while (ready < 0 && errno == EINTR);
  ::close(process);
  if (ready <= 0) return false;
  struct rusage usage = {};
  REQUIRE(::wait4(pid_, &outcome_.wait_status, 0, &usage) == pid_);
  outcome_.peak_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  ended_ = true;
  return true;
}

Outcome Process::wait(std::chrono::seconds patience) {
  if (!reap(std::chrono::steady_clock::now() + patience)) {
    end_group();
    join();
    FAIL(name_ << " did not end within " << patience.count() << " s; it said:\n"
               << outcome_.output << outcome_.errors);
  }
  join();
  return std::move(outcome_);
}

void Process::end_group() {
  ::kill(-pid_, SIGKILL);
  ::waitpid(pid_, &outcome_.wait_status, 0);
  ended_ = true;
}

void Process::join() {
  for (std::thread* thread : {&writes_input_, &reads_output_, &reads_errors_})
    if (thread->joinable()) thread->join();
}

}  // namespace real
