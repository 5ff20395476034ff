// Faults that are expected are expected in this file only: a handler of check.h knows of its own
// file's calls of signal_of_load() and signal_of_store().
#include "crowd_lane.h"

#include <inttypes.h>

// Of what was done before a failure that is about no page.
enum { kShown = 24 };

struct crowd_board* board;
int file = -1;
unsigned depth;

static _Thread_local struct lane* at_work;

uint64_t next(struct lane* lane, uint64_t below) {
  at_work = lane;
  lane->random ^= lane->random << 13;
  lane->random ^= lane->random >> 7;
  lane->random ^= lane->random << 17;
  return (lane->random >> 11) % below;
}

void remember(struct lane* lane, const char* what, uint64_t first, uint64_t count, uint64_t a,
              uint64_t b) {
  lane->last[lane->remembered++ % kRemembered] = (struct remembered){what, first, count, {a, b}};
}

_Noreturn void fail_lane_at(struct lane* lane, const char* what, size_t page) {
  dprintf(STDERR_FILENO, "process %d, lane %u, depth %u, window %p: %s (errno %d), after\n",
          getpid(), lane->id, depth, (void*)lane->window, what, errno);
  const uint64_t most = page < kWindow ? kRemembered : kShown;
  const uint64_t from = lane->remembered > most ? lane->remembered - most : 0;
  for (uint64_t i = from; i < lane->remembered; ++i) {
    const struct remembered* one = &lane->last[i % kRemembered];
    const bool shown = page >= kWindow || one->count == 0 ||
                       (one->first <= page && page < one->first + one->count);
    if (!shown) continue;
    dprintf(STDERR_FILENO, "  %llu %s %llu+%llu %#llx %#llx\n", (unsigned long long)i, one->what,
            (unsigned long long)one->first, (unsigned long long)one->count,
            (unsigned long long)one->values[0], (unsigned long long)one->values[1]);
  }
  _exit(1);
}

// And what the host has there.
void tell_of_page(void* address) {
  struct lane* lane = at_work;
  if (lane == NULL || (byte*)address < lane->window) return;
  const size_t page = (size_t)((byte*)address - lane->window) / PAGE;
  if (page >= kWindow) return;
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[512];
  while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
    uintptr_t from = 0;
    uintptr_t to = 0;
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) != 2) continue;
    const uintptr_t at = (uintptr_t)address;
    if (from <= at + 2 * PAGE && at < to + 2 * PAGE) dprintf(STDERR_FILENO, "  %s", line);
  }
  const struct page* model = &lane->pages[page];
  remember(lane, "kind and inherited", page, 1, model->kind, model->inherited);
  fail_lane_at(lane, "a page can be accessed as the model says", page);
}

_Noreturn void fail_lane(struct lane* lane, const char* what) { fail_lane_at(lane, what, kWindow); }

const uint64_t* content(const struct lane* lane, const struct page* page) {
  switch (page->kind) {
    case PRIVATE:
    case SHARED:
      return page->foreign ? NULL : page->key;
    case FILE_PRIVATE:
      if (page->own) return page->key;
      // fall through
    default: {
      const struct crowd_page* of_file = &board->file[page->index];
      return __atomic_load_n(&of_file->owner, __ATOMIC_ACQUIRE) == lane->id ? of_file->key : NULL;
    }
  }
}

bool all_are(const struct lane* lane, size_t first, size_t count, bool (*is)(const struct page*)) {
  for (size_t i = first; i < first + count; ++i) {
    if (!is(&lane->pages[i])) return false;
  }
  return true;
}

void compare_cell(struct lane* lane, size_t page, unsigned cell, const uint64_t* words,
                  uint64_t key) {
  for (unsigned i = 0; i < CROWD_CELL_WORDS; ++i) {
    const uint64_t found = words[i];
    if (found == crowd_word(key, i)) continue;
    const struct page* model = &lane->pages[page];
    remember(lane, "kind and index", page, 1, model->kind, model->index);
    remember(lane, "inherited and own", page, 1, model->inherited, model->own);
    remember(lane, "cell and word", page, 1, cell, i);
    remember(lane, "first word found, and expected", page, 1, words[0], key);
    remember(lane, "word found, and looked at again", page, 1, found, words[i]);
    fail_lane_at(lane, "memory holds what was stored last", page);
  }
}

