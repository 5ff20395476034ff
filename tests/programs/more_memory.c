// More memory than there is: run `more_memory CASE [ARGUMENT...]` under a server with --memory.
#include <fcntl.h>
#include <pthread.h>

#include "check.h"
#include "minherit.h"

enum { kWords = 512 };

// Each page holds its number, how often it was changed, and what follows from the two.
static void write_page(uint64_t* page, uint64_t number, uint64_t changes) {
  for (unsigned i = 0; i < kWords; ++i) page[i] = number * 1000003 + changes * 7919 + i;
}

static bool page_is(const uint64_t* page, uint64_t number, uint64_t changes) {
  for (unsigned i = 0; i < kWords; ++i) {
    if (page[i] != number * 1000003 + changes * 7919 + i) return false;
  }
  return true;
}

static uint64_t next_random(uint64_t* state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

static size_t pages_of(const char* megabytes) { return strtoul(megabytes, NULL, 10) * 256; }

static byte* map_pages(size_t pages, int flags, int descriptor) {
  byte* at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, descriptor, 0);
  check(at != MAP_FAILED);
  return at;
}

static uint64_t* page_at(byte* memory, size_t page) { return (uint64_t*)(memory + page * PAGE); }

// Fills all pages in order, changes some at random, and looks at all.
static void use(byte* memory, size_t pages, uint64_t seed) {
  uint32_t* changes = calloc(pages, sizeof(*changes));
  check(changes != NULL);
  for (size_t i = 0; i < pages; ++i) write_page(page_at(memory, i), i, 0);
  for (size_t step = 0; step < 2 * pages; ++step) {
    const size_t i = next_random(&seed) % pages;
    check(page_is(page_at(memory, i), i, changes[i]));
    write_page(page_at(memory, i), i, ++changes[i]);
  }
  for (size_t i = 0; i < pages; ++i) check(page_is(page_at(memory, i), i, changes[i]));
  free(changes);
}

static void private_memory(char** arguments) {
  const size_t pages = pages_of(arguments[0]);
  use(map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1), pages, 1);
}

static void shared_memory(char** arguments) {
  const size_t pages = pages_of(arguments[0]);
  byte* memory = map_pages(pages, MAP_SHARED | MAP_ANONYMOUS, -1);
  const pid_t child = fork();
  check(child >= 0);
  if (child == 0) {
    use(memory, pages / 2, 3);
    _exit(0);
  }
  use(memory + pages / 2 * PAGE, pages - pages / 2, 4);
  int status = 0;
  check(waitpid(child, &status, 0) == child && status == 0);
  // What the child left behind is whole, whatever number of changes it made.
  for (size_t i = 0; i < pages / 2; ++i) {
    check(page_is(page_at(memory, i), i, (page_at(memory, i)[0] - i * 1000003) / 7919));
  }
}

static void file(char** arguments) {
  const size_t pages = pages_of(arguments[1]);
  const int descriptor = open(arguments[0], O_RDWR | O_CREAT | O_TRUNC, 0600);
  check(descriptor >= 0 && ftruncate(descriptor, (off_t)(pages * PAGE)) == 0);
  byte* memory = map_pages(pages, MAP_SHARED, descriptor);
  use(memory, pages, 5);
  check(msync(memory, pages * PAGE, MS_SYNC) == 0);
  static uint64_t page[kWords];
  for (size_t i = 0; i < pages; ++i) {
    check(pread(descriptor, page, PAGE, (off_t)(i * PAGE)) == (ssize_t)PAGE);
    check(memcmp(page, page_at(memory, i), PAGE) == 0);
  }
}

// Children of a parent most of which is in swap.
static void children(char** arguments) {
  const size_t pages = pages_of(arguments[0]);
  const unsigned count = (unsigned)strtoul(arguments[1], NULL, 10);
  byte* memory = map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  for (size_t i = 0; i < pages; ++i) write_page(page_at(memory, i), i, 0);
  for (unsigned done = 0; done < count; done += 10) {
    for (unsigned one = 0; one < 10; ++one) {
      const pid_t child = fork();
      check(child >= 0);
      if (child != 0) continue;
      for (size_t i = 0; i < pages; ++i) check(page_is(page_at(memory, i), i, 0));
      for (size_t i = one; i < pages; i += 64) write_page(page_at(memory, i), i, one + 1);
      for (size_t i = one; i < pages; i += 64) check(page_is(page_at(memory, i), i, one + 1));
      _exit(0);
    }
    for (unsigned one = 0; one < 10; ++one) {
      int status = 0;
      check(wait(&status) > 0 && status == 0);
    }
  }
  for (size_t i = 0; i < pages; ++i) check(page_is(page_at(memory, i), i, 0));
}

