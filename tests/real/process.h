// Process: a program that a test starts, with its streams on pipes. Every wait has a deadline: a
// program that is still there after it is ended with all its children, and the test fails.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace real {

inline constexpr std::chrono::seconds kPatience{120};

struct Command {
  std::vector<std::string> words;  ///< the program, looked up in the PATH of `environment`
  std::string input;               ///< what it reads from standard input
  std::string directory;           ///< where it runs
  std::vector<std::string> environment;
};

/// Where the program of a command is. Fails the test, saying so, when it is not installed.
std::string find_program(const Command& command);

/// How a program ended and what it said.
struct Outcome {
  std::string output;
  std::string errors;
  int wait_status = 0;
  std::uint64_t peak_bytes = 0;  ///< resident at most, of the largest process among it and its children

  bool exited_with(int status) const;
  bool killed_by(int signal) const;
  /// "exit status 3" or "signal 15".
  std::string ending() const;
};

class Process {
 public:
  /// Starts it, in a process group of its own. Fails the test when that cannot be done.
  explicit Process(Command command);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// Waits for its end; once only. Fails the test when it does not come in time.
  Outcome wait(std::chrono::seconds patience = kPatience);

 private:
  /// False when it still runs at the deadline.
  bool reap(std::chrono::steady_clock::time_point deadline);
  void end_group();
  void join();

  std::string name_;
  pid_t pid_ = -1;
  bool ended_ = false;
  Outcome outcome_;
  std::thread reads_output_;
  std::thread reads_errors_;
  std::thread writes_input_;
};

/// Polls until `condition` holds; false when it does not in kPatience.
template <typename Condition>
bool holds_in_time(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

}  // namespace real
