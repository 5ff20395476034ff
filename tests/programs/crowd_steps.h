// What the test "crowd" and the program crowd_steps share: the board, a memfd that all processes of
// all programs have mapped. The host serves it, so that it says the truth whatever the server does.
//
// The board is the model of the one file that all programs map: what each of its pages holds, and
// which lane may store to it. What else a lane has mapped only the lane knows.
#pragma once

#include <stdint.h>

enum {
  CROWD_CELLS = 4,  // of a page, each with content of its own
  CROWD_CELL_WORDS = 128,
  CROWD_FILE_PAGES = 2048,
};

struct crowd_page {
  uint32_t owner;  // a lane's number
  uint32_t unused;
  uint64_t key[CROWD_CELLS];
  uint64_t coming[CROWD_CELLS];  // while it differs from the key, a store is under way
};

struct crowd_board {
  uint32_t keeps_freed;  // what MADV_FREE is said of may stay: the host does not need the memory
  uint32_t forks_in;     // one step in so many that could fork does
  uint64_t steps;  // taken by all until now
  uint32_t lanes;  // numbers given out
  uint32_t processes;
  uint64_t forks;
  uint64_t kills;
  struct crowd_page file[CROWD_FILE_PAGES];
};

/// A cell's content follows from its key, which is its first word. Fresh memory has the key 0.
static inline uint64_t crowd_word(uint64_t key, unsigned word) {
  if (key == 0 || word == 0) return key;
  const uint64_t mixed =
      (key ^ (word * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0xbf58476d1ce4e5b9);
  return mixed ^ (mixed >> 31);
}

/// What the file holds at first. Lanes use keys without the highest bit.
static inline uint64_t crowd_first_key(uint64_t page, unsigned cell) {
  return (UINT64_C(1) << 63) | (page << 8) | (cell + 1);
}
