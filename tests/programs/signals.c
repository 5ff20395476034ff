// Calls from signal handlers, and signals in the middle of calls.
#include "check.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/time.h>

static atomic_ulong handled;

static void check_own_mapping(size_t pages, size_t mark) {
  byte* at = map_private(pages * PAGE);
  check(is_filled(at, pages * PAGE, 0));
  fill_pattern(at, pages * PAGE, mark);
  check(is_pattern(at, pages * PAGE, mark));
  check(mprotect(at, PAGE, PROT_READ) == 0);
  check(munmap(at, pages * PAGE) == 0);
}

static void on_timer(int number) {
  (void)number;
  const int saved = errno;
  check_own_mapping(2, 77);
  ++handled;
  errno = saved;
}

static void count(int number) {
  (void)number;
  ++handled;
}

static void every_200_us(void (*handler)(int)) {
  struct sigaction action = {.sa_handler = handler};  // without SA_RESTART
  check(sigaction(SIGALRM, &action, NULL) == 0);
  const struct itimerval period = {{0, 200}, {0, 200}};
  check(setitimer(ITIMER_REAL, &period, NULL) == 0);
}

// arguments[0]: how often the handler has to have run
static void map_in_handler(char** arguments) {
  const unsigned long times = strtoul(arguments[0], NULL, 10);
  every_200_us(on_timer);
  size_t mark = 0;
  while (handled < times) {
    check_own_mapping(1 + mark % 20, mark);
    ++mark;
  }
}

// arguments[0]: how often. Whatever comes in between, no call fails.
static void interrupted(char** arguments) {
  const unsigned long times = strtoul(arguments[0], NULL, 10);
  every_200_us(count);
  byte* shared = map_shared(64 * PAGE);
  while (handled < times) {
    byte* at = map_private(64 * PAGE);
    errno = 0;
    at[0] = 1;
    shared[0] = 1;
    check(msync(shared, 64 * PAGE, MS_SYNC) == 0);
    check(madvise(at, 64 * PAGE, MADV_DONTNEED) == 0);
    byte core[64];
    check(mincore(at, 64 * PAGE, core) == 0);
    at = mremap(at, 64 * PAGE, 128 * PAGE, MREMAP_MAYMOVE);
    check(at != MAP_FAILED);
    check(munmap(at, 128 * PAGE) == 0);
    check(errno == 0);
  }
}

static void every_ms(void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  check(sigaction(SIGALRM, &action, NULL) == 0);
  const struct itimerval period = {{0, 1000}, {0, 1000}};
  check(setitimer(ITIMER_REAL, &period, NULL) == 0);
}

// The main program does not use malloc meanwhile.
static void allocate(int number) {
  (void)number;
  const int saved = errno;
  static byte* kept[16];
  static size_t next = 0;
  const size_t bytes = next % 3 == 0 ? 300 * PAGE : 100 + next * 37 % 5000;
  byte* at = malloc(bytes);
  check(at != NULL);
  memset(at, (int)next, bytes);
  byte** slot = &kept[next++ % 16];
  free(*slot);
  *slot = at;
  check_own_mapping(3, next);
  ++handled;
  errno = saved;
}

// arguments[0]: how often the handler has to have run
static void malloc_in_handler(char** arguments) {
  const unsigned long times = strtoul(arguments[0], NULL, 10);
  every_ms(allocate, 0);
  for (size_t mark = 0; handled < times; ++mark) check_own_mapping(1 + mark % 20, mark);
}

