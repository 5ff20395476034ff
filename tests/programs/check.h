// What the test programs share: checks that name what failed, signals as results, and a table of
// cases. A program is run as `PROGRAM CASE [ARGUMENT...]`; it exits with 0, or says in one line on
// stderr what failed and exits with 1.
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

typedef unsigned char byte;

#define check(condition)                                          \
  do {                                                            \
    if (!(condition)) fail_check(__FILE__, __LINE__, #condition); \
  } while (0)

/// The call fails with this error.
#define check_error(number, call_failed)                             \
  do {                                                               \
    errno = 0;                                                       \
    if (!(call_failed) || errno != (number))                         \
      fail_check(__FILE__, __LINE__, #call_failed " with " #number); \
  } while (0)

static inline _Noreturn void fail_check(const char* file, int line, const char* what) {
  const char* name = strrchr(file, '/');
  dprintf(STDERR_FILENO, "%s:%d: %s (errno %d)\n", name != NULL ? name + 1 : file, line, what,
          errno);
  _exit(1);
}

/// The formula is also that of tests/support/files.h. Never zero.
static inline byte pattern_byte(size_t index) {
  return (byte)(1 + (index * 31 + (index >> 12) * 17) % 255);
}

static inline void fill_pattern(byte* at, size_t bytes, size_t first) {
  for (size_t i = 0; i < bytes; ++i) at[i] = pattern_byte(first + i);
}

static inline bool is_pattern(const byte* at, size_t bytes, size_t first) {
  for (size_t i = 0; i < bytes; ++i) {
    if (at[i] != pattern_byte(first + i)) return false;
  }
  return true;
}

static inline bool is_filled(const byte* at, size_t bytes, byte value) {
  for (size_t i = 0; i < bytes; ++i) {
    if (at[i] != value) return false;
  }
  return true;
}

static inline byte* map_private(size_t bytes) {
  byte* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED);
  return at;
}

static inline byte* map_shared(size_t bytes) {
  byte* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED);
  return at;
}

static _Thread_local sigjmp_buf fault_return;

static _Thread_local volatile sig_atomic_t fault_is_expected;
static _Thread_local volatile sig_atomic_t fault_code;  // si_code of the last one

/// Called for a signal that nobody expects; a program may know more to say, and ends then.
static void (*tell_more_of_fault)(void* address);

static inline void on_fault(int number, siginfo_t* info, void* context) {
  (void)context;
  if (!fault_is_expected) {
    dprintf(STDERR_FILENO, "process %d: signal %d (code %d) at %p that nobody expected\n", getpid(),
            number, info->si_code, info->si_addr);
    if (tell_more_of_fault != NULL) tell_more_of_fault(info->si_addr);
    _exit(1);
  }
  fault_code = info->si_code;
  siglongjmp(fault_return, number);
}

static inline void catch_faults(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  check(sigaction(SIGSEGV, &action, NULL) == 0);
  check(sigaction(SIGBUS, &action, NULL) == 0);
}

/// The signal that loading from there brings, or 0.
static inline int signal_of_load(const volatile byte* at) {
  catch_faults();
  fault_is_expected = 1;
  const int number = sigsetjmp(fault_return, 1);
  if (number == 0) (void)*at;
  fault_is_expected = 0;
  return number;
}

/// The signal that storing there brings, or 0.
static inline int signal_of_store(volatile byte* at, byte value) {
  catch_faults();
  fault_is_expected = 1;
  const int number = sigsetjmp(fault_return, 1);
  if (number == 0) *at = value;
  fault_is_expected = 0;
  return number;
}

/// To the test, and from it: a word on descriptor 0.
static inline void say(const char* text) { check(write(1, text, strlen(text)) > 0); }

static inline char await_word(void) {
  char word = 0;
  check(read(0, &word, 1) == 1);
  return word;
}

/// Waits for a child that must exit with 0.
static inline void check_child(pid_t child) {
  int status = -1;
  check(child > 0);
  check(waitpid(child, &status, 0) == child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    dprintf(STDERR_FILENO, "child ended with wait status %#x\n", (unsigned)status);
    _exit(1);
  }
}

struct test_case {
  const char* name;
  void (*run)(char** arguments);
};

static inline int run_case(const struct test_case* cases, size_t count, char** argv) {
  for (size_t i = 0; argv[1] != NULL && i < count; ++i) {
    if (strcmp(cases[i].name, argv[1]) == 0) {
      cases[i].run(argv + 2);
      return 0;
    }
  }
  dprintf(STDERR_FILENO, "%s: no case \"%s\"\n", argv[0], argv[1] != NULL ? argv[1] : "");
  return 1;
}

#define CASES(...)                                                  \
  int main(int argc, char** argv) {                                 \
    static const struct test_case cases[] = {__VA_ARGS__};          \
    (void)argc;                                                     \
    return run_case(cases, sizeof(cases) / sizeof(cases[0]), argv); \
  }
#define CASE(name) \
  { #name, name }
