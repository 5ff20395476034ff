// What forked children see of their parent's memory, and it of theirs.
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/syscall.h>

extern char** environ;

static pid_t child_that(void (*function)(byte*), byte* at) {
  const pid_t child = fork();
  if (child != 0) return child;
  function(at);
  _exit(0);
}

static void change_all(byte* at) {
  check(is_pattern(at, 64 * PAGE, 0));
  memset(at, 0xee, 64 * PAGE);
  check(is_filled(at, 64 * PAGE, 0xee));
}

static void private_memory(char** arguments) {
  (void)arguments;
  byte* at = map_private(128 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  check_child(child_that(change_all, at));
  check(is_pattern(at, 64 * PAGE, 0));
  check(is_filled(at + 64 * PAGE, 64 * PAGE, 0));
  // The other way round: the child does not see what its parent stores after the fork.
  int ends[2];
  check(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char go = 0;
    check(read(ends[0], &go, 1) == 1);
    check(is_pattern(at, 64 * PAGE, 0));
    check(is_filled(at + 64 * PAGE, 64 * PAGE, 0));
    _exit(0);
  }
  memset(at, 0xdd, 128 * PAGE);
  check(write(ends[1], "x", 1) == 1);
  check_child(child);
  check(is_filled(at, 128 * PAGE, 0xdd));
}

static void shared_memory(char** arguments) {
  (void)arguments;
  byte* at = map_shared(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  check_child(child_that(change_all, at));
  check(is_filled(at, 64 * PAGE, 0xee));
}

// Pages that nobody had touched before the fork are the same pages after it.
static void store_untouched(byte* at) { memset(at, 0xee, 64 * PAGE); }

static void shared_untouched(char** arguments) {
  (void)arguments;
  byte* at = map_shared(64 * PAGE);
  check_child(child_that(store_untouched, at));
  check(is_filled(at, 64 * PAGE, 0xee));
}

// arguments[0]: a file of 64 pages
static void files(char** arguments) {
  const int file = open(arguments[0], O_RDWR);
  check(file >= 0);
  byte* shared = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  byte* private = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  check(shared != MAP_FAILED && private != MAP_FAILED);
  private[0] = 0x11;
  const pid_t child = fork();
  if (child == 0) {
    check(private[0] == 0x11 && is_pattern(private + 1, 32 * PAGE - 1, 1));
    private[1] = 0x22;
    check(is_pattern(shared, 64 * PAGE, 0));
    shared[3 * PAGE] = 0xee;
    check(msync(shared, 64 * PAGE, MS_SYNC) == 0);
    shared[4 * PAGE] = 0xdd;
    _exit(0);
  }
  check_child(child);
  check(private[0] == 0x11 && private[1] == pattern_byte(1));
  check(shared[3 * PAGE] == 0xee && shared[4 * PAGE] == 0xdd);
  check(msync(shared, 64 * PAGE, MS_SYNC) == 0);
  byte read_back = 0;
  check(pread(file, &read_back, 1, (off_t)(3 * PAGE)) == 1 && read_back == 0xee);
  check(pread(file, &read_back, 1, (off_t)(4 * PAGE)) == 1 && read_back == 0xdd);
}

// arguments[0]: a file of 64 pages
static void child_stores_and_exits(char** arguments) {
  const int file = open(arguments[0], O_RDWR);
  check(file >= 0);
  byte* at = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  const pid_t child = fork();
  if (child == 0) {
    memset(at, 0xee, 64 * PAGE);
    exit(0);
  }
  check_child(child);
  static byte read_back[64 * PAGE];
  check(pread(file, read_back, sizeof(read_back), 0) == (ssize_t)sizeof(read_back));
  check(is_filled(read_back, sizeof(read_back), 0xee));
}

static void grandchildren(char** arguments) {
  (void)arguments;
  byte* shared = map_shared(PAGE);
  byte* private = map_private(64 * PAGE);
  fill_pattern(private, 64 * PAGE, 0);
  enum { DEPTH = 6 };
  int depth = 0;
  while (depth < DEPTH) {
    const pid_t child = fork();
    if (child != 0) {
      check_child(child);
      break;
    }
    ++depth;
    private[0] = (byte)depth;
    check(is_pattern(private + 1, 64 * PAGE - 1, 1));
    byte* own = map_private(16 * PAGE);
    memset(own, depth, 16 * PAGE);
    check(is_filled(own, 16 * PAGE, (byte)depth));
    ++shared[0];
  }
  check(private[0] == (depth == 0 ? pattern_byte(0) : (byte)depth));
  if (depth > 0) _exit(0);
  check(shared[0] == DEPTH);
}

static void maps_in_child(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  const pid_t child = fork();
  if (child == 0) {
    check(munmap(at, 32 * PAGE) == 0);
    check(mprotect(at + 32 * PAGE, PAGE, PROT_READ) == 0);
    check(signal_of_load(at) == SIGSEGV);
    check(signal_of_store(at + 32 * PAGE, 1) == SIGSEGV);
    byte* own = map_private(256 * PAGE);
    check(is_filled(own, 256 * PAGE, 0));
    _exit(0);
  }
  check_child(child);
  check(is_pattern(at, 64 * PAGE, 0));
  check(signal_of_store(at + 32 * PAGE, pattern_byte(32 * PAGE)) == 0);
}

// Without libc: no atfork handler runs in this child.
static void raw_clone(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 32 * PAGE, 0);
  const pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
  if (child == 0) {
    check(is_pattern(at, 32 * PAGE, 0));
    check(is_filled(at + 32 * PAGE, 32 * PAGE, 0));
    byte* own = map_private(64 * PAGE);
    fill_pattern(own, 64 * PAGE, 0);
    check(is_pattern(own, 64 * PAGE, 0));
    memset(at, 0xee, 64 * PAGE);
    _exit(0);
  }
  check_child(child);
  check(is_pattern(at, 32 * PAGE, 0));
}

// arguments: a command that exits with 0
static void then_exec(char** arguments) {
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  pid_t child = fork();
  if (child == 0) {
    execv(arguments[0], arguments);
    _exit(120);
  }
  check_child(child);
  child = vfork();
  if (child == 0) {
    execv(arguments[0], arguments);
    _exit(120);
  }
  check_child(child);
  check(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0);
  check_child(child);
  child = vfork();
  if (child == 0) _exit(0);
  check_child(child);
  check(is_pattern(at, 64 * PAGE, 0));
  byte* after = map_private(64 * PAGE);
  fill_pattern(after, 64 * PAGE, 0);
  check(is_pattern(after, 64 * PAGE, 0));
}

// A vfork child shares its parent's memory, and its calls are its parent's.
static void calls_in_vfork_child(char** arguments) {
  (void)arguments;
  static byte* volatile left = NULL;
  const pid_t child = vfork();
  if (child == 0) {
    byte* at = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) _exit(1);
    at[0] = 1;
    if (munmap(at + PAGE, PAGE) != 0) _exit(2);
    left = at;
    _exit(0);
  }
  check_child(child);
  check(left != NULL && left[0] == 1 && left[2 * PAGE] == 0);
  check(signal_of_load(left + PAGE) == SIGSEGV);
  byte* after = map_private(64 * PAGE);
  fill_pattern(after, 64 * PAGE, 0);
  check(is_pattern(after, 64 * PAGE, 0));
}

