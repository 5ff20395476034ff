#include "tools/spawn.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string_view>

#include "protocol/paths.h"

namespace tools {
namespace {

constexpr std::string_view kPreload = "LD_PRELOAD=";
constexpr std::string_view kSocket = VM_ENV_SOCKET "=";
constexpr std::string_view kCapture = VM_ENV_CAPTURE "=";
constexpr std::string_view kShimName = "libvmshim.so";

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> result;
  for (const std::string& text : texts) result.push_back(text.c_str());
  result.push_back(nullptr);
  return result;
}

/// The entries of an LD_PRELOAD, separated by ':' or ' ', that are not the shim.
std::string without_shim(std::string_view list) {
  std::string result;
  while (!list.empty()) {
    const std::size_t end = list.find_first_of(": ");
    const std::string_view entry = list.substr(0, end);
    list.remove_prefix(end == std::string_view::npos ? list.size() : end + 1);
    if (entry.empty() || entry.substr(entry.rfind('/') + 1) == kShimName) continue;
    if (!result.empty()) result += ':';
    result += entry;
  }
  return result;
}

struct SplitEnvironment {
  Environment others;
  std::string preload;  ///< LD_PRELOAD without the shim
};

SplitEnvironment split_environment() {
  SplitEnvironment result;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (text.starts_with(kPreload))
      result.preload = without_shim(text.substr(kPreload.size()));
    else if (!text.starts_with(kSocket))
      result.others.emplace_back(text);
  }
  return result;
}

/// What the child needs, as plain pointers into the parent's memory.
struct ChildPlan {
  const char* const* arguments;
  const char* const* environment;
  const SignalState* signals;
  bool search_path;
  int pass_fd;
  bool end_with_parent;
  pid_t parent;
  int* error;
};

/// Runs in the vfork child: only async-signal-safe calls, and nothing of the parent's is changed
/// but *error.
[[noreturn]] void become(const ChildPlan& plan) {
  if (plan.end_with_parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != plan.parent) ::_exit(1);
  }
  if (plan.pass_fd == kPassedFd)
    ::fcntl(kPassedFd, F_SETFD, 0);
  else if (plan.pass_fd >= 0)
    ::dup2(plan.pass_fd, kPassedFd);
  plan.signals->apply();

  const auto arguments = const_cast<char* const*>(plan.arguments);
  const auto environment = const_cast<char* const*>(plan.environment);
  if (plan.search_path)
    ::execvpe(arguments[0], arguments, environment);
  else
    ::execve(arguments[0], arguments, environment);
  *plan.error = errno;
  ::_exit(127);
}

pid_t start(const ChildPlan& plan) {
  const pid_t pid = ::vfork();
  if (pid == 0) become(plan);
  return pid;
}

}  // namespace

SignalState SignalState::defaults() {
  SignalState state;
  sigemptyset(&state.blocked_);
  sigemptyset(&state.ignored_);
  return state;
}

SignalState SignalState::current() {
  SignalState state = defaults();
  sigprocmask(SIG_SETMASK, nullptr, &state.blocked_);
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action = {};
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN)
      sigaddset(&state.ignored_, signal);
  }
  return state;
}

void SignalState::apply() const {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action = {};
    action.sa_handler = sigismember(&ignored_, signal) == 1 ? SIG_IGN : SIG_DFL;
    // Fails for the two signals that nobody may change and for those libc keeps for itself.
    sigaction(signal, &action, nullptr);
  }
  sigprocmask(SIG_SETMASK, &blocked_, nullptr);
}

Environment unserved_environment() {
  SplitEnvironment environment = split_environment();
  if (!environment.preload.empty())
    environment.others.push_back(std::string(kPreload) + environment.preload);
  return environment.others;
}

Environment served_environment(const std::string& shim, const std::string& socket,
                               const std::string& capture) {
  if (shim.find_first_of(": ") != std::string::npos)
    throw std::runtime_error("preload " + shim + ": LD_PRELOAD takes no path with ':' or ' '");
  SplitEnvironment environment = split_environment();
  std::string preload = std::string(kPreload) + shim;
  if (!environment.preload.empty()) preload += ":" + environment.preload;
  environment.others.push_back(preload);
  environment.others.push_back(std::string(kSocket) + socket);
  if (!capture.empty()) {
    std::erase_if(environment.others,
                  [](const std::string& variable) { return variable.starts_with(kCapture); });
    environment.others.push_back(std::string(kCapture) + capture);
  }
  return environment.others;
}

pid_t spawn(const Child& child) {
  const std::vector<const char*> arguments = pointers(child.command);
  const std::vector<const char*> environment = pointers(child.environment);

  // No handler of this process may run in the child.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  int error = 0;
  const ChildPlan plan{arguments.data(), environment.data(),    &child.signals, child.search_path,
                       child.pass_fd,    child.end_with_parent, ::getpid(),     &error};
  const pid_t pid = start(plan);
  if (pid < 0) error = errno;
  sigprocmask(SIG_SETMASK, &before, nullptr);

  if (error != 0 && pid > 0) {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  return error != 0 ? -error : pid;
}

}  // namespace tools
