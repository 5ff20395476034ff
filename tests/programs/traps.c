// What a program is told when it touches what it must not: prints the signal, its code and its
// address for each case, for a comparison of a served run with a native one. arguments[0]: a file
// of 64 pages and 100 bytes.
#include "check.h"

#include <fcntl.h>
#include <pthread.h>

static _Thread_local siginfo_t told;
static _Thread_local sigjmp_buf back;

static void on_signal(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  told = *info;
  siglongjmp(back, 1);
}

static const char* code_name(int signal, int code) {
  if (signal == SIGSEGV && code == SEGV_MAPERR) return "SEGV_MAPERR";
  if (signal == SIGSEGV && code == SEGV_ACCERR) return "SEGV_ACCERR";
  if (signal == SIGBUS && code == BUS_ADRERR) return "BUS_ADRERR";
  if (signal == SIGBUS && code == BUS_ADRALN) return "BUS_ADRALN";
  if (signal == SIGBUS && code == BUS_OBJERR) return "BUS_OBJERR";
  return "another code";
}

enum access { LOAD, STORE };

static void touch(const char* what, byte* base, size_t offset, enum access access) {
  byte* volatile at = base + offset;
  if (sigsetjmp(back, 1) != 0) {
    const char* signal = told.si_signo == SIGSEGV ? "SIGSEGV" : "SIGBUS";
    printf("%s: %s %s at ", what, signal, code_name(told.si_signo, told.si_code));
    if (told.si_addr == at) {
      puts("the address");
    } else {
      printf("the address%+td\n", (byte*)told.si_addr - at);
    }
    return;
  }
  if (access == LOAD) (void)*(volatile byte*)at;
  if (access == STORE) *(volatile byte*)at = 1;
  printf("%s: nothing\n", what);
}

static void call_into(const char* what, byte* at) {
  if (sigsetjmp(back, 1) != 0) {
    printf("%s: %s %s at %s\n", what, told.si_signo == SIGSEGV ? "SIGSEGV" : "SIGBUS",
           code_name(told.si_signo, told.si_code), told.si_addr == at ? "the address" : "another");
    return;
  }
  void (*function)(void) = NULL;
  *(void**)&function = at;
  function();
  printf("%s: nothing\n", what);
}

static void catch_all(void) {
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  check(sigaction(SIGSEGV, &action, NULL) == 0);
  check(sigaction(SIGBUS, &action, NULL) == 0);
}

static byte* map_file(const char* path, int protection, int flags, size_t pages) {
  const int file = open(path, O_RDWR);
  check(file >= 0);
  byte* at = mmap(NULL, pages * PAGE, protection, flags, file, 0);
  check(at != MAP_FAILED);
  check(close(file) == 0);
  return at;
}

static void protections(void) {
  byte* at = map_private(16 * PAGE);
  memset(at, 1, 8 * PAGE);
  check(mprotect(at + 4 * PAGE, PAGE, PROT_NONE) == 0);
  check(mprotect(at + 12 * PAGE, PAGE, PROT_NONE) == 0);
  touch("guard that was there, loaded", at, 4 * PAGE + 5, LOAD);
  touch("guard that was there, stored to", at, 4 * PAGE + 6, STORE);
  touch("guard never there, loaded", at, 12 * PAGE + 7, LOAD);
  touch("guard never there, stored to", at, 12 * PAGE + 8, STORE);
  touch("beside a guard", at, 5 * PAGE, STORE);
  check(mprotect(at, 2 * PAGE, PROT_READ) == 0);
  check(mprotect(at + 10 * PAGE, PAGE, PROT_READ) == 0);
  touch("read-only, stored to", at, PAGE + 9, STORE);
  touch("read-only never there, stored to", at, 10 * PAGE + 1, STORE);
  touch("read-only never there, loaded", at, 10 * PAGE + 1, LOAD);
  call_into("not executable, there", at + 5 * PAGE);
  call_into("not executable, never there", at + 14 * PAGE);
  byte* shared = map_shared(4 * PAGE);
  check(mprotect(shared, PAGE, PROT_READ) == 0);
  touch("read-only shared, stored to", shared, 3, STORE);
  check(mprotect(shared, PAGE, PROT_NONE) == 0);
  touch("inaccessible shared, loaded", shared, 3, LOAD);
}

