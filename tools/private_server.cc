#include "tools/private_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <optional>

#include "protocol/paths.h"
#include "tools/failure.h"
#include "tools/keeper.h"
#include "tools/spawn.h"

namespace tools {
namespace {

constexpr const char* kSocketName = "/vm.sock";

bool others_can_enter(const std::string& directory) {
  struct stat status = {};
  return ::stat(directory.c_str(), &status) == 0 && (status.st_mode & S_IXOTH) != 0;
}

/// A directory that only this user can list, its path short enough for the sockets in it. Others
/// can enter it only when `for_others`.
std::string make_directory(bool for_others) {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  std::string last_error;
  for (const std::string& parent :
       {std::string(runtime != nullptr ? runtime : ""), std::string("/tmp")}) {
    if (!parent.starts_with('/')) continue;
    std::string path = parent + "/vmrun-XXXXXX";
    if (path.size() + sizeof "/vm.sock" VM_RPC_SUFFIX > sizeof(sockaddr_un::sun_path)) continue;
    if (for_others && !others_can_enter(parent)) {
      last_error = parent + ": other users cannot enter it";
      continue;
    }
    if (::mkdtemp(path.data()) != nullptr && (!for_others || ::chmod(path.c_str(), 0711) == 0))
      return path;
    last_error = describe_errno("make a directory in " + parent, errno);
  }
  throw std::runtime_error(last_error);
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : cli::kExitFailure;
}

std::optional<KeeperWord> hear(const UniqueFd& keeper) {
  char word = 0;
  ssize_t got = 0;
  do {
    got = ::read(keeper.get(), &word, 1);
  } while (got < 0 && errno == EINTR);
  if (got != 1) return std::nullopt;
  return static_cast<KeeperWord>(word);
}

}  // namespace

PrivateServer::PrivateServer(const Installation& parts, const ServerOptions& options) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::runtime_error(describe_errno("socketpair", errno));
  keeper_ = above_standard(UniqueFd(ends[0]));
  UniqueFd other_end = above_standard(UniqueFd(ends[1]));
  if (!keeper_ || !other_end) throw std::runtime_error(describe_errno("dup", errno));

  const std::string directory = make_directory(!options.socket_mode.empty());
  socket_ = directory + kSocketName;
  keeper_pid_ = ::fork();
  if (keeper_pid_ < 0) {
    const int error = errno;
    ::rmdir(directory.c_str());
    throw std::runtime_error(describe_errno("fork", error));
  }
  if (keeper_pid_ == 0) {
    keeper_.reset();
    run_keeper(KeeperTask{parts, options, directory, socket_}, std::move(other_end));
  }
  other_end.reset();
  if (hear(keeper_) != KeeperWord::ready) throw ServerFailed{wait_for(keeper_pid_)};
}

void PrivateServer::finish() {
  ::shutdown(keeper_.get(), SHUT_WR);
  if (hear(keeper_) == KeeperWord::others_are_served) return;
  wait_for(keeper_pid_);
}

}  // namespace tools
