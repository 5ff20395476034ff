// A program without libvmshim.so that speaks the protocol itself, and not as it should.
//
// hostile CASE SOCKET [SEED COUNT]
// Exit status 0 when the server behaved; otherwise 1 and a line on stderr.
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/note_ring.h"
#include "protocol/trap_frame.h"

namespace {

constexpr uint64_t kPage = 4096;
// Where the server puts mappings, or near that.
constexpr uint64_t kSomewhere = 0x110000000000;
constexpr uint64_t kNearBytes = uint64_t{1} << 30;
constexpr int kPatienceMs = 60'000;

[[noreturn]] void fail(const char* what) {
  dprintf(STDERR_FILENO, "hostile: %s: %s\n", what, strerror(errno));
  _exit(1);
}

int connect_to(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  const int socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) fail("connect");
  return socket;
}

/// Returns the bytes of one message; 0 when the server has hung up.
long receive(int socket, void* data, size_t size, int* descriptor) {
  pollfd ready{socket, POLLIN, 0};
  if (poll(&ready, 1, kPatienceMs) != 1) fail("the server does not answer");
  iovec vector{data, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const long got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0 && errno == ECONNRESET) return 0;
  if (got < 0) fail("recvmsg");
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  int came = -1;
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    memcpy(&came, CMSG_DATA(header), sizeof(int));
  }
  if (descriptor != nullptr) {
    *descriptor = came;
  } else if (came >= 0) {
    close(came);
  }
  return got;
}

bool send(int socket, const void* data, size_t size, const int* descriptors = nullptr,
          unsigned count = 0) {
  iovec vector{const_cast<void*>(data), size};
  alignas(cmsghdr) char control[CMSG_SPACE(16 * sizeof(int))];
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
  return sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

/// The server's device for making userfaultfds.
int greeted(int socket) {
  protocol::Welcome welcome{};
  int device = -1;
  if (receive(socket, &welcome, sizeof(welcome), &device) != sizeof(welcome)) fail("no welcome");
  if (welcome.magic != protocol::kMagic || device < 0) fail("no welcome of this version");
  return device;
}

enum { kUserfaultfd, kMaps, kPagemap, kDescriptors };

struct Handshake {
  protocol::Begin begin{};
  int descriptors[kDescriptors];
};

Handshake prepare(int device) {
  Handshake own;
  void* page = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) fail("mmap of a nameplate");
  own.begin.magic = protocol::kMagic;
  own.begin.version = protocol::kVersion;
  own.begin.nameplate = reinterpret_cast<uint64_t>(page);
  own.begin.map_maximum = 0x7ffffffff000;
  own.begin.proc_files = protocol::kProcMaps | protocol::kProcPagemap;
  own.descriptors[kUserfaultfd] = ioctl(device, _IO(0xAA, 0x00), O_CLOEXEC | O_NONBLOCK);
  own.descriptors[kMaps] = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  own.descriptors[kPagemap] = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  return own;
}

// `notes` is what the program's notes are in, where it is asked for.
bool begin(int socket, const Handshake& own, int* notes = nullptr) {
  if (!send(socket, &own.begin, sizeof(own.begin), own.descriptors, kDescriptors)) {
    return false;
  }
  protocol::TrapReply reply{};
  const auto answered = [&](int* descriptor) {
    return receive(socket, &reply, sizeof(reply), descriptor) >=
               static_cast<long>(sizeof(reply.header)) &&
           reply.header.error == 0;
  };
  return answered(nullptr) && answered(notes);
}

int well_formed_session(const char* path) {
  const int socket = connect_to(path);
  if (!begin(socket, prepare(greeted(socket)))) fail("a good handshake was refused");
  return socket;
}

void expect_hang_up(int socket) {
  char data[sizeof(protocol::TrapReply)];
  while (receive(socket, data, sizeof(data), nullptr) != 0) {
  }
}

protocol::TrapRequest request_of(uint16_t call, uint32_t sequence) {
  protocol::TrapRequest request{};
  request.magic = protocol::kMagic;
  request.sequence = sequence;
  request.call = call;
  request.limits[0] = request.limits[1] = ~uint64_t{0};
  return request;
}

