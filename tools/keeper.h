// The keeper: the process between vmrun and a private server (see tools/private_server.h).
#pragma once

#include <string>

#include "tools/installation.h"
#include "tools/private_server.h"
#include "tools/unique_fd.h"

namespace tools {

struct KeeperTask {
  const Installation& parts;
  const ServerOptions& options;
  std::string directory;  ///< removed in the end
  std::string socket;
};

/// What the keeper tells vmrun, one byte each.
enum class KeeperWord : char {
  ready = 'r',              ///< server and pagers can be used
  others_are_served = 'o',  ///< after vmrun hung up: do not wait
  ending = 'e'              ///< after vmrun hung up: all of it ends now
};

/// Becomes the keeper and ends this process: status 0, or what to pass on when not everything got
/// ready (there is a line on stderr then). `vmrun` is the connection to vmrun.
[[noreturn]] void run_keeper(const KeeperTask& task, UniqueFd vmrun);

}  // namespace tools
