#include "tools/keeper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tools/control_client.h"
#include "tools/failure.h"
#include "tools/spawn.h"

namespace tools {
namespace {

void say(const std::string& what) { std::fprintf(stderr, "vmrun: %s\n", what.c_str()); }

/// A program that says "ready" on its --ready-fd.
struct Part {
  std::string name;
  pid_t pid = -1;
  UniqueFd ready;
};

Part start_part(std::vector<std::string> command, bool end_with_parent) {
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) throw std::runtime_error(describe_errno("pipe", errno));
  Part part{command.front(), -1, UniqueFd(pipe_ends[0])};
  const UniqueFd write_end(pipe_ends[1]);

  command.push_back("--ready-fd");
  command.push_back(std::to_string(kPassedFd));
  Child child;
  child.command = std::move(command);
  child.environment = unserved_environment();
  child.signals = SignalState::defaults();
  child.pass_fd = write_end.get();
  child.end_with_parent = end_with_parent;
  const pid_t pid = spawn(child);
  if (pid < 0) throw std::runtime_error(describe_errno("start " + part.name, -pid));
  part.pid = pid;
  return part;
}

/// Whether it got ready; false when it closed its end first, because it ended.
bool wait_until_ready(const Part& part) {
  std::string heard;
  while (heard.find('\n') == std::string::npos) {
    char text[64];
    const ssize_t got = ::read(part.ready.get(), text, sizeof text);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    heard.append(text, static_cast<std::size_t>(got));
  }
  return heard.substr(0, heard.find('\n')) == "ready";
}

/// Waits for its end. Gives its exit status; 128 and more for a signal, as shells do.
int reap(Part& part) {
  int status = 0;
  while (::waitpid(part.pid, &status, 0) < 0) {
    if (errno != EINTR) break;
  }
  part.pid = -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// Whether a process still runs something; a zombie does not.
bool is_alive(std::int32_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text.size()) return false;
  const char state = text[name_end + 2];
  return state != 'Z' && state != 'X';
}

class Keeper {
 public:
  explicit Keeper(const KeeperTask& task) : task_(task) {}

  /// Gives the exit status to end with; 0 when everything is ready.
  int start() {
    server_ = start_part(server_command(), true);
    if (!wait_until_ready(server_)) return ended_early(server_);
    for (const std::string& pager : task_.parts.pagers)
      pagers_.push_back(start_part(pager_command(pager), false));
    for (Part& pager : pagers_)
      if (!wait_until_ready(pager)) return ended_early(pager);
    return 0;
  }

  /// Has the server end with its last program. True when there are programs that go on.
  bool drain() {
    try {
      ControlClient server(task_.socket);
      return server.drain() != 0 && others_are_alive(server);
    } catch (const kj::Exception& error) {
      stop_unreachable_server(error.getDescription().cStr());
    } catch (const std::exception& error) {
      stop_unreachable_server(error.what());
    }
    return false;
  }

  /// Returns when all parts have ended, and leaves nothing of them.
  void wait_for_end() {
    if (server_.pid > 0) reap(server_);
    for (Part& pager : pagers_) {
      if (pager.pid <= 0) continue;
      ::kill(pager.pid, SIGTERM);
      reap(pager);
    }
    std::error_code error;
    std::filesystem::remove_all(task_.directory, error);
    if (error) say("remove " + task_.directory + ": " + error.message());
  }

  /// Ends a server that cannot be asked to end by itself.
  void stop() {
    if (server_.pid > 0) ::kill(server_.pid, SIGTERM);
  }

 private:
  std::vector<std::string> server_command() const {
    std::vector<std::string> command = {task_.parts.server, "--socket", task_.socket};
    const auto add = [&](const char* option, const std::string& value) {
      if (value.empty()) return;
      command.push_back(option);
      command.push_back(value);
    };
    add("--memory", task_.options.memory);
    add("--personality", task_.options.personality);
    add("--max-proc-mmap", task_.options.max_proc_mmap);
    for (const std::string& pattern : task_.options.host_files) add("--host-files", pattern);
    if (task_.options.serve_all_files) command.push_back("--serve-all-files");
    add("--policy", task_.options.policy);
    add("--socket-mode", task_.options.socket_mode);
    add("--log-level", task_.options.log_level);
    return command;
  }

