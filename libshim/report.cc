#include "libshim/report.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "libshim/syscall.h"
#include "protocol/paths.h"

extern "C" const char* strerrordesc_np(int) noexcept;

namespace shim {
namespace {

constexpr int kStderr = 2;
constexpr int kWriteGraceMs = 100;

bool debug = false;
int lost_said = 0;

class Line {
 public:
  void add(const char* text) {
    while (*text != '\0' && length_ < sizeof(text_) - 2) text_[length_++] = *text++;
  }
  void add(long number) {
    char digits[24];
    int count = 0;
    do {
      digits[count++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    while (count > 0 && length_ < sizeof(text_) - 2) text_[length_++] = digits[--count];
  }
  // A reader that does not read must not keep the program from ending.
  void write(int descriptor) {
    text_[length_++] = '\n';
    pollfd ready{descriptor, POLLOUT, 0};
    timespec grace{0, kWriteGraceMs * 1'000'000};
    if (sys(SYS_ppoll, &ready, 1, &grace, 0, 0) <= 0) return;
    sys(SYS_write, descriptor, text_, length_);
  }

 private:
  char text_[512];
  unsigned length_ = 0;
};

void begin(Line& line) {
  char name[17] = {};
  const long self = sys(SYS_openat, AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC);
  if (!failed(self)) {
    const long got = sys(SYS_read, self, name, sizeof(name) - 1);
    if (got > 0 && name[got - 1] == '\n') name[got - 1] = '\0';
    sys(SYS_close, self);
  }
  line.add("vmshim: ");
  line.add(name[0] != '\0' ? name : "program");
  line.add("[");
  line.add(sys(SYS_getpid));
  line.add("]: ");
}

void say_parts(int descriptor, const char* const* parts) {
  Line line;
  begin(line);
  for (; *parts != nullptr; ++parts) line.add(*parts);
  line.write(descriptor);
}

// The program's descriptor 2, fetched into the caller's own table.
int program_stderr() {
  const long process = sys(SYS_getpid);
  const long pidfd = sys(SYS_pidfd_open, process, 0);
  if (failed(pidfd)) return -1;
  const long descriptor = sys(SYS_pidfd_getfd, pidfd, kStderr, 0);
  sys(SYS_close, pidfd);
  return failed(descriptor) ? -1 : static_cast<int>(descriptor);
}

}  // namespace

void say(const char* a, const char* b, const char* c, const char* d, const char* e,
         const char* f) {
  const char* const parts[] = {a, b, c, d, e, f, nullptr};
  say_parts(kStderr, parts);
}

void say_debug(const char* a, const char* b, const char* c) {
  if (debug) say(a, b, c);
}

void set_debug(bool on) { debug = on; }

const char* error_text(long error) {
  const char* text = strerrordesc_np(static_cast<int>(error));
  return text != nullptr ? text : "unknown error";
}

void end_process(int status) {
  for (;;) sys(SYS_exit_group, status);
}

void end_server_lost(bool other_table) {
  if (__atomic_exchange_n(&lost_said, 1, __ATOMIC_ACQ_REL) == 0) {
    const int descriptor = other_table ? program_stderr() : kStderr;
    const char* const parts[] = {"the VM server is gone, and with it this program's memory; ending",
                                 nullptr};
    if (descriptor >= 0) say_parts(descriptor, parts);
    end_process(VM_EXIT_SERVER_LOST);
  }
  // Another thread is saying so right now, and ends all of us.
  for (;;) sys(SYS_ppoll, 0, 0, 0, 0, 0);
}

}  // namespace shim
