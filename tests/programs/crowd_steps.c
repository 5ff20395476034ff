// Programs with more memory than there is, and all at once: processes and their children and
// theirs, several threads in each, map, store, load, fork and end at random, and know what every
// byte must be.
//
//   crowd_steps run SEED STEPS LANES BOARD FILE PROGRAM PROGRAMS
//
// SEED: of the random numbers; STEPS: how many all programs take together; LANES: threads of this
// program; BOARD: descriptor of the board (crowd_steps.h); FILE: path of the file that all share;
// PROGRAM: which one of PROGRAMS it is.
//
// A lane is a window of memory with its model, and whoever takes its steps: a thread, or in a child
// of fork perhaps one thread for several lanes. Lanes touch nothing of each other's, so each knows
// what it must find, whatever others do at that moment. A page of the file belongs to one lane,
// which alone stores to it and looks at its content; what a lane forks gets half of its pages until
// it ends.
#include "crowd_steps.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "check.h"

enum {
  kWindow = 512,  // pages of a lane
  kMostLanes = 3,
  kMostRun = 24,  // pages of one call
  kMostChildren = 3,
  kMostDepth = 3,
  kMostProcesses = 12,
  kMostGiven = 256,  // pages of the file to a child
  kChunks = 6,
  kRemembered = 2048,
  kShown = 24,
};

enum kind { PRIVATE, SHARED, FILE_SHARED, FILE_PRIVATE };
enum inherited { AS_IT_IS, NOT_AT_ALL, AS_ZEROES, AS_A_COPY };
enum ending { EXITS, EXECUTES, KILLS_ITSELF, IS_KILLED, kEndings };
enum { INHERIT_SHARE, INHERIT_COPY, INHERIT_NONE };

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

static struct crowd_board* board;
static int file = -1;
static uint64_t quota;
static unsigned lane_count;
static struct lane lanes[kMostLanes];
static unsigned depth;
static bool may_fork = true;
static uint64_t steps_of_process = UINT64_MAX;  // each lane
// Held for reading by who takes a step, and for writing by who forks while the others stand still.
static pthread_rwlock_t steps_lock;
static int (*call_minherit)(void*, size_t, int);

static uint64_t next(struct lane* lane, uint64_t below) {
  lane->random ^= lane->random << 13;
  lane->random ^= lane->random >> 7;
  lane->random ^= lane->random << 17;
  return (lane->random >> 11) % below;
}
static bool enough(void) { return __atomic_load_n(&board->steps, __ATOMIC_RELAXED) >= quota; }
static bool one_in(struct lane* lane, uint64_t count) { return next(lane, count) == 0; }

// `first` and `count`: the pages that it is about, if any.
static void remember(struct lane* lane, const char* what, uint64_t first, uint64_t count,
                     uint64_t a, uint64_t b) {
  lane->last[lane->remembered++ % kRemembered] = (struct remembered){what, first, count, {a, b}};
}