// arguments[0]: how many children at once
static void many_children(char** arguments) {
  const size_t count = strtoul(arguments[0], NULL, 10);
  byte* at = map_private(64 * PAGE);
  byte* shared = map_shared(PAGE * count);
  fill_pattern(at, 64 * PAGE, 0);
  for (size_t i = 0; i < count; ++i) {
    const pid_t child = fork();
    check(child >= 0);
    if (child != 0) continue;
    check(is_pattern(at, 64 * PAGE, 0));
    byte* own = map_private(64 * PAGE);
    memset(own, (int)i, 64 * PAGE);
    check(is_filled(own, 64 * PAGE, (byte)i));
    shared[i * PAGE] = 1;
    _exit(0);
  }
  for (size_t i = 0; i < count; ++i) {
    int status = -1;
    check(wait(&status) > 0 && status == 0);
  }
  for (size_t i = 0; i < count; ++i) check(shared[i * PAGE] == 1);
}

// Twice forked, in a session of its own, with the standard descriptors closed. arguments[0]: where
// it says that it is done
static void daemon_like(char** arguments) {
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  if (fork() != 0) _exit(0);
  check(setsid() > 0);
  if (fork() != 0) _exit(0);
  check(chdir("/") == 0);
  check(close_range(0, ~0u, 0) == 0);
  check(is_pattern(at, 64 * PAGE, 0));
  byte* own = map_private(64 * PAGE);
  fill_pattern(own, 64 * PAGE, 0);
  check(is_pattern(own, 64 * PAGE, 0));
  const int done = open(arguments[0], O_WRONLY | O_CREAT, 0600);
  check(done == 0 && write(done, "done", 4) == 4);
}

static void exec_in_place(char** arguments) {
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  execv(arguments[0], arguments);
  check(false);
}

