#include "libshim/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "libshim/syscall.h"

namespace shim {
namespace {

// Descriptors go as high as a program with the usual limit of 1024 allows, out of the way of those
// it opens and expects to be small.
constexpr long kHighDescriptor = 960;
// With a lower limit, this far below it: three descriptors, and two more while they are replaced.
constexpr uint64_t kRoomBelowLimit = 5;

}  // namespace

Identity identity_of(int descriptor) {
  struct stat status;
  if (failed(sys(SYS_fstat, descriptor, &status))) return {};
  return {status.st_dev, status.st_ino};
}

void close_descriptor(int descriptor) {
  if (descriptor >= 0) sys(SYS_close, descriptor);
}

uint64_t limit_of(int resource, bool hard) {
  rlimit64 limit{};
  if (failed(sys(SYS_prlimit64, 0, resource, 0, &limit))) return ~uint64_t{0};
  return hard ? limit.rlim_max : limit.rlim_cur;
}

long duplicate_high(int descriptor) {
  const long at = sys(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, kHighDescriptor);
  if (!failed(at)) return at;
  const uint64_t limit = limit_of(RLIMIT_NOFILE, false);
  const uint64_t least = limit > kRoomBelowLimit ? limit - kRoomBelowLimit : 0;
  return sys(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, least);
}

int move_high(int descriptor) {
  if (descriptor < 0) return descriptor;
  const long at = duplicate_high(descriptor);
  if (failed(at)) return descriptor;
  close_descriptor(descriptor);
  return static_cast<int>(at);
}

Received receive(int socket, void* buffer, size_t size, int flags) {
  iovec vector{buffer, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  Received received;
  do {
    received.bytes = sys(SYS_recvmsg, socket, &message, MSG_CMSG_CLOEXEC | flags);
  } while (received.bytes == -EINTR);
  if (received.bytes > 0) {
    received.no_room = (message.msg_flags & MSG_CTRUNC) != 0;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header != nullptr && header->cmsg_type == SCM_RIGHTS) {
      memcpy(&received.descriptor, CMSG_DATA(header), sizeof(int));
    }
  }
  return received;
}

long send(int socket, const void* data, size_t size, const int* descriptors, unsigned count) {
  constexpr unsigned kMost = 4;
  iovec vector{const_cast<void*>(data), size};
  alignas(cmsghdr) char control[CMSG_SPACE(kMost * sizeof(int))];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (count != 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
  }
  long sent;
  do {
    sent = sys(SYS_sendmsg, socket, &message, MSG_NOSIGNAL);
  } while (sent == -EINTR);
  return sent;
}

long connect_to_server(const char* path) {
  const long socket = sys(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (failed(socket)) return socket;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path, strlen(path) + 1);
  const long result = sys(SYS_connect, socket, &address, sizeof(address));
  if (failed(result)) {
    sys(SYS_close, socket);
    return result;
  }
  return socket;
}

uint64_t Passed::add_proc_file(const char* path, protocol::ProcFile which) {
  const long descriptor = sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (failed(descriptor)) return 0;
  add(static_cast<int>(descriptor));
  ++owned_;
  return which;
}

}  // namespace shim