// One mapping to the server, and one after the other to the host: whoever fills gaps between pages
// that have been stored to gets mappings that the host cannot join.
static void pieces(char** arguments) {
  enum { PIECE = 4 };
  const size_t pages = pages_of(arguments[0]);
  byte* memory = map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  for (size_t i = PIECE; i < pages; i += 2 * PIECE) {
    check(munmap(page_at(memory, i), PIECE * PAGE) == 0);
  }
  for (size_t i = 0; i < pages; i += 2 * PIECE) *page_at(memory, i) = 1;
  for (size_t i = PIECE; i < pages; i += 2 * PIECE) {
    check(mmap(page_at(memory, i), PIECE * PAGE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page_at(memory, i));
  }
  use(memory, pages, 9);
}

// Memory that was all locked for a while leaves again.
static void after_mlockall(char** arguments) {
  const size_t pages = pages_of(arguments[0]);
  check(mlockall(MCL_CURRENT) == 0);
  check(munlockall() == 0);
  byte* memory = map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  use(memory, pages, 7);
}

// What may not be stored to, or not even read, leaves as well.
static void protections(char** arguments) {
  const size_t pages = pages_of(arguments[0]);
  byte* memory = map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  for (size_t i = 0; i < pages; ++i) {
    write_page(page_at(memory, i), i, 0);
    if (i % 16 != 15) continue;
    const int protection = i / 16 % 3 == 0 ? PROT_READ : i / 16 % 3 == 1 ? PROT_NONE : PROT_READ | PROT_WRITE;
    check(mprotect(memory + (i - 15) * PAGE, 16 * PAGE, protection) == 0);
  }
  for (size_t i = 0; i < pages; i += 16) {
    check(mprotect(memory + i * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE) == 0);
    for (size_t j = i; j < i + 16; ++j) check(page_is(page_at(memory, j), j, 0));
  }
}

struct part {
  byte* memory;
  size_t pages;
  uint64_t seed;
};

static void* use_part(void* argument) {
  const struct part* part = argument;
  use(part->memory, part->pages, part->seed);
  return NULL;
}

static void threads(char** arguments) {
  enum { kThreads = 4 };
  const size_t pages = pages_of(arguments[0]) / kThreads;
  byte* memory = map_pages(pages * kThreads, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  pthread_t thread[kThreads];
  struct part part[kThreads];
  for (unsigned i = 0; i < kThreads; ++i) {
    part[i] = (struct part){memory + i * pages * PAGE, pages, i + 10};
    check(pthread_create(&thread[i], NULL, use_part, &part[i]) == 0);
  }
  for (unsigned i = 0; i < kThreads; ++i) check(pthread_join(thread[i], NULL) == 0);
}

static volatile bool enough;

static void* read_directly(void* argument) {
  const char* path = argument;
  enum { kPages = 64 };
  const int descriptor = open(path, O_RDONLY | O_DIRECT);
  check(descriptor >= 0);
  byte* buffer = map_pages(kPages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  while (!enough) {
    memset(buffer, 0, kPages * PAGE);
    check(pread(descriptor, buffer, kPages * PAGE, 0) == (ssize_t)(kPages * PAGE));
    for (size_t i = 0; i < kPages * PAGE; ++i) check(buffer[i] == pattern_byte(i));
  }
  return NULL;
}

struct looked_at {
  byte* memory;
  size_t pages;
};

// Has pages leave and come back for as long as there is somebody to do it.
static void* look_on(void* argument) {
  const struct looked_at* what = argument;
  for (size_t i = 0;; i = (i + 1) % what->pages) (void)*(volatile uint64_t*)page_at(what->memory, i);
  return NULL;
}

// A parent that is killed as soon as it has forked, with pages on their way out: its child has them all.
static void orphans(char** arguments) {
  struct looked_at what = {NULL, pages_of(arguments[0])};
  const int rounds = atoi(arguments[1]);
  what.memory = map_pages(what.pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  for (size_t i = 0; i < what.pages; ++i) write_page(page_at(what.memory, i), i, 0);
  for (int round = 0; round < rounds; ++round) {
    int found[2];
    check(pipe(found) == 0);
    const pid_t parent = fork();
    check(parent >= 0);
    if (parent == 0) {
      // What is its own alone can leave.
      struct looked_at own = {what.memory, what.pages / 4};
      for (size_t i = 0; i < own.pages; ++i) write_page(page_at(own.memory, i), i, 1);
      pthread_t thread;
      check(pthread_create(&thread, NULL, look_on, &what) == 0);
      for (size_t i = 0; i < own.pages; ++i) write_page(page_at(own.memory, i), i, 2);
      const pid_t child = fork();
      check(child >= 0);
      if (child != 0) kill(getpid(), SIGKILL);
      for (size_t i = 0; i < own.pages; ++i) check(page_is(page_at(own.memory, i), i, 2));
      check(write(found[1], "", 1) == 1);
      _exit(0);
    }
    int status = 0;
    check(waitpid(parent, &status, 0) == parent && status == SIGKILL);
    check(close(found[1]) == 0);
    char word;
    check(read(found[0], &word, 1) == 1);
    check(close(found[0]) == 0);
  }
}

// Mappings that end next to others, where the kernel could take two for one: mremap brings them there, or
// minherit. What lies next to them still comes back.
static void neighbours(char** arguments) {
  enum { KEPT = 32, ROOM = 16, STRIDE = KEPT + ROOM };
  const bool remaps = strcmp(arguments[1], "remap") == 0;
  const size_t pages = pages_of(arguments[0]);
  byte* const far = (byte*)0x300000000000;
  byte* memory = map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  for (size_t i = KEPT; i < pages; i += STRIDE) {
    check(munmap(page_at(memory, i), ROOM * PAGE) == 0);
  }
  for (size_t i = 0; i < pages; ++i) {
    if (i % STRIDE < KEPT) write_page(page_at(memory, i), i, 0);
  }
  for (size_t i = KEPT; i + ROOM <= pages; i += STRIDE) {
    // Nobody has touched it: such a mapping looks as if it had been made where it goes.
    byte* other = mmap(far + i * PAGE, ROOM * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(other != MAP_FAILED);
    if (remaps) {
      check(mremap(other, ROOM * PAGE, ROOM * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                   page_at(memory, i)) == page_at(memory, i));
    } else {
      check(minherit(other, ROOM * PAGE, INHERIT_SHARE) == 0);
    }
  }
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < pages; ++i) {
      if (i % STRIDE >= KEPT) continue;
      check(page_is(page_at(memory, i), i, round));
      write_page(page_at(memory, i), i, round + 1);
    }
  }
}

// Direct I/O into memory that is being paged out: a page that the device still writes to must stay.
static void direct(char** arguments) {
  const size_t pages = pages_of(arguments[1]);
  pthread_t reader;
  check(pthread_create(&reader, NULL, read_directly, arguments[0]) == 0);
  use(map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1), pages, 8);
  enough = true;
  check(pthread_join(reader, NULL) == 0);
}

// Is what it is, and looks at it all when it is told to.
static void waits(char** arguments) {
  const size_t pages = pages_of(arguments[0]);
  byte* memory = map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  for (size_t i = 0; i < pages; ++i) write_page(page_at(memory, i), i, 0);
  say("waiting\n");
  await_word();
  for (size_t i = 0; i < pages; ++i) check(page_is(page_at(memory, i), i, 0));
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    void (*function)(char**);
  } cases[] = {{"private", private_memory}, {"shared", shared_memory},   {"file", file},
               {"children", children},      {"protections", protections}, {"threads", threads},
               {"direct", direct},          {"waits", waits},
               {"pieces", pieces},          {"neighbours", neighbours},
               {"orphans", orphans},
               {"after_mlockall", after_mlockall}};
  for (size_t i = 0; argc > 2 && i < sizeof(cases) / sizeof(cases[0]); ++i) {
    if (strcmp(argv[1], cases[i].name) != 0) continue;
    cases[i].function(argv + 2);
    return 0;
  }
  dprintf(STDERR_FILENO, "no such case\n");
  return 2;
}