  std::vector<std::string> pager_command(const std::string& pager) const {
    std::vector<std::string> command = {pager, "--server", task_.socket, "--log-level",
                                        pager_log_level()};
    if (std::filesystem::path(pager).filename() != "pager-anon") return command;
    for (const std::string& swap : task_.options.swaps)
      command.insert(command.end(), {"--swap", swap});
    if (!task_.options.compression.empty())
      command.insert(command.end(), {"--compress", task_.options.compression});
    return command;
  }

  /// Pagers speak more by themselves than a program's stderr should hear.
  std::string pager_log_level() const {
    return task_.options.log_level.empty() ? "warn" : task_.options.log_level;
  }

  /// What to pass on of a part that ended before it was ready. It has said why itself, unless it
  /// was killed.
  static int ended_early(Part& part) {
    const std::string name = part.name;
    const int status = reap(part);
    if (status >= 128) say(name + " was killed by signal " + std::to_string(status - 128));
    return status == cli::kExitUsage ? cli::kExitUsage : cli::kExitFailure;
  }

  /// Whether any address space belongs to a program that goes on: the server may not have seen the
  /// end of a program that ended just now. A forked child counts as going on while the server does
  /// not know its process.
  static bool others_are_alive(ControlClient& server) {
    try {
      const auto answer = server.spaces();
      for (const auto space : answer.getSpaces())
        if (space.getPid() == 0 || is_alive(space.getPid())) return true;
      return false;
    } catch (const std::runtime_error&) {
      // Drained, it ended before it could answer: its last program has gone.
      return false;
    }
  }

  void stop_unreachable_server(const char* why) {
    siginfo_t info = {};
    const bool ended =
        ::waitid(P_PID, static_cast<id_t>(server_.pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == server_.pid;
    if (ended) return;
    say(why);
    stop();
  }

  const KeeperTask& task_;
  Part server_;
  std::vector<Part> pagers_;
};

/// Leaves vmrun's session, and everything of vmrun's that the server must not hold on to: standard
/// input and output, the working directory, descriptors that vmrun was started with. `vmrun` moves
/// to the lowest free number.
void detach(UniqueFd& vmrun) {
  ::setsid();
  ::prctl(PR_SET_NAME, "vmrun-keeper");
  SignalState::defaults().apply();
  if (::chdir("/") != 0) say(describe_errno("chdir /", errno));

  constexpr int kFirstFree = STDERR_FILENO + 1;
  UniqueFd high(::fcntl(vmrun.get(), F_DUPFD_CLOEXEC, kFirstFree + 1));
  if (!high) throw std::runtime_error(describe_errno("dup", errno));
  ::dup3(high.get(), kFirstFree, O_CLOEXEC);
  vmrun.release();
  high.release();
  ::close_range(kFirstFree + 1, ~0U, 0);
  vmrun.reset(kFirstFree);

  const int null_fd = ::open("/dev/null", O_RDWR);
  if (null_fd < 0) throw std::runtime_error(describe_errno("open /dev/null", errno));
  ::dup2(null_fd, STDIN_FILENO);
  ::dup2(null_fd, STDOUT_FILENO);
  if (::fcntl(STDERR_FILENO, F_GETFD) < 0) ::dup2(null_fd, STDERR_FILENO);
  if (null_fd > kFirstFree) ::close(null_fd);
}

void tell(const UniqueFd& vmrun, KeeperWord word) {
  // vmrun may have gone, then there is nobody to tell.
  ::send(vmrun.get(), &word, 1, MSG_NOSIGNAL);
}

void wait_for_hang_up(const UniqueFd& vmrun) {
  char nothing = 0;
  ssize_t got = 0;
  do {
    got = ::read(vmrun.get(), &nothing, 1);
  } while (got > 0 || (got < 0 && errno == EINTR));
}

int keep(const KeeperTask& task, UniqueFd& vmrun) {
  detach(vmrun);
  Keeper keeper(task);
  int status = cli::kExitFailure;
  try {
    status = keeper.start();
  } catch (const std::exception& error) {
    say(error.what());
  }
  if (status != 0) {
    keeper.stop();
    keeper.wait_for_end();
    return status;
  }
  tell(vmrun, KeeperWord::ready);
  wait_for_hang_up(vmrun);
  tell(vmrun, keeper.drain() ? KeeperWord::others_are_served : KeeperWord::ending);
  keeper.wait_for_end();
  return 0;
}

}  // namespace

void run_keeper(const KeeperTask& task, UniqueFd vmrun) {
  int status = cli::kExitFailure;
  try {
    status = keep(task, vmrun);
  } catch (const std::exception& error) {
    say(error.what());
  }
  ::_exit(status);
}

}  // namespace tools
