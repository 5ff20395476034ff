#include "crowd_calls.h"

#include <dlfcn.h>
#include <sys/syscall.h>

enum { INHERIT_SHARE, INHERIT_COPY, INHERIT_NONE };

static int (*call_minherit)(void*, size_t, int);

void find_minherit(void) {
  *(void**)&call_minherit = dlsym(RTLD_DEFAULT, "minherit");
  check(call_minherit != NULL);
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

void map(struct lane* lane) {
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

void unmap(struct lane* lane) {
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

void protect(struct lane* lane) {
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

void advise(struct lane* lane) {
  static const int advices[] = {MADV_DONTNEED, MADV_DONTNEED,      MADV_FREE,
                                MADV_WILLNEED, MADV_NORMAL,        MADV_SEQUENTIAL,
                                MADV_RANDOM,   MADV_COLD,          MADV_PAGEOUT,
                                MADV_PAGEOUT,  MADV_POPULATE_READ, MADV_POPULATE_WRITE};
  size_t first = 0;
  size_t count = 0;
  if (!mapped_range(lane, &first, &count)) return;
  const int advice = advices[next(lane, sizeof(advices) / sizeof(advices[0]))];
  if (advice == MADV_POPULATE_READ && !all_are(lane, first, count, readable)) return;
  if (advice == MADV_FREE && board->keeps_freed) return;
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

void inherit(struct lane* lane) {
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

void wire(struct lane* lane) {
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

void ask_what_is_there(struct lane* lane) {
  size_t first = 0;
  size_t count = 0;
  any_range(lane, &first, &count);
  unsigned char bits[kMostRun];
  const int result = mincore(at_page(lane, first), count * PAGE, bits);
  const bool covered = all_are(lane, first, count, is_mapped);
  remember(lane, covered ? "mincore" : "mincore with a hole", first, count, (uint64_t)result,
           (uint64_t)errno);
  must(lane, covered ? result == 0 : result == -1 && errno == ENOMEM);
}

void sync_range(struct lane* lane) {
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

void move(struct lane* lane) {
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
  if (result == MAP_FAILED && errno == EFAULT && !in_place) {
    for (size_t i = 0; i < count; ++i) look_at_page(lane, first + i);
    for (size_t i = 0; i < new_count; ++i) look_at_page(lane, target + i);
    return;
  }
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

void copy_through_kernel(struct lane* lane) {
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

void use_heap(struct lane* lane) {
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

void load_some(struct lane* lane) {
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

void store_some(struct lane* lane) {
  const size_t first = any_page(lane);
  const size_t count = one_in(lane, 4) ? 1 + next(lane, kMostRun) : 1;
  for (size_t i = first; i < first + count && i < kWindow; ++i) {
    store_to_cell(lane, i, (unsigned)next(lane, CROWD_CELLS));
  }
}
