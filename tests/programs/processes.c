// Processes made in every way: from any thread, one in another, without libc, sharing memory, and
// by exec with and without the library.
#include "check.h"
#include "minherit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char** environ;

#define PAGES ((size_t)64)

static void use_memory(void) {
  byte* own = map_private(PAGES * PAGE);
  check(is_filled(own, PAGES * PAGE, 0));
  fill_pattern(own, PAGES * PAGE, 7);
  check(mprotect(own, PAGE, PROT_READ) == 0);
  check(is_pattern(own, PAGES * PAGE, 7));
  check(munmap(own, PAGES * PAGE) == 0);
}

// Forks of eight threads among four that change the map.

static atomic_bool stop;
static unsigned long rounds;
static byte* inherited;
static byte* counters;

static void* churn(void* argument) {
  const size_t pages = 1 + (size_t)(uintptr_t)argument * 7;
  while (!stop) {
    byte* at = pages % 2 == 0 ? map_private(pages * PAGE) : map_shared(pages * PAGE);
    fill_pattern(at, pages * PAGE, pages);
    check(mprotect(at, PAGE, PROT_READ) == 0);
    check(is_pattern(at, pages * PAGE, pages));
    check(munmap(at, pages * PAGE) == 0);
  }
  return NULL;
}

static void* fork_in_a_loop(void* argument) {
  const size_t self = (size_t)(uintptr_t)argument;
  byte* own = map_private(PAGE);
  for (unsigned long round = 0; round < rounds; ++round) {
    own[0] = (byte)round;
    const pid_t child = fork();
    if (child == 0) {
      check(is_pattern(inherited, PAGES * PAGE, 0));
      check(own[0] == (byte)round);
      own[0] = (byte)(round + 1);
      use_memory();
      ++counters[self * PAGE];
      _exit(0);
    }
    check_child(child);
    check(own[0] == (byte)round);
  }
  return NULL;
}

// arguments[0]: forks of each thread, at most 255
static void fork_from_threads(char** arguments) {
  enum { FORKING = 8, CHURNING = 4 };
  rounds = strtoul(arguments[0], NULL, 10);
  inherited = map_private(PAGES * PAGE);
  counters = map_shared(FORKING * PAGE);
  fill_pattern(inherited, PAGES * PAGE, 0);
  pthread_t churning[CHURNING], forking[FORKING];
  for (uintptr_t i = 0; i < CHURNING; ++i) {
    check(pthread_create(&churning[i], NULL, churn, (void*)i) == 0);
  }
  for (uintptr_t i = 0; i < FORKING; ++i) {
    check(pthread_create(&forking[i], NULL, fork_in_a_loop, (void*)i) == 0);
  }
  for (size_t i = 0; i < FORKING; ++i) check(pthread_join(forking[i], NULL) == 0);
  stop = true;
  for (size_t i = 0; i < CHURNING; ++i) check(pthread_join(churning[i], NULL) == 0);
  check(is_pattern(inherited, PAGES * PAGE, 0));
  for (size_t i = 0; i < FORKING; ++i) check(counters[i * PAGE] == rounds);
}

// Forks in forks.

// Each generation writes to everything, is forked, and looks at what the next one left. Level 0 is
// the program itself.
static void generation(int level, int depth, byte* copied, byte* shared, byte* zeroed, byte* none) {
  check(is_filled(copied, PAGE, (byte)level));
  check(shared[0] == level);
  check(is_filled(zeroed, PAGE, 0));
  if (level > 0) check(signal_of_load(none) == SIGSEGV);
  memset(copied, level + 1, 2 * PAGE);
  memset(zeroed, level + 1, 2 * PAGE);
  ++shared[0];
  if (level == depth) return;
  int ends[2];
  check(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char go = 0;
    check(read(ends[0], &go, 1) == 1);
    generation(level + 1, depth, copied, shared, zeroed, none);
    _exit(0);
  }
  memset(copied + PAGE, 0xdd, PAGE);  // no child sees that
  check(write(ends[1], "x", 1) == 1);
  check_child(child);
  check(is_filled(copied, PAGE, (byte)(level + 1)));
  check(is_filled(copied + PAGE, PAGE, 0xdd));
  check(is_filled(zeroed, 2 * PAGE, (byte)(level + 1)));
  check(shared[0] == depth + 1);
  use_memory();
}

// arguments[0]: how deep. With the host's own ways of asking for it.
static void nested(char** arguments) {
  byte* copied = map_private(4 * PAGE);
  byte* shared = map_shared(4 * PAGE);
  byte* zeroed = map_private(4 * PAGE);
  byte* none = map_private(4 * PAGE);
  none[0] = 1;
  check(madvise(none, 4 * PAGE, MADV_DONTFORK) == 0);
  check(madvise(zeroed, 4 * PAGE, MADV_WIPEONFORK) == 0);
  generation(0, atoi(arguments[0]), copied, shared, zeroed, none);
}

