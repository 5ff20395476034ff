// Processes that tests start: what goes in, what comes out, and how they end. Whatever a test
// starts ends with it.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/eventually.h"
#include "tools/unique_fd.h"

namespace support {

/// "NAME=value" each.
using Environment = std::vector<std::string>;

/// This process's environment without what would have its children served.
Environment plain_environment();

struct Command {
  std::vector<std::string> arguments;  ///< the first is the program's path
  Environment environment = plain_environment();
  std::optional<uid_t> user;                   ///< and group: all three ids
  std::vector<std::pair<int, rlim_t>> limits;  ///< soft limits
  bool asks = false;             ///< descriptor 0 is what say() tells it, not an empty file
  std::vector<int> descriptors;  ///< stay open in it, under their numbers
};

/// How a process ended, and what it wrote.
struct Outcome {
  int status = -1;  ///< exit status, if it exited
  int signal = 0;   ///< that ended it, or 0
  std::string output;
  std::string errors;

  /// "status 0" or "signal 9", and behind that ": " and what it wrote to stderr, if it did.
  std::string text() const;
};

class Process {
 public:
  Process() = default;
  explicit Process(const Command& command);
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  explicit operator bool() const { return pid_ > 0; }
  bool ended() const;
  void signal(int number) const;
  /// SIGSTOP, and it has stopped when this returns.
  void freeze() const;
  void thaw() const;

  /// Waits for its end; one that does not end in time is killed, and the test fails.
  Outcome wait(std::chrono::milliseconds within = kPatience);
  /// SIGKILL, and it has ended when this returns.
  void kill();

  /// Writes to its descriptor 0 (Command::asks).
  void say(const std::string& text);

  /// What it has written until now.
  std::string output() const;
  std::string errors() const;
  /// Waits until it has written this to stdout.
  void await_output(const std::string& text);

 private:
  void start(const Command& command);
  std::string state() const;

  pid_t pid_ = -1;
  tools::UniqueFd handle_;  // pidfd
  tools::UniqueFd input_;
  tools::UniqueFd input_end_;
  tools::UniqueFd output_;
  tools::UniqueFd errors_;
};

/// Runs a command to its end.
Outcome run(const Command& command, std::chrono::milliseconds within = kPatience);

/// From here on, descendants whose parents end become this process's children.
void adopt_orphans();
/// Descendants of this process that still run and that no Process stands for. Ended ones are
/// reaped.
std::vector<pid_t> stray_children();

}  // namespace support
