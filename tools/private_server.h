// PrivateServer: a server with its three pagers for one program and whatever that starts.
//
//   vmrun ──fork── keeper ──┬── vmserver      in a session of their own, so that what the terminal
//     │                     ├── pager-anon    sends (Ctrl-C) does not reach them
//     │                     ├── pager-file
//     └── PROGRAM           └── pager-device
//
// The keeper is there so that the server outlives vmrun exactly as long as a program needs it, in
// whatever way vmrun ends. It starts the four, says "ready", and then waits for vmrun to hang up.
// Then it drains the server, answers whether other programs are still served, waits for the server
// and the pagers to end, and removes their directory. vmrun waits for the keeper's own end only
// when no other program is served.
//
// Should the keeper be killed, the server gets SIGTERM, which ends it in good order. The pagers do
// not: the server needs them to write back what is dirty, and they end when it has gone.
#pragma once

#include <sys/types.h>

#include <array>
#include <string>
#include <vector>

#include "tools/installation.h"
#include "tools/unique_fd.h"

namespace tools {

/// Passed on to the server and its pagers as they are; an empty one is left to their default.
struct ServerOptions {
  std::string memory;
  std::string personality;
  std::string max_proc_mmap;
  std::string policy;  ///< absolute path
  std::vector<std::string> host_files;
  bool serve_all_files = false;
  /// Who may connect, octal. With one, every user can reach the socket in its directory.
  std::string socket_mode;
  std::string log_level;
  // pager-anon's.
  std::vector<std::string> swaps;  ///< FILE or FILE:SIZE, absolute paths
  std::string compression;
};

class PrivateServer {
 public:
  /// Forks the keeper and waits until server and pagers are ready. Call it before anything in this
  /// process has threads or an event loop. Throws std::runtime_error when something cannot be
  /// started; when the server itself said why it ended, throws ServerFailed instead.
  PrivateServer(const Installation& parts, const ServerOptions& options);
  PrivateServer(const PrivateServer&) = delete;
  PrivateServer& operator=(const PrivateServer&) = delete;
  ~PrivateServer() = default;

  /// The program socket.
  const std::string& socket() const { return socket_; }

  /// Lets the server end with its last program. Returns when it has ended and nothing of it is
  /// left, or at once when other programs are still served.
  void finish();

  /// A part did not get ready and has said so on stderr.
  struct ServerFailed {
    int status;  ///< the exit status to pass on
  };

 private:
  std::string socket_;
  UniqueFd keeper_;
  pid_t keeper_pid_ = -1;
};

}  // namespace tools
