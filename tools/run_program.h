// Runs a program in vmrun's place, so that whoever started vmrun sees that program: its signals go
// to the program, and vmrun ends the way the program did.
#pragma once

#include <string>
#include <vector>

#include "tools/spawn.h"

namespace tools {

/// Exit status when the program cannot be run, as shells have it.
inline constexpr int kStatusNotExecutable = 126;
inline constexpr int kStatusNotFound = 127;

/// How a program ended: waitpid(2)'s status.
class Ending {
 public:
  explicit Ending(int wait_status) : wait_status_(wait_status) {}
  /// A plain exit with this status.
  static Ending of_status(int status) { return Ending(status << 8); }

  /// Ends this process in the same way: with the same status, or by the same signal (without a
  /// second core file).
  [[noreturn]] void repeat() const;

 private:
  int wait_status_;
};

/// Starts `command` (looked for in PATH) with this environment and signal state, and waits for its
/// end. Signals that arrive meanwhile are passed on to it; Ctrl-C and Ctrl-\ are not, because the
/// terminal sends them to the program itself. When it cannot be run there is a line on stderr.
Ending run_program(const std::vector<std::string>& command, const Environment& environment,
                   const SignalState& signals);

}  // namespace tools
