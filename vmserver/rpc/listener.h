// The RPC socket: a listening Unix stream socket at a path.
#pragma once

#include <sys/types.h>

#include <string>

namespace server {

class Listener {
 public:
  /// Listens at `path`, which only this user may connect to (mode 0600 from the first moment). A
  /// socket that nobody listens on any more is replaced. Throws std::system_error: EADDRINUSE when
  /// a server lives there, EEXIST when something else than a socket is in the way, ENAMETOOLONG,
  /// and what bind() gives.
  explicit Listener(std::string path);
  /// Closes it and removes the socket, unless another one stands at the path by now.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  /// Non-blocking.
  int descriptor() const { return fd_; }

 private:
  std::string path_;
  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace server
