// Random calls and stores against a model of what memory must hold.
// arguments[0]: seed, [1]: steps
//
// The model is a window of pages, each mapped or not, with a protection, shared or private, and one
// byte that stands for the page. A child checks the whole window as it was when it was forked.
#include "check.h"

enum { PAGES = 256 };

struct model_page {
  bool mapped;
  bool shared;
  int protection;
  byte value;
};

static byte* window;
static struct model_page model[PAGES];
static uint64_t state;

static uint64_t next(uint64_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state >> 11) % below;
}

static byte* at_page(size_t page) { return window + page * PAGE; }

static void check_page(size_t page) {
  const struct model_page* m = &model[page];
  if (!m->mapped || m->protection == PROT_NONE) {
    check(signal_of_load(at_page(page)) == SIGSEGV);
    return;
  }
  check(is_filled(at_page(page), PAGE, m->value));
  if ((m->protection & PROT_WRITE) == 0) check(signal_of_store(at_page(page), 1) == SIGSEGV);
}

static void check_all(void) {
  for (size_t page = 0; page < PAGES; ++page) check_page(page);
}

static bool all_mapped(size_t first, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (!model[first + i].mapped) return false;
  }
  return true;
}

static void do_map(size_t first, size_t count) {
  const bool shared = next(3) == 0;
  const int protection = (int)next(4) == 0 ? PROT_READ : PROT_READ | PROT_WRITE;
  check(mmap(at_page(first), count * PAGE, protection,
             (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS | MAP_FIXED, -1,
             0) == at_page(first));
  for (size_t i = 0; i < count; ++i) {
    model[first + i] = (struct model_page){true, shared, protection, 0};
  }
}

static void do_unmap(size_t first, size_t count) {
  if (!all_mapped(first, count)) {
    check_error(EINVAL, munmap(at_page(first), count * PAGE) == -1);
    return;
  }
  check(munmap(at_page(first), count * PAGE) == 0);
  for (size_t i = 0; i < count; ++i) model[first + i].mapped = false;
}

static void do_protect(size_t first, size_t count) {
  static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
                                    PROT_READ | PROT_WRITE};
  const int protection = protections[next(4)];
  if (!all_mapped(first, count)) return;
  check(mprotect(at_page(first), count * PAGE, protection) == 0);
  for (size_t i = 0; i < count; ++i) model[first + i].protection = protection;
}

static void do_store(size_t first, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    struct model_page* m = &model[first + i];
    if (!m->mapped || (m->protection & PROT_WRITE) == 0) continue;
    m->value = (byte)next(256);
    memset(at_page(first + i), m->value, PAGE);
  }
}

static void do_discard(size_t first, size_t count) {
  if (!all_mapped(first, count)) return;
  check(madvise(at_page(first), count * PAGE, MADV_DONTNEED) == 0);
  for (size_t i = 0; i < count; ++i) {
    if (!model[first + i].shared) model[first + i].value = 0;
  }
}

// Moves a private run that is one mapping for certain: it was made as one just now.
static void do_move(size_t first, size_t count) {
  const size_t target = next(PAGES - count + 1);
  if (target < first + count && first < target + count) return;
  do_map(first, count);
  do_store(first, count);
  check(mremap(at_page(first), count * PAGE, count * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
               at_page(target)) == at_page(target));
  for (size_t i = 0; i < count; ++i) {
    model[target + i] = model[first + i];
    model[first + i].mapped = false;
  }
}

static void do_fork(void) {
  const pid_t child = fork();
  if (child == 0) {
    check_all();
    do_map(0, PAGES);
    do_store(0, PAGES);
    check_all();
    _exit(0);
  }
  check_child(child);
}

static void steps(char** arguments) {
  state = strtoull(arguments[0], NULL, 10) * 2654435761u + 1;
  const unsigned long count = strtoul(arguments[1], NULL, 10);
  window = map_private(PAGES * PAGE);
  for (size_t i = 0; i < PAGES; ++i) {
    model[i] = (struct model_page){true, false, PROT_READ | PROT_WRITE, 0};
  }
  for (unsigned long step = 0; step < count; ++step) {
    const size_t first = next(PAGES);
    const size_t length = 1 + next(next(4) == 0        ? PAGES - first
                                   : 8 < PAGES - first ? 8
                                                       : PAGES - first);
    switch (next(20)) {
      case 0:
      case 1:
      case 2:
        do_map(first, length);
        break;
      case 3:
      case 4:
        do_unmap(first, length);
        break;
      case 5:
      case 6:
      case 7:
        do_protect(first, length);
        break;
      case 8:
        do_discard(first, length);
        break;
      case 9:
        do_move(first, length);
        break;
      case 10:
        if (next(20) == 0) do_fork();
        break;
      case 11:
      case 12:
        check_page(first);
        break;
      default:
        do_store(first, length);
    }
    if (step % 500 == 0) check_all();
  }
  check_all();
}

CASES(CASE(steps))
