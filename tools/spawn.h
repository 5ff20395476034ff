// Starting other programs: what the child gets of this process, and what not.
//
// Children are started with vfork, so that starting one costs the same whatever this process has
// mapped. Everything between vfork and exec is written for a child that shares its parent's memory.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace tools {

/// The part of a process's signal state that survives exec.
class SignalState {
 public:
  /// This process's.
  static SignalState current();
  /// Every signal at its default and none blocked.
  static SignalState defaults();

  /// Makes it this process's state. May be called between vfork and exec.
  void apply() const;

 private:
  sigset_t blocked_ = {};
  sigset_t ignored_ = {};
};

/// Text for a child's environment: "NAME=value" each.
using Environment = std::vector<std::string>;

/// This process's environment without what connects it to a server, so that a program started from
/// a served one is not served itself: no VMSHIM_SOCKET, no libvmshim.so in LD_PRELOAD.
Environment unserved_environment();
/// The environment of a program that is to be served: `shim` preloaded before whatever else is, and
/// `socket` as its server. `capture`: which calls are caught, as VMSHIM_CAPTURE says it; empty:
/// what this process's environment says. Throws std::runtime_error when LD_PRELOAD cannot name
/// `shim`.
Environment served_environment(const std::string& shim, const std::string& socket,
                               const std::string& capture = {});

struct Child {
  std::vector<std::string> command;  ///< program and arguments
  Environment environment;
  SignalState signals;
  bool search_path = false;      ///< look for the program in PATH
  int pass_fd = -1;              ///< this descriptor is number kPassedFd in the child
  bool end_with_parent = false;  ///< SIGTERM when the thread that started it ends
};
inline constexpr int kPassedFd = 3;

/// Starts it and returns its process id, or the negative errno of exec. All descriptors of this
/// process that are to stay here must be close-on-exec.
pid_t spawn(const Child& child);

}  // namespace tools
