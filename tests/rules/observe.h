// What rules' bodies are made of: memory and files to act on, and observations as short texts.
// What the functions answer with is a text that lives until the body returns.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numbers.h"

#define PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

typedef unsigned char byte;

// ---- ends of a body ----

/// What is not the rule but has to be so for it: otherwise the rule fails, naming the condition.
#define require(condition)                                         \
  do {                                                             \
    if (!(condition)) fail_set_up(__FILE__, __LINE__, #condition); \
  } while (0)
_Noreturn void fail_set_up(const char* file, int line, const char* what);
/// Ends the rule as one that cannot be tried here.
_Noreturn void skip(const char* why);
/// Skips unless run by the superuser.
void need_root(void);

// ---- observations ----

const char* say(const char* format, ...) __attribute__((format(printf, 1, 2)));
/// "EINVAL", …
const char* error_name(int number);
/// "succeeds", or the error's name
const char* status(int result);
/// `text`, or the error's name
const char* either(bool succeeded, const char* text);
/// "maps it", or the error's name
const char* mapped(const void* at);
/// "reads 7", or the signal's name
const char* load(const byte* at);
/// "can be written", or the signal's name
const char* store(byte* at, byte value);
/// 0 or the signal
int signal_of_load(const byte* at);
int signal_of_store(byte* at, byte value);
/// "stays" or "is gone": whether it can be read
const char* presence(const byte* at);
/// The same as load(), by a child: "the child reads 7"
const char* child_load(const byte* at);
/// A child stores there: 0 or the signal
int child_store(byte* at, byte value);
/// `observe` in a child: its text
const char* in_child(const char* (*observe)(byte* at), byte* at);
/// Whether the host's page table says so of the page: "lo" locked, "dd" not in core dumps
bool has_flag(const byte* at, const char* flag);
/// "is locked" or "is not locked"
const char* lock_state(const byte* at);
/// mincore's byte for one page, or -1
int core_byte(const byte* at);
/// "in core" or "not in core", or the error's name
const char* core_state(const byte* at);

// ---- things to act on ----

/// Private, read-write, never touched.
byte* anonymous(size_t pages);
/// The same; the first byte of page i is i + 1.
byte* numbered(size_t pages);
/// Shared, anonymous, numbered.
byte* shared(size_t pages);
/// Numbered pages, one of which is unmapped again.
byte* with_hole(size_t pages, size_t hole);
/// An address where so many pages are free.
byte* room(size_t pages);
/// A regular file, open for reading and writing. Every byte of page i is i + 1.
int new_file(size_t pages);
/// The same file with other rights; -1 when that fails
int open_again(int descriptor, int flags);
/// A loop device with the content of new_file(); skips where there is none.
int new_device(size_t pages);
byte* map_file(int descriptor, size_t pages, int protection, int flags);
byte file_byte(int descriptor, size_t offset);
/// "the file has it" or "the file has its own"
const char* file_state(int descriptor, size_t offset, byte value);

/// Becomes nobody, who may lock so many bytes.
void drop_root(size_t lockable);
void set_limit(int which, size_t bytes);
