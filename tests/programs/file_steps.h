// What the test "fsx" and the program file_steps say to each other, over a SOCK_SEQPACKET socket: a
// step, and its outcome.
#pragma once

#include <stdint.h>

enum { FILE_STEPS_PAGES = 64, FILE_STEPS_MOST = 16384 };

enum file_step_kind {
  // Reads: the outcome's data is what was found.
  STEP_READ,
  STEP_READ_HERE,  // at the position
  STEP_READV,
  STEP_FREAD,
  STEP_READ_DIRECT,
  STEP_SENDFILE,  // into a pipe
  STEP_SPLICE_OUT,
  STEP_LOAD,          // through the shared mapping
  STEP_LOAD_PRIVATE,  // through the private one
  // Changes, with what step_byte() gives.
  STEP_WRITE,
  STEP_WRITE_HERE,
  STEP_WRITEV,
  STEP_FWRITE,
  STEP_APPEND,
  STEP_WRITE_DIRECT,
  STEP_SPLICE_IN,
  STEP_STORE,
  // Other changes.
  STEP_COPY,       // copy_file_range to `other`
  STEP_FTRUNCATE,  // to `offset` bytes
  STEP_TRUNCATE,
  STEP_OPEN_TRUNCATED,
  STEP_PUNCH,
  STEP_ZERO,
  STEP_ALLOCATE,
  // What makes one wait for, or see, the others.
  STEP_SYNC,      // msync
  STEP_FSYNC,
  STEP_LOCK,      // and unlock
  STEP_MAP_ANEW,  // close, open, map
  STEP_UNMAP,
  STEP_END
};

struct file_step {
  uint32_t kind;
  uint32_t bytes;
  uint64_t offset;
  uint64_t other;
  uint64_t seed;
};

struct file_step_outcome {
  int32_t error;   // errno; a signal's number as a negative one
  uint32_t bytes;  // of data
  uint8_t data[FILE_STEPS_MOST];
};

static inline uint8_t step_byte(uint64_t seed, uint64_t index) {
  uint64_t mixed = (seed + index / 8) * 0x9e3779b97f4a7c15;
  mixed ^= mixed >> 29;
  return (uint8_t)(mixed >> (8 * (index % 8)));
}