// Every call there is, each with errno as it was. arguments[0]: how often; [1]: a file of 64 pages
static void no_call_is_interrupted(char** arguments) {
  const unsigned long times = strtoul(arguments[0], NULL, 10);
  const int file = open(arguments[1], O_RDWR);
  check(file >= 0);
  every_ms(count, 0);
  enum { UNTOUCHED = 1234 };
  while (handled < times) {
    errno = UNTOUCHED;
    byte* at = map_private(64 * PAGE);
    byte* of_file = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    check(of_file != MAP_FAILED);
    check(is_pattern(of_file, 64 * PAGE, 0));
    of_file[5 * PAGE] = pattern_byte(5 * PAGE);
    check(msync(of_file, 64 * PAGE, MS_SYNC) == 0);
    check(msync(of_file, 64 * PAGE, MS_ASYNC) == 0);
    check(munmap(of_file, 64 * PAGE) == 0);
    check(mprotect(at, 8 * PAGE, PROT_READ) == 0);
    check(mprotect(at, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
    check(mlock(at, 4 * PAGE) == 0);
    check(munlock(at, 4 * PAGE) == 0);
    check(madvise(at, 64 * PAGE, MADV_WILLNEED) == 0);
    check(posix_madvise(at, 64 * PAGE, POSIX_MADV_SEQUENTIAL) == 0);
    check(madvise(at, 64 * PAGE, MADV_DONTFORK) == 0);
    check(madvise(at, 64 * PAGE, MADV_DOFORK) == 0);
    check(madvise(at, 64 * PAGE, MADV_DONTNEED) == 0);
    byte core[64];
    check(mincore(at, 64 * PAGE, core) == 0);
    at = mremap(at, 64 * PAGE, 128 * PAGE, MREMAP_MAYMOVE);
    check(at != MAP_FAILED);
    check(munmap(at, 128 * PAGE) == 0);
    check(errno == UNTOUCHED);
  }
}

static void put(const char* text) { check(write(1, text, strlen(text)) > 0); }

static byte* volatile awaited;

static void* volatile seen_stack;

static void on_user_signal(int number) {
  (void)number;
  byte used[3 * PAGE];
  memset(used, 7, sizeof(used));
  seen_stack = used;
  check(is_filled(used, sizeof(used), 7));
  check_own_mapping(4, 5);
  put("handled\n");
}

// A fault waits for the pager while a signal comes; its handler runs on a stack in managed memory
// that nobody has touched yet. arguments[0]: a file of 64 pages; [1]: fault in "user" or "kernel"
// mode
static void while_a_fault_waits(char** arguments) {
  const int file = open(arguments[0], O_RDONLY);
  check(file >= 0);
  awaited = mmap(NULL, 64 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
  check(awaited != MAP_FAILED);
  byte* stack = map_private(64 * PAGE);
  const stack_t alternate = {.ss_sp = stack, .ss_size = 64 * PAGE};
  check(sigaltstack(&alternate, NULL) == 0);
  struct sigaction action = {.sa_handler = on_user_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
  check(sigaction(SIGUSR1, &action, NULL) == 0);
  put("ready\n");
  char word = 0;
  check(read(0, &word, 1) == 1);
  if (strcmp(arguments[1], "user") == 0) {
    check(is_pattern(awaited, 64 * PAGE, 0));
  } else {
    static byte copy[64 * PAGE];
    int ends[2];
    check(pipe(ends) == 0);
    check(fcntl(ends[1], F_SETPIPE_SZ, 64 * PAGE) >= (int)(64 * PAGE));
    size_t done = 0;
    while (done < 64 * PAGE) {
      const ssize_t wrote = write(ends[1], awaited + done, 64 * PAGE - done);
      check(wrote > 0);
      done += (size_t)wrote;
    }
    for (done = 0; done < 64 * PAGE;) {
      const ssize_t got = read(ends[0], copy + done, 64 * PAGE - done);
      check(got > 0);
      done += (size_t)got;
    }
    check(is_pattern(copy, 64 * PAGE, 0));
  }
  put("touched\n");
  // A signal that the fault kept back comes now at the latest.
  while (seen_stack == NULL) usleep(1000);
  check((byte*)seen_stack > stack && (byte*)seen_stack < stack + 64 * PAGE);
}

CASES(CASE(map_in_handler), CASE(interrupted), CASE(malloc_in_handler),
      CASE(no_call_is_interrupted), CASE(while_a_fault_waits))
