#include "observe.h"

#include <linux/loop.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "run.h"

_Noreturn void fail_set_up(const char* file, int line, const char* what) {
  const char* name = strrchr(file, '/');
  report(say("%s:%d: %s: %s", name != NULL ? name + 1 : file, line, what, error_name(errno)));
}

_Noreturn void skip(const char* why) { report(say(SKIPPED "%s", why)); }

void need_root(void) {
  if (geteuid() != 0) skip("needs root");
}

const char* say(const char* format, ...) {
  static char texts[16][200];
  static unsigned next;
  char* const text = texts[next++ % 16];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof(texts[0]), format, list);
  va_end(list);
  return text;
}

const char* error_name(int number) {
  // glibc calls EOPNOTSUPP ENOTSUP.
  const char* name = number == EOPNOTSUPP ? "EOPNOTSUPP" : strerrorname_np(number);
  return name != NULL ? name : say("error %d", number);
}

const char* either(bool succeeded, const char* text) {
  return succeeded ? text : error_name(errno);
}

const char* status(int result) { return either(result == 0, "succeeds"); }

const char* mapped(const void* at) { return either(at != MAP_FAILED, "maps it"); }

static sigjmp_buf fault_return;

static void on_fault(int number) { siglongjmp(fault_return, number); }

static void catch_faults(void) {
  const struct sigaction action = {.sa_handler = on_fault};
  require(sigaction(SIGSEGV, &action, NULL) == 0);
  require(sigaction(SIGBUS, &action, NULL) == 0);
}

int signal_of_load(const byte* at) {
  catch_faults();
  const int number = sigsetjmp(fault_return, 1);
  if (number == 0) (void)*(const volatile byte*)at;
  return number;
}

int signal_of_store(byte* at, byte value) {
  catch_faults();
  const int number = sigsetjmp(fault_return, 1);
  if (number == 0) *(volatile byte*)at = value;
  return number;
}

static const char* signal_name(int number) { return say("SIG%s", sigabbrev_np(number)); }

const char* load(const byte* at) {
  const int number = signal_of_load(at);
  return number != 0 ? signal_name(number) : say("reads %d", *(const volatile byte*)at);
}

const char* store(byte* at, byte value) {
  const int number = signal_of_store(at, value);
  return number != 0 ? signal_name(number) : "can be written";
}

const char* presence(const byte* at) { return signal_of_load(at) == 0 ? "stays" : "is gone"; }

const char* in_child(const char* (*observe)(byte* at), byte* at) {
  int ends[2];
  require(pipe(ends) == 0);
  const pid_t child = fork();
  require(child >= 0);
  if (child == 0) {
    report_to(ends[1]);
    report(observe(at));
  }
  close(ends[1]);
  char text[200];
  return say("%s", read_report(ends[0], child, text, sizeof(text)));
}

static const char* load_text(byte* at) {
  const char* text = load(at);
  return say("the child %s%s", strncmp(text, "SIG", 3) == 0 ? "gets " : "", text);
}

const char* child_load(const byte* at) { return in_child(load_text, (byte*)(uintptr_t)at); }

int child_store(byte* at, byte value) {
  const pid_t child = fork();
  require(child >= 0);
  if (child == 0) _exit(signal_of_store(at, value));
  int ending = -1;
  require(waitpid(child, &ending, 0) == child && WIFEXITED(ending));
  return WEXITSTATUS(ending);
}

bool has_flag(const byte* at, const char* flag) {
  FILE* const maps = fopen("/proc/self/smaps", "re");
  require(maps != NULL);
  char line[500];
  char wanted[8];
  snprintf(wanted, sizeof(wanted), " %s ", flag);
  bool here = false;
  bool found = false;
  while (fgets(line, sizeof(line), maps) != NULL) {
    unsigned long first, end;
    if (sscanf(line, "%lx-%lx ", &first, &end) == 2) {
      here = (uintptr_t)at >= first && (uintptr_t)at < end;
    } else if (here && strncmp(line, "VmFlags:", 8) == 0) {
      found = strstr(line, wanted) != NULL;
      break;
    }
  }
  fclose(maps);
  return found;
}

const char* lock_state(const byte* at) {
  return has_flag(at, "lo") ? "is locked" : "is not locked";
}

int core_byte(const byte* at) {
  byte vector = 0;
  return mincore((void*)(uintptr_t)at, PAGE, (void*)&vector) == 0 ? vector : -1;
}

const char* core_state(const byte* at) {
  const int bits = core_byte(at);
  if (bits < 0) return error_name(errno);
  return (bits & 1) != 0 ? "in core" : "not in core";
}

byte* anonymous(size_t pages) {
  byte* const at = mmap(NULL, pages * PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return at;
}

static byte* number_pages(byte* at, size_t pages) {
  for (size_t i = 0; i < pages; ++i) at[i * PAGE] = (byte)(i + 1);
  return at;
}

byte* numbered(size_t pages) { return number_pages(anonymous(pages), pages); }

byte* shared(size_t pages) {
  byte* const at = mmap(NULL, pages * PAGE, READ_WRITE, SHARED_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  return number_pages(at, pages);
}

byte* with_hole(size_t pages, size_t hole) {
  byte* const at = numbered(pages);
  require(munmap(at + hole * PAGE, PAGE) == 0);
  return at;
}

byte* room(size_t pages) {
  byte* const at = mmap(NULL, pages * PAGE, PROT_NONE, PRIVATE_ANONYMOUS, -1, 0);
  require(at != MAP_FAILED);
  require(munmap(at, pages * PAGE) == 0);
  return at;
}

int new_file(size_t pages) {
  static int number;
  const int file = open(say("file%d", number++), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  require(file >= 0);
  for (size_t i = 0; i < pages; ++i) {
    byte content[PAGE];
    memset(content, (int)(i + 1), sizeof(content));
    require(write(file, content, sizeof(content)) == (ssize_t)sizeof(content));
  }
  return file;
}

int open_again(int descriptor, int flags) {
  return open(say("/proc/self/fd/%d", descriptor), flags | O_CLOEXEC);
}

int new_device(size_t pages) {
  need_root();
  const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) skip("no /dev/loop-control");
  for (int attempt = 0; attempt < 20; ++attempt) {
    const int number = ioctl(control, LOOP_CTL_GET_FREE);
    require(number >= 0);
    const int device = open(say("/dev/loop%d", number), O_RDWR | O_CLOEXEC);
    if (device < 0) skip("a loop device cannot be opened");
    struct loop_config config = {.fd = (unsigned)new_file(pages),
                                 .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0) return device;
    require(errno == EBUSY);  // somebody else was given the same
    close(device);
  }
  skip("no loop device is free");
}

byte* map_file(int descriptor, size_t pages, int protection, int flags) {
  byte* const at = mmap(NULL, pages * PAGE, protection, flags, descriptor, 0);
  require(at != MAP_FAILED);
  return at;
}

byte file_byte(int descriptor, size_t offset) {
  byte value = 0;
  require(pread(descriptor, &value, 1, (off_t)offset) == 1);
  return value;
}

const char* file_state(int descriptor, size_t offset, byte value) {
  return file_byte(descriptor, offset) == value ? "the file has it" : "the file has its own";
}

void set_limit(int which, size_t bytes) {
  const struct rlimit limit = {bytes, bytes};
  require(setrlimit(which, &limit) == 0);
}

void drop_root(size_t lockable) {
  if (lockable != 0) set_limit(RLIMIT_MEMLOCK, lockable);
  if (geteuid() == 0) require(setuid(65534) == 0);
}