// The same by minherit, of memory that is otherwise of the other kind.
static void nested_minherit(char** arguments) {
  byte* copied = map_shared(4 * PAGE);
  byte* shared = map_private(4 * PAGE);
  byte* zeroed = map_private(4 * PAGE);
  byte* none = map_shared(4 * PAGE);
  check(minherit(copied, 4 * PAGE, INHERIT_COPY) == 0);
  check(minherit(shared, 4 * PAGE, INHERIT_SHARE) == 0);
  check(minherit(zeroed, 4 * PAGE, INHERIT_ZERO) == 0);
  check(minherit(none, 4 * PAGE, INHERIT_NONE) == 0);
  generation(0, atoi(arguments[0]), copied, shared, zeroed, none);
}

// Shared memory that children find zeroed is so for theirs, too.
static void nested_zero_of_shared(char** arguments) {
  byte* copied = map_private(4 * PAGE);
  byte* shared = map_shared(4 * PAGE);
  byte* zeroed = map_shared(4 * PAGE);
  byte* none = map_private(4 * PAGE);
  check(minherit(zeroed, 4 * PAGE, INHERIT_ZERO) == 0);
  check(minherit(none, 4 * PAGE, INHERIT_NONE) == 0);
  generation(0, atoi(arguments[0]), copied, shared, zeroed, none);
}

// Children that libc knows nothing of.

