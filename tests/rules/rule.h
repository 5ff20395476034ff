// Rules of the calls, each of them test and documentation at once.
//
// A rule says in words what a program does and, for each personality, what comes of it and where
// that is written. Its body does it and returns what it observed, in the words of the outcome; the
// harness (main.c) runs it in a child of its own and compares the two. docs/calls.md is printed
// from the same outcomes, so it says what is tested.
//
// One file holds the rules of one call. A rule that only one set of numbers has words for stands in
// an #if of that set (numbers.h); a personality that has nothing to say is left out and not tested.
#pragma once

#include <stddef.h>

enum personality { kFreebsd7, kFreebsd14, kLinux, kPersonalities };

struct outcome {
  const char* text;    ///< what the body returns; NULL where there is no rule
  const char* source;  ///< the seed's function, the manual page
};

struct rule {
  const char* call;
  const char* name;       ///< CALL.NAME is the test's name
  const char* situation;  ///< what the program does
  /// The server's option that the rule is about, or NULL. It is run where the harness is told so.
  const char* option;
  struct outcome outcomes[kPersonalities];
  const char* (*run)(void);
  const char* file;
  int line;
};

/// Enters a rule; RULE does it before main().
void add_rule(const struct rule* rule);

/// RULE(call, name, "situation", outcomes…) { body that returns what it observed }
#define RULE(call_, name_, situation_, ...)                                   \
  static const char* call_##_##name_(void);                                   \
  static const struct rule call_##_##name_##_rule = {.call = #call_,          \
                                                     .name = #name_,          \
                                                     .situation = situation_, \
                                                     .run = call_##_##name_,  \
                                                     .file = __FILE__,        \
                                                     .line = __LINE__,        \
                                                     __VA_ARGS__};            \
  __attribute__((constructor)) static void call_##_##name_##_add(void) {      \
    add_rule(&call_##_##name_##_rule);                                        \
  }                                                                           \
  static const char* call_##_##name_(void)

#define FREEBSD_7(text_, source_) .outcomes[kFreebsd7] = {text_, source_}
#define FREEBSD_14(text_, source_) .outcomes[kFreebsd14] = {text_, source_}
#define LINUX(text_, source_) .outcomes[kLinux] = {text_, source_}
#define EVERYWHERE(text_, seed_, page_, host_) \
  FREEBSD_7(text_, seed_), FREEBSD_14(text_, page_), LINUX(text_, host_)
#define BOTH_FREEBSDS(text_, seed_, page_) FREEBSD_7(text_, seed_), FREEBSD_14(text_, page_)
/// The server's option, as it is given to vmrun.
#define WITH_OPTION(option_) .option = option_

/// Where the manual page of FreeBSD 14 says nothing else than the seed.
#define AS_7 "as freebsd-7"
/// Where Linux's manual page leaves it open: what the kernel does.
#define KERNEL "the kernel itself"