/// Makes a call to its end, carrying out nothing. `refuse`: say that every plan failed. Returns
/// false when the server has hung up.
bool make_call(int socket, const protocol::TrapRequest& request, int descriptor, bool refuse,
               uint64_t* value = nullptr) {
  if (!send(socket, &request, sizeof(request), &descriptor, descriptor >= 0 ? 1 : 0)) return false;
  if ((request.flags & protocol::kRequestDone) != 0) return true;  // no answer, or the end
  for (;;) {
    protocol::TrapReply reply;
    const long got = receive(socket, &reply, sizeof(reply), nullptr);
    if (got == 0) return false;
    if (got < static_cast<long>(sizeof(reply.header)) ||
        got != protocol::reply_bytes(reply.header.op_count, reply.header.data_bytes)) {
      fail("an answer that is no frame");
    }
    if (reply.header.sequence != request.sequence) fail("an answer to another request");
    const bool final = (reply.header.flags & protocol::kReplyFinal) != 0;
    const bool failed = refuse && reply.header.op_count != 0;
    if (final && !failed) {
      if (value != nullptr) *value = reply.header.value;
      return true;
    }
    protocol::TrapRequest next = request_of(protocol::kCallContinue, request.sequence);
    next.args[0] = failed ? 0 : ~uint64_t{0};
    next.args[1] = failed ? EAGAIN : 0;
    if (!send(socket, &next, sizeof(next))) return false;
  }
}

protocol::TrapRequest one_page() {
  protocol::TrapRequest request = request_of(protocol::kCallMmap, 1);
  request.args[1] = kPage;
  request.args[2] = PROT_READ;
  request.args[3] = MAP_PRIVATE | MAP_ANONYMOUS;
  request.args[4] = ~uint64_t{0};
  return request;
}

// ---- cases -------------------------------------------------------------------------------------

void garbage(const char* path) {
  const int before = connect_to(path);
  char noise[sizeof(protocol::TrapRequest)];
  for (size_t i = 0; i < sizeof(noise); ++i) noise[i] = static_cast<char>(i * 37 + 11);
  send(before, noise, sizeof(noise));
  expect_hang_up(before);
  const int served = well_formed_session(path);
  send(served, noise, sizeof(noise));
  expect_hang_up(served);
}

void half_a_frame(const char* path) {
  const int handshake = connect_to(path);
  Handshake own = prepare(greeted(handshake));
  send(handshake, &own.begin, sizeof(own.begin) / 2, own.descriptors, kDescriptors);
  expect_hang_up(handshake);
  const int served = well_formed_session(path);
  const protocol::TrapRequest request = request_of(protocol::kCallMmap, 1);
  send(served, &request, sizeof(request) / 2);
  expect_hang_up(served);
}

void too_long_a_frame(const char* path) {
  const int served = well_formed_session(path);
  char frame[8192] = {};
  const protocol::TrapRequest request = request_of(protocol::kCallGetpagesize, 1);
  memcpy(frame, &request, sizeof(request));
  send(served, frame, sizeof(frame));
  expect_hang_up(served);
}

void wrong_descriptors(const char* path) {
  for (int wrong = 0; wrong < kDescriptors; ++wrong) {
    const int socket = connect_to(path);
    Handshake own = prepare(greeted(socket));
    int ends[2];
    if (pipe(ends) != 0) fail("pipe");
    own.descriptors[wrong] = ends[0];
    if (wrong == kUserfaultfd) {
      if (begin(socket, own)) fail("a pipe was taken for a userfaultfd");
      continue;
    }
    // The server may notice at once or at the first use; it must not wait for the pipe.
    if (begin(socket, own)) {
      protocol::TrapRequest request = request_of(protocol::kCallMincore, 1);
      request.args[0] = kSomewhere;
      request.args[1] = kPage;
      make_call(socket, request, -1, false);
      request.call = protocol::kCallMlockall;
      request.args[0] = 1;
      make_call(socket, request, -1, false);
    }
    close(socket);
  }
  const int none = connect_to(path);
  Handshake own = prepare(greeted(none));
  send(none, &own.begin, sizeof(own.begin));
  expect_hang_up(none);
  const int many = connect_to(path);
  own = prepare(greeted(many));
  int descriptors[12];
  for (int& descriptor : descriptors) descriptor = own.descriptors[0];
  send(many, &own.begin, sizeof(own.begin), descriptors, 12);
  expect_hang_up(many);
}

