// Programs that give up rights or enter namespaces, and go on mapping, faulting and forking.
#include "check.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PAGES ((size_t)64)
enum { NOBODY = 65534 };

static byte* before;  // half of it there before rights are given up
static int file = -1;

// arguments[0]: a file of 64 pages with the pattern
static void prepare(char** arguments) {
  before = map_private(PAGES * PAGE);
  fill_pattern(before, PAGES / 2 * PAGE, 0);
  file = open(arguments[0], O_RDWR);
  check(file >= 0);
}

static void use_private(void) {
  byte* own = map_private(PAGES * PAGE);
  check(is_filled(own, PAGES * PAGE, 0));
  fill_pattern(own, PAGES * PAGE, 0);
  byte core[PAGES];
  check(mincore(own, PAGES * PAGE, core) == 0 && core[0] == 1);
  check(mprotect(own, PAGE, PROT_READ) == 0);
  check(mprotect(own, PAGE, PROT_READ | PROT_WRITE) == 0);
  own = mremap(own, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
  check(own != MAP_FAILED && is_pattern(own, PAGES * PAGE, 0));
  check(munmap(own, 2 * PAGES * PAGE) == 0);
  byte* shared = map_shared(PAGES * PAGE);
  fill_pattern(shared, PAGES * PAGE, 0);
  check(is_pattern(shared, PAGES * PAGE, 0));
  check(munmap(shared, PAGES * PAGE) == 0);
}

static void use_file(void) {
  if (fcntl(file, F_GETFD) < 0) return;
  byte* mapped = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(mapped != MAP_FAILED);
  check(is_pattern(mapped, PAGES * PAGE, 0));
  mapped[3 * PAGE] = pattern_byte(3 * PAGE);
  check(msync(mapped, PAGES * PAGE, MS_SYNC) == 0);
  check(munmap(mapped, PAGES * PAGE) == 0);
}

static void go_on(void) {
  check(is_pattern(before, PAGES / 2 * PAGE, 0));
  check(is_filled(before + PAGES / 2 * PAGE, PAGES / 2 * PAGE, 0));
  use_private();
  use_file();
  const pid_t child = fork();
  if (child == 0) {
    check(is_pattern(before, PAGES / 2 * PAGE, 0));
    use_private();
    use_file();
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      use_private();
      _exit(0);
    }
    check_child(grandchild);
    _exit(0);
  }
  check_child(child);
  use_private();
}

static void become_nobody(void) {
  check(setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

static void nobody(char** arguments) {
  prepare(arguments);
  become_nobody();
  go_on();
}

// As servers do: rights go, then everything that is open. The server's socket is not for this user.
static void nobody_closing_all(char** arguments) {
  prepare(arguments);
  become_nobody();
  check(close_range(3, ~0u, 0) == 0);
  go_on();
}

static void nobody_in_child_closing_all(char** arguments) {
  prepare(arguments);
  const pid_t child = fork();
  if (child == 0) {
    become_nobody();
    check(close_range(3, ~0u, 0) == 0);
    go_on();
    _exit(0);
  }
  check_child(child);
  go_on();
}

static void no_capabilities(char** arguments) {
  prepare(arguments);
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
  check(syscall(SYS_capset, &header, none) == 0);
  check_error(EPERM, setresuid(1, 1, 1) != 0);
  go_on();
}

static void no_new_privileges(char** arguments) {
  prepare(arguments);
  check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  go_on();
}

static void not_dumpable(char** arguments) {
  prepare(arguments);
  check(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
  go_on();
}

// arguments[1]: an empty directory
static void in_another_root(char** arguments) {
  prepare(arguments);
  check(chroot(arguments[1]) == 0 && chdir("/") == 0);
  go_on();
}

static void in_another_root_closing_all(char** arguments) {
  prepare(arguments);
  check(chroot(arguments[1]) == 0 && chdir("/") == 0);
  become_nobody();
  check(close_range(3, ~0u, 0) == 0);
  go_on();
}

static void unshare_and_go_on(char** arguments, int flags) {
  prepare(arguments);
  check(unshare(flags) == 0);
  go_on();
}

static void own_mounts(char** arguments) { unshare_and_go_on(arguments, CLONE_NEWNS); }

static void own_network(char** arguments) { unshare_and_go_on(arguments, CLONE_NEWNET); }

// Its children are in it; the first one is process 1 there.
static void own_processes(char** arguments) {
  prepare(arguments);
  check(unshare(CLONE_NEWPID) == 0);
  const pid_t child = fork();
  if (child == 0) {
    check(getpid() == 1);
    go_on();
    check(close_range(3, ~0u, 0) == 0);
    go_on();
    _exit(0);
  }
  check_child(child);
  use_private();
}

static void own_user(char** arguments) { unshare_and_go_on(arguments, CLONE_NEWUSER); }

// A child that is made in namespaces of its own.
static void child_in_own_user(char** arguments) {
  prepare(arguments);
  const pid_t child = (pid_t)syscall(
      SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, NULL);
  if (child == 0) {
    check(getpid() == 1);
    check(is_pattern(before, PAGES / 2 * PAGE, 0));
    use_private();
    use_file();
    _exit(0);
  }
  check_child(child);
  go_on();
}

// Enters the namespace of a child: 0 when that could be done.
static void enter(char** arguments, int kind, const char* name) {
  prepare(arguments);
  int ends[2];
  check(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    check(unshare(kind) == 0);
    check(write(ends[1], "x", 1) == 1);
    pause();
  }
  char ready = 0;
  check(close(ends[1]) == 0 && read(ends[0], &ready, 1) == 1);
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/ns/%s", child, name);
  const int space = open(path, O_RDONLY);
  check(space >= 0);
  check(setns(space, kind) == 0);
  go_on();
  check(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

static void enter_network(char** arguments) { enter(arguments, CLONE_NEWNET, "net"); }
static void enter_mounts(char** arguments) { enter(arguments, CLONE_NEWNS, "mnt"); }

CASES(CASE(nobody), CASE(nobody_closing_all), CASE(nobody_in_child_closing_all),
      CASE(no_capabilities), CASE(no_new_privileges), CASE(not_dumpable), CASE(in_another_root),
      CASE(in_another_root_closing_all), CASE(own_mounts), CASE(own_network), CASE(own_processes),
      CASE(own_user), CASE(child_in_own_user), CASE(enter_network), CASE(enter_mounts))
