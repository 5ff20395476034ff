#include "vmserver/rpc/listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace server {
namespace {

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    fail(ENAMETOOLONG, "listen at " + path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/// Removes a socket that a server left behind.
void remove_stale(const std::string& path, const sockaddr_un& address) {
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return;
    fail(errno, "listen at " + path);
  }
  if (!S_ISSOCK(status.st_mode)) fail(EEXIST, "listen at " + path + ", which is no socket");
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) fail(errno, "socket to probe " + path);
  const bool refused =
      ::connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
      errno == ECONNREFUSED;
  ::close(probe);
  if (!refused) fail(EADDRINUSE, "listen at " + path + ", where a server lives");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail(errno, "remove the old socket " + path);
}

}  // namespace

Listener::Listener(std::string path) : path_(std::move(path)) {
  const sockaddr_un address = address_of(path_);
  remove_stale(path_, address);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) fail(errno, "socket for " + path_);
  const auto give_up = [&](const std::string& what) {
    const int error = errno;
    ::close(fd);
    fail(error, what);
  };
  // Linux gives the file in the file system the mode of the socket, less the umask (unix(7) and
  // unix_bind()), so it is never open to others.
  if (::fchmod(fd, 0600) != 0) give_up("fchmod of the socket for " + path_);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    give_up("bind to " + path_);
  struct stat status;
  if (::lstat(path_.c_str(), &status) != 0) give_up("stat of the socket " + path_);
  if (::listen(fd, SOMAXCONN) != 0) give_up("listen at " + path_);
  fd_ = fd;
  device_ = status.st_dev;
  inode_ = status.st_ino;
}

Listener::~Listener() {
  struct stat status;
  if (::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_)
    ::unlink(path_.c_str());
  ::close(fd_);
}

}  // namespace server