void look_at_cell(struct lane* lane, size_t page, unsigned cell) {
  const uint64_t* key = content(lane, &lane->pages[page]);
  const uint64_t* words = at_cell(lane, page, cell);
  if (key == NULL) {
    (void)*(const volatile uint64_t*)words;
    return;
  }
  compare_cell(lane, page, cell, words, key[cell]);
}

void look_at_page(struct lane* lane, size_t page) {
  at_work = lane;
  tell_more_of_fault = tell_of_page;
  if (!readable(&lane->pages[page])) {
    if (!one_in(lane, 8)) return;
    const int number = signal_of_load(at_page(lane, page));
    if (number == SIGSEGV) return;
    remember(lane, "signal of load", page, 1, (uint64_t)number, 0);
    fail_lane_at(lane, "what cannot be read is a SIGSEGV", page);
  }
  for (unsigned cell = 0; cell < CROWD_CELLS; ++cell) look_at_cell(lane, page, cell);
}

void look_at_everything(struct lane* lane) {
  for (size_t page = 0; page < kWindow; ++page) look_at_page(lane, page);
}

void fill_cell(volatile uint64_t* words, uint64_t key) {
  for (unsigned i = 0; i < CROWD_CELL_WORDS; ++i) words[i] = crowd_word(key, i);
}

void begin_change(struct crowd_page* page, unsigned cell, uint64_t key) {
  __atomic_store_n(&page->coming[cell], key, __ATOMIC_RELEASE);
}
void end_change(struct crowd_page* page, unsigned cell, uint64_t key) {
  __atomic_store_n(&page->key[cell], key, __ATOMIC_RELEASE);
}

void store_to_cell(struct lane* lane, size_t page, unsigned cell) {
  struct page* model = &lane->pages[page];
  if (!writable(model)) {
    if (!one_in(lane, 8)) return;
    const int number = signal_of_store(at_page(lane, page), 1);
    if (number == SIGSEGV) return;
    remember(lane, "signal of store", page, 1, (uint64_t)number, 0);
    fail_lane_at(lane, "what cannot be stored to is a SIGSEGV", page);
  }
  const uint64_t* before = content(lane, model);
  if (before == NULL) return;
  if (one_in(lane, 2)) look_at_cell(lane, page, cell);
  const uint64_t key = fresh_key(lane);
  remember(lane, "store to kind", page, 1, model->kind, key);
  if (model->kind == FILE_SHARED) {
    struct crowd_page* of_file = &board->file[model->index];
    begin_change(of_file, cell, key);
    fill_cell(at_cell(lane, page, cell), key);
    end_change(of_file, cell, key);
    return;
  }
  fill_cell(at_cell(lane, page, cell), key);
  if (model->kind == FILE_PRIVATE && !model->own) {
    memcpy(model->key, before, sizeof(model->key));
    model->own = true;
  }
  model->key[cell] = key;
}

size_t any_page(struct lane* lane) { return next(lane, kWindow); }

void any_range(struct lane* lane, size_t* first, size_t* count) {
  *first = any_page(lane);
  const size_t most = kWindow - *first < kMostRun ? kWindow - *first : kMostRun;
  *count = 1 + next(lane, most);
}

bool mapped_range(struct lane* lane, size_t* first, size_t* count) {
  size_t most = 0;
  any_range(lane, first, &most);
  while (*first < kWindow && !lane->pages[*first].mapped) ++*first;
  *count = 0;
  while (*count < most && *first + *count < kWindow && lane->pages[*first + *count].mapped)
    ++*count;
  return *count != 0;
}
