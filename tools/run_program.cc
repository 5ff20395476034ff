#include "tools/run_program.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>

namespace tools {
namespace {

/// What vmrun passes on. Stop signals are left alone: the terminal stops the program and vmrun
/// alike, and the shell sees it.
constexpr std::array kPassedOn = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM};

void pass_on(const siginfo_t& info, pid_t program) {
  const bool from_terminal = info.si_code == SI_KERNEL;
  if (from_terminal && (info.si_signo == SIGINT || info.si_signo == SIGQUIT)) return;
  ::kill(program, info.si_signo);
}

Ending cannot_run(const std::string& program, int error) {
  std::fprintf(stderr, "vmrun: %s: %s\n", program.c_str(),
               std::generic_category().message(error).c_str());
  return Ending::of_status(error == ENOENT ? kStatusNotFound : kStatusNotExecutable);
}

}  // namespace

Ending run_program(const std::vector<std::string>& command, const Environment& environment,
                   const SignalState& signals) {
  // Blocked and taken one by one: nothing of vmrun runs as a signal handler.
  sigset_t taken;
  sigemptyset(&taken);
  for (const int signal : kPassedOn) sigaddset(&taken, signal);
  sigaddset(&taken, SIGCHLD);
  sigprocmask(SIG_BLOCK, &taken, nullptr);
  // With an inherited SIG_IGN the program's status would be lost.
  signal(SIGCHLD, SIG_DFL);

  Child child;
  child.command = command;
  child.environment = environment;
  child.signals = signals;
  child.search_path = true;
  const pid_t program = spawn(child);
  if (program < 0) return cannot_run(command.front(), -program);

  int status = 0;
  while (::waitpid(program, &status, WNOHANG) != program) {
    siginfo_t info = {};
    if (sigwaitinfo(&taken, &info) > 0 && info.si_signo != SIGCHLD) pass_on(info, program);
  }
  return Ending(status);
}

void Ending::repeat() const {
  if (!WIFSIGNALED(wait_status_)) ::_exit(WEXITSTATUS(wait_status_));

  const int number = WTERMSIG(wait_status_);
  const rlimit no_core = {0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::prctl(PR_SET_DUMPABLE, 0);
  signal(number, SIG_DFL);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  sigprocmask(SIG_UNBLOCK, &only, nullptr);
  ::kill(::getpid(), number);
  ::_exit(128 + number);
}

}  // namespace tools