static pid_t raw_fork(unsigned long flags) {
  return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

// The child makes no call of its own: it only waits to be killed, after a word.
static void silent_child(char** arguments) {
  (void)arguments;
  byte* at = map_private(PAGES * PAGE);
  fill_pattern(at, PAGES / 2 * PAGE, 0);
  await_word();
  const pid_t child = raw_fork(0);
  if (child == 0) {
    for (;;) syscall(SYS_pause);
  }
  check(child > 0);
  say("cloned\n");
  await_word();
  check(kill(child, SIGKILL) == 0);
  check(waitpid(child, NULL, 0) == child);
  say("killed\n");
  await_word();
}

// It only touches memory.
static void touching_child(char** arguments) {
  (void)arguments;
  byte* at = map_private(1024 * PAGE);
  fill_pattern(at, PAGES * PAGE, 0);
  const pid_t child = raw_fork(0);
  if (child == 0) {
    if (!is_pattern(at, PAGES * PAGE, 0)) syscall(SYS_exit, 1);
    for (size_t page = PAGES; page < 1024; ++page) {
      if (at[page * PAGE] != 0) syscall(SYS_exit, 2);
      at[page * PAGE] = 1;
    }
    memset(at, 0xee, PAGES * PAGE);
    syscall(SYS_exit, 0);
  }
  check_child(child);
  check(is_pattern(at, PAGES * PAGE, 0));
  check(at[1000 * PAGE] == 0);
}

static byte* volatile left_by_child;
static volatile pid_t first_process;

static int run_in_shared_memory(void* argument) {
  byte* const at = argument;
  use_memory();
  if (!is_pattern(at, PAGES * PAGE, 0)) return 1;
  byte* own = map_private(PAGES * PAGE);
  fill_pattern(own, PAGES * PAGE, 3);
  at[0] = 0xee;
  left_by_child = own;
  return 0;
}

// Another process in the same address space, with descriptors of its own or not.
static void sharing_memory_with(int flags) {
  byte* at = map_private(PAGES * PAGE);
  byte* stack = map_private(PAGES * PAGE);
  fill_pattern(at, PAGES * PAGE, 0);
  left_by_child = NULL;
  const pid_t child =
      clone(run_in_shared_memory, stack + PAGES * PAGE, CLONE_VM | SIGCHLD | flags, at);
  use_memory();  // both at once
  check_child(child);
  check(at[0] == 0xee);
  check(left_by_child != NULL && is_pattern(left_by_child, PAGES * PAGE, 3));
  check(munmap(left_by_child, PAGES * PAGE) == 0);
  use_memory();
}

static void sharing_memory(char** arguments) {
  (void)arguments;
  for (int round = 0; round < 20; ++round) {
    sharing_memory_with(0);
    sharing_memory_with(CLONE_FILES);
  }
}

static int close_all_and_map(void* argument) {
  (void)argument;
  close_range(3, ~0u, 0);
  use_memory();
  return 0;
}

// Its descriptors are its own; the memory is not.
static void sharing_memory_closing_all(char** arguments) {
  (void)arguments;
  byte* stack = map_private(PAGES * PAGE);
  for (int round = 0; round < 3; ++round) {
    check_child(clone(close_all_and_map, stack + PAGES * PAGE, CLONE_VM | SIGCHLD, NULL));
    use_memory();
  }
}

static int go_on_alone(void* argument) {
  byte* const at = argument;
  while (getppid() == first_process) sched_yield();
  // The first process of this address space is gone, the address space is not.
  for (size_t page = 0; page < 1024; ++page) {
    if (at[page * PAGE] != (page < PAGES ? pattern_byte(page * PAGE) : 0)) _exit(1);
    at[page * PAGE] = 1;
  }
  use_memory();
  dprintf(1, "went on\n");
  _exit(0);
}

static void sharing_memory_orphan(char** arguments) {
  (void)arguments;
  byte* at = map_private(1024 * PAGE);
  byte* stack = map_private(PAGES * PAGE);
  fill_pattern(at, PAGES * PAGE, 0);
  first_process = getpid();
  check(clone(go_on_alone, stack + PAGES * PAGE, CLONE_VM | SIGCHLD, at) > 0);
  _exit(0);
}

static void vfork_closing_all(char** arguments) {
  (void)arguments;
  byte* at = map_private(PAGES * PAGE);
  fill_pattern(at, PAGES * PAGE, 0);
  const pid_t child = vfork();
  if (child == 0) {
    close_range(3, ~0u, 0);
    byte* own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (own == MAP_FAILED) _exit(1);
    own[0] = 1;
    _exit(0);
  }
  check_child(child);
  check(is_pattern(at, PAGES * PAGE, 0));
  use_memory();
}

// In turn, in threads at once. arguments: rounds, then a command that exits with 0
static char** command;

static pid_t vfork_and_exec(void) {
  const pid_t child = vfork();
  if (child != 0) return child;
  execv(command[0], command);
  _exit(120);
}

static void* spawn_in_a_loop(void* argument) {
  (void)argument;
  for (unsigned long round = 0; round < rounds; ++round) {
    pid_t child = -1;
    check(posix_spawn(&child, command[0], NULL, NULL, command, environ) == 0);
    use_memory();
    check_child(child);
    check_child(vfork_and_exec());
  }
  return NULL;
}

static void spawn_from_threads(char** arguments) {
  enum { THREADS = 4 };
  rounds = strtoul(arguments[0], NULL, 10);
  command = arguments + 1;
  pthread_t threads[THREADS];
  for (size_t i = 0; i < THREADS; ++i) {
    check(pthread_create(&threads[i], NULL, spawn_in_a_loop, NULL) == 0);
  }
  for (size_t i = 0; i < THREADS; ++i) check(pthread_join(threads[i], NULL) == 0);
}

// daemon(3). arguments[0]: where it says that it is done
static void becomes_daemon(char** arguments) {
  byte* at = map_private(PAGES * PAGE);
  fill_pattern(at, PAGES * PAGE, 0);
  check(daemon(0, 0) == 0);
  check(is_pattern(at, PAGES * PAGE, 0));
  use_memory();
  const int done = open(arguments[0], O_WRONLY | O_CREAT, 0600);
  check(done >= 0 && write(done, "done", 4) == 4);
}

static void* fault_for_ever(void* argument) {
  (void)argument;
  for (;;) {
    byte* at = map_private(512 * PAGE);
    for (size_t page = 0; page < 512; ++page) at[page * PAGE] = 1;
    check(munmap(at, 512 * PAGE) == 0);
  }
  return NULL;
}

static void start_faulting(void) {
  pthread_t thread;
  for (size_t i = 0; i < 4; ++i) check(pthread_create(&thread, NULL, fault_for_ever, NULL) == 0);
  use_memory();
}

// arguments: the program to become
static void exec_while_faulting(char** arguments) {
  start_faulting();
  execv(arguments[0], arguments);
  check(false);
}

// The program is then one that nobody serves.
static void exec_unserved_while_faulting(char** arguments) {
  start_faulting();
  char* const empty[] = {NULL};
  execve(arguments[0], arguments, empty);
  check(false);
}

// A child of a forking thread executes, unserved, while the others go on.
static void fork_and_exec_while_faulting(char** arguments) {
  start_faulting();
  char* const empty[] = {NULL};
  for (int round = 0; round < 10; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      if (round % 2 == 0) execve(arguments[0], arguments, empty);
      execv(arguments[0], arguments);
      _exit(120);
    }
    check_child(child);
  }
  _exit(0);
}

// Children that share the table of descriptors but not the memory, as libc's clone makes them: they
// return from their function, which ends the thread alone.
static int use_and_return(void* argument) {
  (void)argument;
  use_memory();
  return 3;
}

static void sharing_descriptors(char** arguments) {
  (void)arguments;
  static byte stack[65536] __attribute__((aligned(16)));
  for (int i = 0; i < 20; ++i) {
    const pid_t child =
        clone(use_and_return, stack + sizeof(stack), CLONE_FILES | SIGCHLD, NULL);
    check(child > 0);
    use_memory();
    int status = 0;
    check(waitpid(child, &status, 0) == child);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 3);
  }
  use_memory();
}

CASES(CASE(fork_from_threads), CASE(nested), CASE(nested_minherit), CASE(nested_zero_of_shared),
      CASE(silent_child), CASE(touching_child), CASE(sharing_memory),
      CASE(sharing_memory_closing_all), CASE(sharing_memory_orphan), CASE(sharing_descriptors), CASE(vfork_closing_all),
      CASE(spawn_from_threads), CASE(becomes_daemon), CASE(exec_while_faulting),
      CASE(exec_unserved_while_faulting), CASE(fork_and_exec_while_faulting))
