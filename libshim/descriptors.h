// Descriptors: where the shim keeps its own out of a program's way, and what it sends and receives over
// its socket. Nothing here knows of a session.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "protocol/trap_frame.h"

namespace shim {

/// What a descriptor is open on: tells whether the program has made something else of its number.
struct Identity {
  uint64_t device = 0;
  uint64_t inode = 0;
  bool operator==(const Identity& other) const {
    return device == other.device && inode == other.inode;
  }
};
Identity identity_of(int descriptor);

void close_descriptor(int descriptor);
/// A copy out of the program's way, or a negative errno.
long duplicate_high(int descriptor);
/// The descriptor out of the program's way; where it was if there is no room.
int move_high(int descriptor);

/// A resource limit, soft or hard; no limit is the largest number.
uint64_t limit_of(int resource, bool hard);

struct Received {
  long bytes = 0;
  int descriptor = -1;
  bool no_room = false;  // a descriptor came along, and no number is left for it
};
/// One message, and the descriptor that came along. `flags` are those of recvmsg(2).
Received receive(int socket, void* buffer, size_t size, int flags = 0);
/// One message with up to four descriptors. A negative errno if it could not be sent.
long send(int socket, const void* data, size_t size, const int* descriptors, unsigned count);
/// `path` fits a sockaddr_un. Returns a socket or a negative errno.
long connect_to_server(const char* path);

/// Descriptors that go along with Begin and Adopt.
class Passed {
 public:
  ~Passed() {
    for (unsigned i = 0; i < owned_; ++i) close_descriptor(descriptors_[count_ - 1 - i]);
  }
  void add(int descriptor) { descriptors_[count_++] = descriptor; }
  /// How the server sees this address space. Returns which of protocol::ProcFile could be opened.
  uint64_t add_proc_files() {
    return add_proc_file("/proc/self/maps", protocol::kProcMaps) |
           add_proc_file("/proc/self/pagemap", protocol::kProcPagemap);
  }
  const int* descriptors() const { return descriptors_; }
  unsigned count() const { return count_; }

 private:
  uint64_t add_proc_file(const char* path, protocol::ProcFile which);

  int descriptors_[4];
  unsigned count_ = 0;
  unsigned owned_ = 0;  // the last ones
};

}  // namespace shim
