// A lane of crowd_steps: its window of memory, the model of that, and how the one is held against
// the other. Whoever takes a lane's steps at the moment is the only one to touch it.
#pragma once

#include "check.h"
#include "crowd_steps.h"

enum {
  kWindow = 512,  // pages of a lane
  kMostRun = 24,  // pages of one call
  kMostChildren = 3,
  kMostGiven = 256,  // pages of the file to a child
  kChunks = 6,
  kRemembered = 2048,
};

enum kind { PRIVATE, SHARED, FILE_SHARED, FILE_PRIVATE };
enum inherited { AS_IT_IS, NOT_AT_ALL, AS_ZEROES, AS_A_COPY };
enum ending { EXITS, EXECUTES, KILLS_ITSELF, IS_KILLED, kEndings };

struct page {
  bool mapped;
  bool own;      // FILE_PRIVATE: it has been stored to
  bool foreign;  // its content is not known: a parent may be changing it
  uint8_t kind;
  uint8_t protection;
  uint8_t inherited;
  uint32_t index;              // in the file
  uint64_t key[CROWD_CELLS];   // what is in no file
  bool has_base;               // PRIVATE: a copy of what a parent shares, and shows that when it is
  uint64_t base[CROWD_CELLS];  // thrown away
};

struct child {
  pid_t pid;
  enum ending ending;
  uint32_t pages;  // that it has got
  uint32_t page[kMostGiven];
};

struct remembered {
  const char* what;
  uint64_t first;  // and how many pages it is about
  uint64_t count;
  uint64_t values[2];
};

struct lane {
  uint32_t id;
  bool left;  // by a fork in the middle of a step: there is no thread for it
  uint64_t random;
  uint64_t version;
  byte* window;
  struct page pages[kWindow];
  uint32_t owned;
  uint32_t own[CROWD_FILE_PAGES];
  struct child children[kMostChildren];
  struct {
    uint64_t* at;
    size_t words;
    uint64_t key;
  } chunks[kChunks];
  int pipe[2];
  struct remembered last[kRemembered];
  uint64_t remembered;
  uint64_t taken;  // steps
};

extern struct crowd_board* board;
extern int file;        // that all programs share
extern unsigned depth;  // forks between the program and this process

/// Content that is in no model, as a key.
static const uint64_t kUnknown = UINT64_MAX;

/// For tell_more_of_fault: what was done with the page that the thread's lane has there.
void tell_of_page(void* address);

/// A random number below this one.
uint64_t next(struct lane* lane, uint64_t below);
static inline bool one_in(struct lane* lane, uint64_t count) { return next(lane, count) == 0; }

/// Notes what is done, to be said when the lane fails. `first` and `count`: the pages that it is
/// about, if any.
void remember(struct lane* lane, const char* what, uint64_t first, uint64_t count, uint64_t a,
              uint64_t b);
/// Ends the process, and says what was done with `page`, or last of all if that is none of the
/// window's.
_Noreturn void fail_lane_at(struct lane* lane, const char* what, size_t page);
_Noreturn void fail_lane(struct lane* lane, const char* what);

#define must(lane, condition)                      \
  do {                                             \
    if (!(condition)) fail_lane(lane, #condition); \
  } while (0)

static inline byte* at_page(const struct lane* lane, size_t page) {
  return lane->window + page * PAGE;
}
static inline uint64_t* at_cell(const struct lane* lane, size_t page, unsigned cell) {
  return (uint64_t*)at_page(lane, page) + (size_t)cell * CROWD_CELL_WORDS;
}
static inline uint64_t fresh_key(struct lane* lane) {
  return ((uint64_t)lane->id << 40) | ++lane->version;
}

static inline bool readable(const struct page* page) {
  return page->mapped && page->protection != PROT_NONE;
}
static inline bool writable(const struct page* page) {
  return page->mapped && (page->protection & PROT_WRITE) != 0;
}
static inline bool is_mapped(const struct page* page) { return page->mapped; }

/// What a page must hold, or NULL where somebody else may be changing that.
const uint64_t* content(const struct lane* lane, const struct page* page);
bool all_are(const struct lane* lane, size_t first, size_t count, bool (*is)(const struct page*));

/// Whether `words` are what the cell of this page must hold; the lane fails if not.
void compare_cell(struct lane* lane, size_t page, unsigned cell, const uint64_t* words,
                  uint64_t key);
void look_at_cell(struct lane* lane, size_t page, unsigned cell);
void look_at_page(struct lane* lane, size_t page);
void look_at_everything(struct lane* lane);

void fill_cell(volatile uint64_t* words, uint64_t key);
/// A change of a page of the file, as a parent must find it that kills who makes it.
void begin_change(struct crowd_page* page, unsigned cell, uint64_t key);
void end_change(struct crowd_page* page, unsigned cell, uint64_t key);
/// Stores something new, or looks whether that is refused.
void store_to_cell(struct lane* lane, size_t page, unsigned cell);

size_t any_page(struct lane* lane);
void any_range(struct lane* lane, size_t* first, size_t* count);
/// A range of mapped pages, if there is one near a page chosen at random.
bool mapped_range(struct lane* lane, size_t* first, size_t* count);