void closing(const char* path) {
  for (int i = 0; i < 50; ++i) close(connect_to(path));
  for (int i = 0; i < 50; ++i) {
    const int socket = connect_to(path);
    close(greeted(socket));
    close(socket);
  }
  for (int i = 0; i < 20; ++i) {
    const int socket = connect_to(path);
    const int device = greeted(socket);
    const Handshake own = prepare(device);
    send(socket, &own.begin, sizeof(own.begin), own.descriptors, kDescriptors);
    close(socket);
    close(device);
    for (int descriptor : own.descriptors) close(descriptor);
    munmap(reinterpret_cast<void*>(own.begin.nameplate), kPage);
  }
}

// What a program sends that is killed while it begins: from a process whose memory is gone.
void stillborn(const char* path) {
  const int socket = connect_to(path);
  const int device = greeted(socket);
  int ends[2];
  if (pipe(ends) != 0) fail("pipe");
  const pid_t child = static_cast<pid_t>(syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
  if (child == 0) {
    const Handshake its = prepare(device);
    _exit(write(ends[1], &its, sizeof(its)) == sizeof(its) ? 0 : 1);
  }
  Handshake own{};
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) fail("a process for this");
  if (read(ends[0], &own, sizeof(own)) != sizeof(own)) fail("read of its handshake");
  if (begin(socket, own)) fail("memory that is gone was served");
}

// What the server cannot believe: more notes than there is room for, and calls that nobody may do by
// itself.
void absurd_notes(const char* path) {
  for (int how = 0; how < 4; ++how) {
    const int socket = connect_to(path);
    int file = -1;
    if (!begin(socket, prepare(greeted(socket)), &file)) fail("a good handshake was refused");
    if (ftruncate(file, 0) == 0 || ftruncate(file, 1 << 20) == 0) fail("the notes change their size");
    void* const page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) fail("mmap of the notes");
    auto& ring = *static_cast<protocol::NoteRing*>(page);
    protocol::Note& note = ring.notes[0];
    note.call = how == 1 ? protocol::kCallMmap : how == 2 ? protocol::kCallMlockall : 0xffff;
    note.args[0] = kSomewhere;
    note.args[1] = kPage;
    ring.written = how == 0 ? protocol::NoteRing::kNotes + 1 : 1;
    make_call(socket, request_of(protocol::kCallNotes, 1), -1, false);
    expect_hang_up(socket);
    munmap(page, kPage);
    close(file);
  }
}

void absurd_handshake(const char* path) {
  const uint64_t values[] = {
      0, 1, kPage - 1, ~uint64_t{0}, ~uint64_t{4095}, uint64_t{1} << 63, uint64_t{1} << 47};
  for (int field = 0; field < 4; ++field) {
    for (uint64_t value : values) {
      const int socket = connect_to(path);
      Handshake own = prepare(greeted(socket));
      uint64_t* const fields[] = {&own.begin.nameplate, &own.begin.map_minimum,
                                  &own.begin.map_maximum, &own.begin.proc_files};
      *fields[field] = value;
      if (begin(socket, own)) {
        make_call(socket, one_page(), -1, true);
      }
      close(socket);
      for (int descriptor : own.descriptors) close(descriptor);
    }
  }
}

void strange_continuations(const char* path) {
  const int never_made = well_formed_session(path);
  const protocol::TrapRequest next = request_of(protocol::kCallContinue, 9);
  send(never_made, &next, sizeof(next));
  expect_hang_up(never_made);

  const int unknown_numbers = well_formed_session(path);
  protocol::TrapRequest request = request_of(protocol::kCallGetpagesize, 1);
  request.abi = 0xffff;
  send(unknown_numbers, &request, sizeof(request));
  expect_hang_up(unknown_numbers);
}

/// Leaves calls unanswered: asks for a move, and never says how it went.
void unacknowledged(const char* path) {
  const int socket = well_formed_session(path);
  uint64_t from = 0;
  if (!make_call(socket, one_page(), -1, false, &from)) fail("a good mmap was refused");
  protocol::TrapRequest request = request_of(protocol::kCallMremap, 2);
  request.args[0] = from;
  request.args[1] = request.args[2] = kPage;
  request.args[3] = MREMAP_MAYMOVE | MREMAP_FIXED;
  request.args[4] = 0x230000000000;
  if (!send(socket, &request, sizeof(request))) fail("send");
  protocol::TrapReply reply;
  receive(socket, &reply, sizeof(reply), nullptr);
  if ((reply.header.flags & protocol::kReplyAcknowledge) == 0) fail("a move without question");
  if (write(STDOUT_FILENO, "waiting\n", 8) != 8) fail("write");
  pause();
}