static void unmapped(void) {
  byte* at = map_private(16 * PAGE);
  memset(at, 1, 8 * PAGE);
  check(munmap(at + 2 * PAGE, PAGE) == 0);
  touch("hole that was there, loaded", at, 2 * PAGE + 3, LOAD);
  touch("hole that was there, stored to", at, 2 * PAGE + 3, STORE);
  check(munmap(at + 12 * PAGE, PAGE) == 0);
  touch("hole never there, loaded", at, 12 * PAGE + 3, LOAD);
  check(munmap(at, 16 * PAGE) == 0);
  touch("unmapped, loaded", at, 5, LOAD);
  touch("unmapped, stored to", at, 9 * PAGE + 5, STORE);
  call_into("unmapped, called", at);
  byte* shared = map_shared(4 * PAGE);
  shared[0] = 1;
  check(munmap(shared, 4 * PAGE) == 0);
  touch("unmapped shared, loaded", shared, 1, LOAD);
  byte* inaccessible = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(inaccessible != MAP_FAILED);
  touch("inaccessible, loaded", inaccessible, 1, LOAD);
  check(munmap(inaccessible, PAGE) == 0);
  touch("inaccessible and unmapped, loaded", inaccessible, 1, LOAD);
}

static void moved(void) {
  byte* at = map_private(4 * PAGE);
  byte* target = map_private(4 * PAGE);
  at[0] = 1;
  check(mremap(at, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
  touch("moved away, loaded", at, 0, LOAD);
  touch("moved to, stored to", target, 1, STORE);
  check(mremap(target, 4 * PAGE, 2 * PAGE, 0) == target);
  touch("cut off, loaded", target, 3 * PAGE, LOAD);
}

static void files(const char* path) {
  byte* shared = map_file(path, PROT_READ | PROT_WRITE, MAP_SHARED, 80);
  byte* private = map_file(path, PROT_READ | PROT_WRITE, MAP_PRIVATE, 80);
  byte* read_only = map_file(path, PROT_READ, MAP_SHARED, 80);
  touch("shared file, last page behind the end", shared, 64 * PAGE + 200, LOAD);
  touch("shared file past the end, loaded", shared, 65 * PAGE + 1, LOAD);
  touch("shared file past the end, stored to", shared, 66 * PAGE + 2, STORE);
  touch("private file past the end, loaded", private, 65 * PAGE + 3, LOAD);
  touch("private file past the end, stored to", private, 79 * PAGE + 4, STORE);
  touch("private file, last page behind the end, stored to", private, 64 * PAGE + 200, STORE);
  touch("read-only file past the end, loaded", read_only, 70 * PAGE, LOAD);
  touch("read-only file, stored to", read_only, 3 * PAGE + 1, STORE);
  check(munmap(shared, 80 * PAGE) == 0);
  check(munmap(private, 80 * PAGE) == 0);
  touch("unmapped shared file, loaded", shared, 5, LOAD);
  touch("unmapped private file, loaded", private, 5, LOAD);
  check(munmap(read_only, 80 * PAGE) == 0);
}

static void* in_thread(void* argument) {
  (void)argument;
  byte* at = map_private(2 * PAGE);
  check(mprotect(at, PAGE, PROT_NONE) == 0);
  touch("in a thread: guard", at, 17, STORE);
  check(munmap(at, 2 * PAGE) == 0);
  touch("in a thread: unmapped", at, PAGE + 1, STORE);
  return NULL;
}

static void in_child(void) {
  byte* none = map_private(2 * PAGE);
  none[0] = 1;
  check(madvise(none, 2 * PAGE, MADV_DONTFORK) == 0);
  byte* guard = map_private(2 * PAGE);
  guard[0] = 1;
  check(mprotect(guard, PAGE, PROT_NONE) == 0);
  byte* gone = map_private(2 * PAGE);
  gone[0] = 1;
  check(munmap(gone, 2 * PAGE) == 0);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    touch("child: not inherited, loaded", none, 3, LOAD);
    touch("child: guard", guard, 3, LOAD);
    touch("child: unmapped before", gone, 3, LOAD);
    check(munmap(guard, 2 * PAGE) == 0);
    touch("child: unmapped", guard, PAGE, LOAD);
    fflush(stdout);
    _exit(0);
  }
  check_child(child);
}

static void all(char** arguments) {
  catch_all();
  protections();
  unmapped();
  moved();
  files(arguments[0]);
  in_child();
  pthread_t thread;
  check(pthread_create(&thread, NULL, in_thread, NULL) == 0);
  check(pthread_join(thread, NULL) == 0);
}

CASES(CASE(all))