// The child goes on when its parent has ended; arguments[0] is where it says that it is done.
static void orphan(char** arguments) {
  byte* at = map_private(64 * PAGE);
  byte* shared = map_shared(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  fill_pattern(shared, 64 * PAGE, 0);
  const pid_t parent = getpid();
  const pid_t child = fork();
  check(child >= 0);
  if (child != 0) _exit(0);
  while (getppid() == parent) sched_yield();
  check(is_pattern(at, 64 * PAGE, 0));
  check(is_pattern(shared, 64 * PAGE, 0));
  byte* own = map_private(64 * PAGE);
  fill_pattern(own, 64 * PAGE, 0);
  check(is_pattern(own, 64 * PAGE, 0));
  const int done = open(arguments[0], O_WRONLY | O_CREAT, 0600);
  check(done >= 0 && write(done, "done", 4) == 4);
}

static void gives_up_root(char** arguments) {
  (void)arguments;
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 32 * PAGE, 0);
  check(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
  check(is_pattern(at, 32 * PAGE, 0));
  byte core[64];
  check(mincore(at, 64 * PAGE, core) == 0 && core[0] == 1 && core[63] == 0);
  byte* elsewhere = mmap((void*)0x240000000000, PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  check(elsewhere != MAP_FAILED);
  elsewhere[0] = 1;
  const pid_t child = fork();
  if (child == 0) {
    check(is_pattern(at, 32 * PAGE, 0));
    byte* own = map_private(64 * PAGE);
    fill_pattern(own, 64 * PAGE, 0);
    check(is_pattern(own, 64 * PAGE, 0));
    check(munmap(own, 64 * PAGE) == 0);
    _exit(0);
  }
  check_child(child);
}

static atomic_bool stop;

static void* churn(void* argument) {
  const size_t pages = 1 + (size_t)(uintptr_t)argument * 7;
  while (!stop) {
    byte* at = map_private(pages * PAGE);
    fill_pattern(at, pages * PAGE, pages);
    check(is_pattern(at, pages * PAGE, pages));
    check(mprotect(at, PAGE, PROT_READ) == 0);
    check(munmap(at, pages * PAGE) == 0);
  }
  return NULL;
}

// arguments[0]: how many forks while four threads change the map
static void among_threads(char** arguments) {
  const unsigned long rounds = strtoul(arguments[0], NULL, 10);
  byte* at = map_private(64 * PAGE);
  fill_pattern(at, 64 * PAGE, 0);
  pthread_t threads[4];
  for (uintptr_t i = 0; i < 4; ++i) {
    check(pthread_create(&threads[i], NULL, churn, (void*)i) == 0);
  }
  for (unsigned long round = 0; round < rounds; ++round) {
    const pid_t child = fork();
    if (child == 0) {
      check(is_pattern(at, 64 * PAGE, 0));
      byte* own = map_private(300 * PAGE);
      check(is_filled(own, 300 * PAGE, 0));
      fill_pattern(own, 300 * PAGE, 3);
      check(is_pattern(own, 300 * PAGE, 3));
      check(munmap(own, 300 * PAGE) == 0);
      _exit(0);
    }
    check_child(child);
  }
  stop = true;
  for (size_t i = 0; i < 4; ++i) check(pthread_join(threads[i], NULL) == 0);
  check(is_pattern(at, 64 * PAGE, 0));
}

enum { TOUCHED_PAGES = 1 << 18 };

static atomic_bool forked_enough;

// One fault after the other.
static void* touch_on(void* argument) {
  for (size_t i = 0; i < TOUCHED_PAGES && !atomic_load(&forked_enough); ++i) {
    *(volatile byte*)((byte*)argument + i * PAGE) = 1;
  }
  return NULL;
}

// A parent goes on as soon as it has forked, however busy the server is: what it does to its memory
// then its child knows nothing of. arguments[0]: rounds
static void goes_on(char** arguments) {
  byte* touched = mmap(NULL, TOUCHED_PAGES * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  check(touched != MAP_FAILED);
  check(madvise(touched, TOUCHED_PAGES * PAGE, MADV_RANDOM) == 0);
  check(madvise(touched, TOUCHED_PAGES * PAGE, MADV_DONTFORK) == 0);
  pthread_t toucher;
  check(pthread_create(&toucher, NULL, touch_on, touched) == 0);
  const size_t rounds = strtoul(arguments[0], NULL, 10);
  for (size_t round = 0; round < rounds; ++round) {
    byte* at = map_private(4 * PAGE);
    fill_pattern(at, 4 * PAGE, round);
    const pid_t child = fork();
    check(child >= 0);
    if (child == 0) _exit(is_pattern(at, 4 * PAGE, round) ? 0 : 1);
    check(munmap(at, 4 * PAGE) == 0);
    check_child(child);
  }
  atomic_store(&forked_enough, true);
  check(pthread_join(toucher, NULL) == 0);
}

CASES(CASE(private_memory), CASE(shared_memory), CASE(shared_untouched), CASE(files),
      CASE(child_stores_and_exits), CASE(grandchildren), CASE(maps_in_child), CASE(raw_clone),
      CASE(then_exec), CASE(exec_in_place), CASE(calls_in_vfork_child), CASE(many_children),
      CASE(daemon_like), CASE(orphan), CASE(gives_up_root), CASE(among_threads),
      CASE(goes_on))