// Says what was done with `page`, or last of all if that is none of the window's.
static _Noreturn void fail_lane_at(struct lane* lane, const char* what, size_t page) {
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
static _Noreturn void fail_lane(struct lane* lane, const char* what) {
  fail_lane_at(lane, what, kWindow);
}

// Content that is in no model, as a key.
static const uint64_t kUnknown = UINT64_MAX;

#define must(lane, condition)                      \
  do {                                             \
    if (!(condition)) fail_lane(lane, #condition); \
  } while (0)

static void init_steps_lock(struct lane* lane) {
  pthread_rwlockattr_t attributes;
  must(lane, pthread_rwlockattr_init(&attributes) == 0);
  must(lane, pthread_rwlockattr_setkind_np(&attributes,
                                           PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
  must(lane, pthread_rwlock_init(&steps_lock, &attributes) == 0);
}

static byte* at_page(const struct lane* lane, size_t page) { return lane->window + page * PAGE; }
static uint64_t* at_cell(const struct lane* lane, size_t page, unsigned cell) {
  return (uint64_t*)at_page(lane, page) + (size_t)cell * CROWD_CELL_WORDS;
}
static uint64_t fresh_key(struct lane* lane) {
  return ((uint64_t)lane->id << 40) | ++lane->version;
}

// What a page must hold, or NULL where somebody else may be changing that.
static const uint64_t* content(const struct lane* lane, const struct page* page) {
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

static bool readable(const struct page* page) {
  return page->mapped && page->protection != PROT_NONE;
}
static bool writable(const struct page* page) {
  return page->mapped && (page->protection & PROT_WRITE) != 0;
}
static bool is_mapped(const struct page* page) { return page->mapped; }

static bool all_are(const struct lane* lane, size_t first, size_t count,
                    bool (*is)(const struct page*)) {
  for (size_t i = first; i < first + count; ++i) {
    if (!is(&lane->pages[i])) return false;
  }
  return true;
}

static void compare_cell(struct lane* lane, size_t page, unsigned cell, const uint64_t* words,
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

static void look_at_cell(struct lane* lane, size_t page, unsigned cell) {
  const uint64_t* key = content(lane, &lane->pages[page]);
  const uint64_t* words = at_cell(lane, page, cell);
  if (key == NULL) {
    (void)*(const volatile uint64_t*)words;
    return;
  }
  compare_cell(lane, page, cell, words, key[cell]);
}

static void look_at_page(struct lane* lane, size_t page) {
  if (!readable(&lane->pages[page])) {
    if (!one_in(lane, 8)) return;
    const int number = signal_of_load(at_page(lane, page));
    if (number == SIGSEGV) return;
    remember(lane, "signal of load", page, 1, (uint64_t)number, 0);
    fail_lane_at(lane, "what cannot be read is a SIGSEGV", page);
  }
  for (unsigned cell = 0; cell < CROWD_CELLS; ++cell) look_at_cell(lane, page, cell);
}

static void look_at_everything(struct lane* lane) {
  for (size_t page = 0; page < kWindow; ++page) look_at_page(lane, page);
}

static void fill_cell(volatile uint64_t* words, uint64_t key) {
  for (unsigned i = 0; i < CROWD_CELL_WORDS; ++i) words[i] = crowd_word(key, i);
}

// A change of a page of the file, as a parent must find it that kills who makes it.
static void begin_change(struct crowd_page* page, unsigned cell, uint64_t key) {
  __atomic_store_n(&page->coming[cell], key, __ATOMIC_RELEASE);
}
static void end_change(struct crowd_page* page, unsigned cell, uint64_t key) {
  __atomic_store_n(&page->key[cell], key, __ATOMIC_RELEASE);
}

static void store_to_cell(struct lane* lane, size_t page, unsigned cell) {
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

static size_t any_page(struct lane* lane) { return next(lane, kWindow); }

static void any_range(struct lane* lane, size_t* first, size_t* count) {
  *first = any_page(lane);
  const size_t most = kWindow - *first < kMostRun ? kWindow - *first : kMostRun;
  *count = 1 + next(lane, most);
}

// A range of mapped pages, if there is one near a page chosen at random.
static bool mapped_range(struct lane* lane, size_t* first, size_t* count) {
  size_t most = 0;
  any_range(lane, first, &most);
  while (*first < kWindow && !lane->pages[*first].mapped) ++*first;
  *count = 0;
  while (*count < most && *first + *count < kWindow && lane->pages[*first + *count].mapped)
    ++*count;
  return *count != 0;
}

static int any_protection(struct lane* lane) {
  static const int protections[] = {PROT_NONE,
                                    PROT_READ,
                                    PROT_READ | PROT_EXEC,
                                    PROT_READ | PROT_WRITE,
                                    PROT_READ | PROT_WRITE,
                                    PROT_READ | PROT_WRITE};
  return protections[next(lane, 6)];
}

static void map(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  any_range(lane, &first, &count);
  static const uint8_t kinds[] = {PRIVATE, PRIVATE, PRIVATE, SHARED, FILE_SHARED, FILE_PRIVATE};
  struct page page = {.mapped = true, .kind = kinds[next(lane, 6)]};
  page.protection = (uint8_t)any_protection(lane);
  const bool of_file = page.kind == FILE_SHARED || page.kind == FILE_PRIVATE;
  if (of_file) {
    if (lane->owned == 0) return;
    page.index = lane->own[next(lane, lane->owned)];
    if (page.index + count > CROWD_FILE_PAGES) count = CROWD_FILE_PAGES - page.index;
  }
  const bool shared = page.kind == SHARED || page.kind == FILE_SHARED;
  int flags = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE) | (of_file ? 0 : MAP_ANONYMOUS);
  if (!of_file && one_in(lane, 8)) flags |= MAP_POPULATE;
  remember(lane, "mmap", first, count, page.kind, page.protection);
  must(lane, mmap(at_page(lane, first), count * PAGE, page.protection, flags, of_file ? file : -1,
                  of_file ? (off_t)page.index * (off_t)PAGE : 0) == at_page(lane, first));
  for (size_t i = 0; i < count; ++i, ++page.index) lane->pages[first + i] = page;
}

static void unmap(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  any_range(lane, &first, &count);
  remember(lane, "munmap", first, count, 0, 0);
  const int result = munmap(at_page(lane, first), count * PAGE);
  if (!all_are(lane, first, count, is_mapped)) {
    if (result == -1 && errno == EINVAL) return;
    while (is_mapped(&lane->pages[first])) ++first;
    fail_lane_at(lane, "what is not all mapped cannot be unmapped", first);
  }
  must(lane, result == 0);
  for (size_t i = 0; i < count; ++i) lane->pages[first + i] = (struct page){.mapped = false};
}

static void protect(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  if (!mapped_range(lane, &first, &count)) return;
  const int protection = any_protection(lane);
  remember(lane, "mprotect", first, count, (uint64_t)protection, 0);
  must(lane, mprotect(at_page(lane, first), count * PAGE, protection) == 0);
  for (size_t i = 0; i < count; ++i) lane->pages[first + i].protection = (uint8_t)protection;
}

static bool may_be_populated(const struct page* page) {
  // A private copy of what others change would be of no known content.
  return writable(page) && (page->kind != FILE_PRIVATE || page->own);
}

static void advise(struct lane* lane) {
  static const int advices[] = {MADV_DONTNEED, MADV_DONTNEED,      MADV_FREE,
                                MADV_WILLNEED, MADV_NORMAL,        MADV_SEQUENTIAL,
                                MADV_RANDOM,   MADV_COLD,          MADV_PAGEOUT,
                                MADV_PAGEOUT,  MADV_POPULATE_READ, MADV_POPULATE_WRITE};
  size_t first = 0;
  size_t count = 0;
  if (!mapped_range(lane, &first, &count)) return;
  const int advice = advices[next(lane, sizeof(advices) / sizeof(advices[0]))];
  if (advice == MADV_POPULATE_READ && !all_are(lane, first, count, readable)) return;
  if (advice == MADV_POPULATE_WRITE && !all_are(lane, first, count, may_be_populated)) return;
  remember(lane, "madvise", first, count, (uint64_t)advice, 0);
  must(lane, madvise(at_page(lane, first), count * PAGE, advice) == 0);
  if (advice != MADV_DONTNEED && advice != MADV_FREE) return;
  for (size_t i = first; i < first + count; ++i) {
    struct page* page = &lane->pages[i];
    if (page->kind == PRIVATE) {
      if (page->has_base && advice == MADV_FREE) continue;
      memcpy(page->key, page->base, sizeof(page->key));
      page->foreign = page->key[0] == kUnknown;
    }
    if (page->kind == FILE_PRIVATE && advice == MADV_DONTNEED) page->own = false;
  }
}

static void inherit(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  if (!mapped_range(lane, &first, &count)) return;
  byte* at = at_page(lane, first);
  const size_t bytes = count * PAGE;
  const uint64_t how = next(lane, 6);
  remember(lane, "inheritance", first, count, how, 0);
  for (size_t i = first; i < first + count; ++i) {
    struct page* page = &lane->pages[i];
    if (how == 2 && page->kind != PRIVATE) return;
    if (how == 4 && page->kind == FILE_PRIVATE) return;
  }
  switch (how) {
    case 0:
      must(lane, madvise(at, bytes, MADV_DONTFORK) == 0);
      break;
    case 1:
      must(lane, call_minherit(at, bytes, INHERIT_NONE) == 0);
      break;
    case 2:
      must(lane, madvise(at, bytes, MADV_WIPEONFORK) == 0);
      break;
    case 3:
      must(lane, call_minherit(at, bytes, INHERIT_COPY) == 0);
      break;
    case 4:
      must(lane, call_minherit(at, bytes, INHERIT_SHARE) == 0);
      break;
    default:
      must(lane, madvise(at, bytes, MADV_DOFORK) == 0);
  }
  for (size_t i = first; i < first + count; ++i) {
    struct page* page = &lane->pages[i];
    const bool shared = page->kind == SHARED || page->kind == FILE_SHARED;
    page->inherited = how < 2              ? NOT_AT_ALL
                      : how == 2           ? AS_ZEROES
                      : how == 3 && shared ? AS_A_COPY
                                           : AS_IT_IS;
    if (how == 4 && page->kind == PRIVATE) {
      page->kind = SHARED;
      page->has_base = false;
      memset(page->base, 0, sizeof(page->base));
    }
  }
}

static void wire(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  if (!mapped_range(lane, &first, &count)) return;
  if (count > 8) count = 8;
  if (!all_are(lane, first, count, may_be_populated)) return;
  remember(lane, "mlock", first, count, 0, 0);
  // A third of the memory may be wired; others may have it.
  const bool wired = mlock(at_page(lane, first), count * PAGE) == 0;
  must(lane, wired || errno == ENOMEM || errno == EAGAIN);
  if (wired) {
    for (size_t i = first; i < first + count; ++i) look_at_page(lane, i);
  }
  must(lane, munlock(at_page(lane, first), count * PAGE) == 0);
}

static void ask_what_is_there(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  any_range(lane, &first, &count);
  unsigned char bits[kMostRun];
  const int result = mincore(at_page(lane, first), count * PAGE, bits);
  const bool covered = all_are(lane, first, count, is_mapped);
  must(lane, covered ? result == 0 : result == -1 && errno == ENOMEM);
}

static void sync_range(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  if (!mapped_range(lane, &first, &count)) return;
  const bool waits = one_in(lane, 2);
  remember(lane, "msync", first, count, waits, 0);
  must(lane, msync(at_page(lane, first), count * PAGE, waits ? MS_SYNC : MS_ASYNC) == 0);
  if (!waits) return;
  for (size_t i = first; i < first + count; ++i) {
    const struct page* page = &lane->pages[i];
    const uint64_t* key = page->kind == FILE_SHARED ? content(lane, page) : NULL;
    if (key == NULL) continue;
    // The host is asked, whom nobody tells of mappings.
    static _Thread_local uint64_t words[CROWD_CELLS * CROWD_CELL_WORDS];
    must(lane,
         syscall(SYS_pread64, file, words, PAGE, (off_t)page->index * (off_t)PAGE) == (long)PAGE);
    remember(lane, "look at what is written", i, 1, page->index, 0);
    for (unsigned cell = 0; cell < CROWD_CELLS; ++cell) {
      compare_cell(lane, i, cell, words + (size_t)cell * CROWD_CELL_WORDS, key[cell]);
    }
  }
}

static bool alike(const struct page* a, const struct page* b, size_t distance) {
  const bool of_file = a->kind == FILE_SHARED || a->kind == FILE_PRIVATE;
  return b->mapped && a->kind == b->kind && a->protection == b->protection &&
         a->inherited == b->inherited && a->foreign == b->foreign && a->has_base == b->has_base &&
         (!of_file || a->index + distance == b->index);
}

static void move(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  if (!mapped_range(lane, &first, &count)) return;
  const struct page model = lane->pages[first];
  size_t same = 1;
  while (same < count && alike(&model, &lane->pages[first + same], same)) ++same;
  count = same;
  const bool in_place = one_in(lane, 3);
  size_t target = first;
  size_t new_count = 1 + next(lane, kMostRun);
  // Shared memory ends where it ended when it was mapped, and so does a copy of it.
  if ((model.kind == SHARED || model.has_base) && new_count > count) new_count = count;
  if (!in_place) target = any_page(lane);
  if (target + new_count > kWindow) return;
  if (in_place && new_count >= count) return;
  if (!in_place && target < first + count && first < target + new_count) return;
  if (model.kind != PRIVATE && model.kind != SHARED && model.index + new_count > CROWD_FILE_PAGES) {
    return;
  }
  remember(lane, "mremap from", first, count, target, new_count);
  remember(lane, "mremap to", target, new_count, first, count);
  byte* result = mremap(at_page(lane, first), count * PAGE, new_count * PAGE,
                        in_place ? 0 : MREMAP_MAYMOVE | MREMAP_FIXED, at_page(lane, target));
  // What looks alike need not be one mapping.
  if (result == MAP_FAILED && errno == EFAULT && !in_place) return;
  must(lane, result == at_page(lane, target));
  struct page moved[kMostRun];
  for (size_t i = 0; i < new_count; ++i) {
    if (i < count) {
      moved[i] = lane->pages[first + i];
      continue;
    }
    moved[i] = model;
    moved[i].own = false;
    moved[i].index = model.index + (uint32_t)i;
    memset(moved[i].key, 0, sizeof(moved[i].key));
  }
  for (size_t i = 0; i < count; ++i) lane->pages[first + i] = (struct page){.mapped = false};
  memcpy(lane->pages + target, moved, new_count * sizeof(struct page));
}

// The kernel reads what is in swap, and writes to what is.
static void copy_through_kernel(struct lane* lane) {
  const size_t from = any_page(lane);
  const size_t to = any_page(lane);
  struct page* source = &lane->pages[from];
  struct page* target = &lane->pages[to];
  if (!readable(source) || content(lane, source) == NULL || from == to) return;
  if (lane->owned != 0 && one_in(lane, 2)) {
    const uint32_t index = lane->own[next(lane, lane->owned)];
    struct crowd_page* of_file = &board->file[index];
    const off_t offset = (off_t)index * (off_t)PAGE;
    if (one_in(lane, 2)) {
      uint64_t keys[CROWD_CELLS];
      memcpy(keys, content(lane, source), sizeof(keys));
      remember(lane, "pwrite from, file page", from, 1, index, keys[0]);
      for (unsigned i = 0; i < CROWD_CELLS; ++i) begin_change(of_file, i, keys[i]);
      must(lane, pwrite(file, at_page(lane, from), PAGE, offset) == (ssize_t)PAGE);
      for (unsigned i = 0; i < CROWD_CELLS; ++i) end_change(of_file, i, keys[i]);
      return;
    }
    if (!writable(target) || target->kind != PRIVATE) return;
    remember(lane, "pread to, file page", to, 1, index, of_file->key[0]);
    must(lane, pread(file, at_page(lane, to), PAGE, offset) == (ssize_t)PAGE);
    memcpy(target->key, of_file->key, sizeof(target->key));
    target->foreign = false;
    return;
  }
  if (!writable(target) || target->kind != PRIVATE) return;
  remember(lane, "pipe to, from", to, 1, from, source->kind);
  must(lane, write(lane->pipe[1], at_page(lane, from), PAGE) == (ssize_t)PAGE);
  must(lane, read(lane->pipe[0], at_page(lane, to), PAGE) == (ssize_t)PAGE);
  memcpy(target->key, content(lane, source), sizeof(target->key));
  target->foreign = false;
}

// malloc's heaps are served as well.
static void use_heap(struct lane* lane) {
  const size_t i = next(lane, kChunks);
  if (lane->chunks[i].at == NULL) {
    const size_t words = 1 + next(lane, one_in(lane, 4) ? 32768 : 2048);
    const uint64_t key = fresh_key(lane);
    uint64_t* at = malloc(words * sizeof(*at));
    must(lane, at != NULL);
    for (size_t word = 0; word < words; ++word) at[word] = crowd_word(key, (unsigned)word);
    lane->chunks[i].at = at;
    lane->chunks[i].words = words;
    lane->chunks[i].key = key;
    return;
  }
  for (size_t word = 0; word < lane->chunks[i].words; ++word) {
    must(lane, lane->chunks[i].at[word] == crowd_word(lane->chunks[i].key, (unsigned)word));
  }
  if (one_in(lane, 2)) return;
  free(lane->chunks[i].at);
  lane->chunks[i].at = NULL;
}

static void load_some(struct lane* lane) {
  const size_t first = any_page(lane);
  const size_t count = one_in(lane, 4) ? 1 + next(lane, kMostRun) : 1;
  for (size_t i = first; i < first + count && i < kWindow; ++i) {
    if (one_in(lane, 4) || !readable(&lane->pages[i])) {
      look_at_page(lane, i);
    } else {
      look_at_cell(lane, i, (unsigned)next(lane, CROWD_CELLS));
    }
  }
}

static void store_some(struct lane* lane) {
  const size_t first = any_page(lane);
  const size_t count = one_in(lane, 4) ? 1 + next(lane, kMostRun) : 1;
  for (size_t i = first; i < first + count && i < kWindow; ++i) {
    store_to_cell(lane, i, (unsigned)next(lane, CROWD_CELLS));
  }
}

// What a killed child was about to store is there or not, or in part.
static void settle(struct lane* lane, struct crowd_page* page, uint32_t index) {
  for (unsigned cell = 0; cell < CROWD_CELLS; ++cell) {
    const uint64_t key = page->coming[cell];
    if (key == page->key[cell]) continue;
    static _Thread_local uint64_t words[CROWD_CELL_WORDS];
    fill_cell(words, key);
    const off_t offset = (off_t)index * (off_t)PAGE + (off_t)(cell * sizeof(words));
    remember(lane, "settle file page", 0, 0, index, key);
    must(lane, pwrite(file, words, sizeof(words), offset) == (ssize_t)sizeof(words));
    page->key[cell] = key;
  }
}

static void await(struct lane* lane, struct child* child, int options) {
  if (child->pid == 0) return;
  if (child->ending == IS_KILLED && (options == 0 || one_in(lane, 64))) {
    must(lane, kill(child->pid, SIGKILL) == 0);
    options = 0;
  }
  int status = 0;
  const pid_t ended = waitpid(child->pid, &status, options);
  if (ended == 0) return;
  must(lane, ended == child->pid);
  const bool killed = child->ending == IS_KILLED || child->ending == KILLS_ITSELF;
  if (killed ? status != SIGKILL : status != 0) {
    remember(lane, "status and ending of child", 0, 0, (uint64_t)status, child->ending);
    // One that failed has said so; who is to be killed may be seen to fail before.
    fail_lane(lane, "the child ends as it should");
  }
  remember(lane, "child ended", 0, 0, (uint64_t)ended, child->ending);
  if (killed) __atomic_add_fetch(&board->kills, 1, __ATOMIC_RELAXED);
  child->pid = 0;
  __atomic_sub_fetch(&board->processes, 1, __ATOMIC_RELAXED);
  for (uint32_t i = 0; i < child->pages; ++i) {
    struct crowd_page* page = &board->file[child->page[i]];
    settle(lane, page, child->page[i]);
    __atomic_store_n(&page->owner, lane->id, __ATOMIC_RELEASE);
    lane->own[lane->owned++] = child->page[i];
  }
}

static void take_step(struct lane* lane);

// Steps of one lane until there are enough, or so many.
static void take_steps(struct lane* lane, uint64_t most) {
  for (uint64_t i = 0; i < most && !enough(); ++i) take_step(lane);
}

static void end_lane(struct lane* lane) {
  for (unsigned i = 0; i < kMostChildren; ++i) await(lane, &lane->children[i], 0);
  look_at_everything(lane);
}

static void* run_lane(void* argument) {
  struct lane* lane = argument;
  take_steps(lane, steps_of_process);
  end_lane(lane);
  return NULL;
}

static void run_lanes(size_t count, struct lane* const* driven) {
  pthread_t threads[kMostLanes];
  for (size_t i = 1; i < count; ++i) {
    must(driven[i], pthread_create(&threads[i], NULL, run_lane, driven[i]) == 0);
  }
  run_lane(driven[0]);
  for (size_t i = 1; i < count; ++i) must(driven[i], pthread_join(threads[i], NULL) == 0);
}

// Of what a child is to have as a copy, and where. Others may change it as soon as there is a
// child.
static uint64_t copies[kMostLanes][kWindow][CROWD_CELLS];

static void note_copies(const struct lane* lane) {
  uint64_t(*noted)[CROWD_CELLS] = copies[lane - lanes];
  for (size_t i = 0; i < kWindow; ++i) {
    const struct page* page = &lane->pages[i];
    if (!page->mapped || page->inherited != AS_A_COPY || page->kind != FILE_SHARED) continue;
    const uint64_t* keys = content(lane, page);
    noted[i][0] = kUnknown;
    if (keys != NULL) memcpy(noted[i], keys, sizeof(noted[i]));
  }
}

// What a child's lane has of its parent's.
static void come_after(struct lane* lane, uint32_t id, const uint64_t (*noted)[CROWD_CELLS]) {
  remember(lane, "child", 0, 0, id, 0);
  for (size_t number = 0; number < kWindow; ++number) {
    struct page* page = &lane->pages[number];
    if (!page->mapped) continue;
    if (page->inherited == NOT_AT_ALL) *page = (struct page){.mapped = false};
    if (page->inherited == AS_ZEROES) memset(page->key, 0, sizeof(page->key));
    if (page->inherited == AS_A_COPY) {
      if (page->kind == FILE_SHARED) memcpy(page->key, noted[number], sizeof(page->key));
      if (page->kind == SHARED && page->foreign) page->key[0] = kUnknown;
      page->foreign = page->key[0] == kUnknown;
      page->kind = PRIVATE;
      page->has_base = true;
      memcpy(page->base, page->key, sizeof(page->base));
      page->inherited = AS_IT_IS;
    }
    if (page->kind == SHARED) page->foreign = true;
  }
  lane->id = id;
  lane->version = 0;
  lane->owned = 0;
  lane->random ^= (uint64_t)id << 32;
  memset(lane->children, 0, sizeof(lane->children));
  // The parent uses its pipe itself.
  must(lane, close(lane->pipe[0]) == 0 && close(lane->pipe[1]) == 0 && pipe(lane->pipe) == 0);
}

static _Noreturn void run_child(struct lane* lane, struct child self, bool with_all, uint32_t id) {
  // Who fails takes its children along.
  must(lane, prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
  init_steps_lock(lane);
  ++depth;
  may_fork = self.ending != IS_KILLED;
  struct lane* driven[kMostLanes] = {lane};
  size_t count = 1;
  for (unsigned i = 0; i < lane_count; ++i) {
    if (&lanes[i] == lane) continue;
    if (with_all && !lanes[i].left) {
      driven[count++] = &lanes[i];
    } else {
      lanes[i].left = true;
    }
  }
  for (size_t i = 0; i < count; ++i) {
    come_after(driven[i], id + (uint32_t)i, copies[driven[i] - lanes]);
  }
  lane->owned = self.pages;
  memcpy(lane->own, self.page, self.pages * sizeof(self.page[0]));
  if (one_in(lane, 2)) {
    for (size_t i = 0; i < count; ++i) look_at_everything(driven[i]);
  }
  steps_of_process = self.ending == IS_KILLED ? UINT64_MAX : 20 + next(lane, 400);
  if (one_in(lane, 2)) {
    run_lanes(count, driven);
  } else {
    for (uint64_t i = 0; i < steps_of_process && !enough(); ++i) {
      take_step(driven[next(lane, count)]);
    }
    for (size_t i = 0; i < count; ++i) end_lane(driven[i]);
  }
  switch (self.ending) {
    case EXECUTES:
      execl("/proc/self/exe", "crowd_steps", "nothing", "", NULL);
      fail_lane(lane, "another program is executed");
    case KILLS_ITSELF:
      kill(getpid(), SIGKILL);
      fail_lane(lane, "nothing comes behind SIGKILL");
    case IS_KILLED:
      for (;;) pause();
    default:
      _exit(0);
  }
}

static void fork_child(struct lane* lane) {
  if (!may_fork || depth == kMostDepth) return;
  struct child* child = NULL;
  for (unsigned i = 0; i < kMostChildren; ++i) {
    if (lane->children[i].pid == 0) child = &lane->children[i];
  }
  if (child == NULL) return;
  if (__atomic_add_fetch(&board->processes, 1, __ATOMIC_RELAXED) > kMostProcesses) {
    __atomic_sub_fetch(&board->processes, 1, __ATOMIC_RELAXED);
    return;
  }
  __atomic_add_fetch(&board->forks, 1, __ATOMIC_RELAXED);
  child->ending = (enum ending)next(lane, kEndings);
  const bool with_all = one_in(lane, 2);
  if (with_all) {
    // This one's own step ends here, for the moment.
    must(lane, pthread_rwlock_unlock(&steps_lock) == 0);
    must(lane, pthread_rwlock_wrlock(&steps_lock) == 0);
  }
  const uint32_t id = __atomic_fetch_add(&board->lanes, kMostLanes, __ATOMIC_RELAXED);
  for (unsigned i = 0; i < lane_count; ++i) {
    if ((with_all && !lanes[i].left) || &lanes[i] == lane) note_copies(&lanes[i]);
  }
  child->pages = lane->owned / 2 < kMostGiven ? lane->owned / 2 : kMostGiven;
  for (uint32_t i = 0; i < child->pages; ++i) {
    child->page[i] = lane->own[--lane->owned];
    __atomic_store_n(&board->file[child->page[i]].owner, id, __ATOMIC_RELEASE);
  }
  remember(lane, with_all ? "fork with all: ending, first lane" : "fork: ending, first lane", 0, 0,
           child->ending, id);
  const pid_t pid = fork();
  must(lane, pid >= 0);
  if (pid == 0) run_child(lane, *child, with_all, id);
  child->pid = pid;
  if (with_all) {
    must(lane, pthread_rwlock_unlock(&steps_lock) == 0);
    must(lane, pthread_rwlock_rdlock(&steps_lock) == 0);
  }
}

static void take_step(struct lane* lane) {
  must(lane, pthread_rwlock_rdlock(&steps_lock) == 0);
  for (unsigned i = 0; i < kMostChildren; ++i) await(lane, &lane->children[i], WNOHANG);
  const uint64_t choice = next(lane, 64);
  if (choice < 6) {
    map(lane);
  } else if (choice < 8) {
    unmap(lane);
  } else if (choice < 11) {
    protect(lane);
  } else if (choice < 14) {
    advise(lane);
  } else if (choice < 15) {
    inherit(lane);
  } else if (choice < 16) {
    if (one_in(lane, 4)) wire(lane);
  } else if (choice < 17) {
    ask_what_is_there(lane);
  } else if (choice < 18) {
    if (one_in(lane, 2)) sync_range(lane);
  } else if (choice < 20) {
    move(lane);
  } else if (choice < 22) {
    copy_through_kernel(lane);
  } else if (choice < 23) {
    use_heap(lane);
  } else if (choice < 24) {
    if (one_in(lane, 8)) fork_child(lane);
  } else if (choice < 44) {
    load_some(lane);
  } else {
    store_some(lane);
  }
  if (++lane->taken % 1024 == 0) look_at_everything(lane);
  __atomic_add_fetch(&board->steps, 1, __ATOMIC_RELAXED);
  must(lane, pthread_rwlock_unlock(&steps_lock) == 0);
}

// Windows are where the server places mappings, and where nobody does.
static byte* place_window(unsigned number) {
  byte* in_room = map_private(PAGE);
  check(munmap(in_room, PAGE) == 0);
  const uintptr_t distance = (uintptr_t)(number + 1) << 36;
  const uintptr_t room = (uintptr_t)in_room;
  if (number % 2 != 0) return (byte*)((uintptr_t)0x300000000000 + distance);
  return (byte*)(room + distance < 0x1f0000000000 ? room + distance : room - distance);
}

static void run(char** arguments) {
  const uint64_t seed = strtoull(arguments[0], NULL, 10);
  quota = strtoull(arguments[1], NULL, 10);
  lane_count = (unsigned)atoi(arguments[2]);
  const unsigned program = (unsigned)atoi(arguments[5]);
  const unsigned programs = (unsigned)atoi(arguments[6]);
  check(lane_count >= 1 && lane_count <= kMostLanes && program < programs);
  board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(arguments[3]), 0);
  check(board != MAP_FAILED);
  file = open(arguments[4], O_RDWR);
  check(file >= 0);
  *(void**)&call_minherit = dlsym(RTLD_DEFAULT, "minherit");
  check(call_minherit != NULL);
  catch_faults();
  struct lane* driven[kMostLanes];
  for (unsigned i = 0; i < lane_count; ++i) {
    struct lane* lane = driven[i] = &lanes[i];
    const uint32_t number = program * lane_count + i;
    // The numbers from there on are given out by the board.
    lane->id = number + 1;
    lane->random = (seed * 2654435761u + number + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    lane->window = place_window(i);
    const uint32_t share = CROWD_FILE_PAGES / (programs * lane_count);
    for (uint32_t page = number * share; page < (number + 1) * share; ++page) {
      __atomic_store_n(&board->file[page].owner, lane->id, __ATOMIC_RELEASE);
      lane->own[lane->owned++] = page;
    }
    check(pipe(lane->pipe) == 0);
    for (int steps = 0; steps < 16; ++steps) map(lane);
  }
  init_steps_lock(driven[0]);
  run_lanes(lane_count, driven);
}

// What a child executes.
static void nothing(char** arguments) { (void)arguments; }

CASES(CASE(run), CASE(nothing))