/// Never reads its answers.
void deaf(const char* path) {
  const int socket = well_formed_session(path);
  fcntl(socket, F_SETFL, O_NONBLOCK);
  for (uint32_t i = 0; i < 100'000; ++i) {
    const protocol::TrapRequest request = request_of(protocol::kCallGetpagesize, i);
    if (!send(socket, &request, sizeof(request)) && errno != EAGAIN) return;
  }
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1du;
  }
  uint64_t below(uint64_t limit) { return (next() >> 20) % limit; }

 private:
  uint64_t state_;
};

uint64_t absurd_word(Random& random, uint64_t near) {
  switch (random.below(10)) {
    case 0:
      return ~uint64_t{0};
    case 1:
      return random.next();
    case 2:
      return random.below(64);
    case 3:
      return random.below(64) * kPage;
    case 4:
      return ~uint64_t{0} - random.below(16) * kPage;
    case 5:
      return 0x7ffffffff000 - random.below(4) * kPage;
    case 6:
      return uint64_t{1} << random.below(64);
    default:
      return near + random.below(kNearBytes / kPage) * kPage;
  }
}

void fuzz(const char* path, uint64_t seed, unsigned long count) {
  Random random(seed);
  int socket = -1;
  uint64_t near = 0;
  Handshake own;
  const int file = memfd_create("fuzz", MFD_CLOEXEC);
  if (ftruncate(file, 64 * kPage) != 0) fail("ftruncate");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
  for (unsigned long i = 0; i < count; ++i) {
    if (socket < 0) {
      socket = connect_to(path);
      const int device = greeted(socket);
      own = prepare(device);
      close(device);
      if (!begin(socket, own)) fail("a good handshake was refused");
      // Where the server puts what follows.
      if (!make_call(socket, one_page(), -1, false, &near)) fail("a good mmap was refused");
    }
    protocol::TrapRequest request =
        request_of(static_cast<uint16_t>(1 + random.below(protocol::kCallCount + 1)),
                   static_cast<uint32_t>(i + 1));
    request.abi = static_cast<uint16_t>(random.below(2));
    for (uint64_t& argument : request.args) argument = absurd_word(random, near);
    if (random.below(4) == 0) request.limits[0] = random.next();
    if (request.call == protocol::kCallMmap && random.below(2) == 0) {
      // Nearly good, so that there is something for the others to work on.
      request.args[1] = random.below(64) * kPage;
      request.args[2] = random.below(8);
      request.args[3] =
          (1 + random.below(2)) | (random.below(2) * MAP_ANONYMOUS) | (random.below(2) * MAP_FIXED);
      request.args[4] = (request.args[3] & MAP_ANONYMOUS) != 0 ? ~uint64_t{0} : 5;
      request.args[5] = random.below(80) * kPage;
    } else if (random.below(2) == 0) {
      request.args[1] = random.below(64) * kPage;
    }
    const uint64_t passed = random.below(6);
    const int descriptor = passed == 0 ? ends[0] : passed < 4 ? file : -1;
    if (!make_call(socket, request, descriptor, random.below(4) == 0)) {
      close(socket);
      socket = -1;
      for (int owned : own.descriptors) close(owned);
      munmap(reinterpret_cast<void*>(own.begin.nameplate), kPage);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 1;
  struct Case {
    const char* name;
    void (*run)(const char* path);
  };
  const Case cases[] = {{"garbage", garbage},
                        {"half_a_frame", half_a_frame},
                        {"too_long_a_frame", too_long_a_frame},
                        {"wrong_descriptors", wrong_descriptors},
                        {"closing", closing},
                        {"stillborn", stillborn},
                        {"absurd_notes", absurd_notes},
                        {"absurd_handshake", absurd_handshake},
                        {"strange_continuations", strange_continuations},
                        {"unacknowledged", unacknowledged},
                        {"deaf", deaf}};
  if (strcmp(argv[1], "fuzz") == 0 && argc == 5) {
    fuzz(argv[2], strtoull(argv[3], nullptr, 10), strtoul(argv[4], nullptr, 10));
    return 0;
  }
  for (const Case& one : cases) {
    if (strcmp(argv[1], one.name) != 0) continue;
    one.run(argv[2]);
    return 0;
  }
  dprintf(STDERR_FILENO, "hostile: no case \"%s\"\n", argv[1]);
  return 1;
}
