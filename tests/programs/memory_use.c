// Memory that is used in known ways while a test looks on: run `memory_use CASE [ARGUMENT...]`.
//
// It says on stdout when it is ready. What it reads from descriptor 0 tells it to go on: then it checks
// what it has, and ends.
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"

static size_t pages_of(const char* megabytes) { return strtoul(megabytes, NULL, 10) * 256; }

static byte* map_pages(size_t pages, int flags, int descriptor) {
  byte* at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, descriptor, 0);
  check(at != MAP_FAILED);
  return at;
}

// Four words of each page say which page it is and how often it was changed.
static void write_page(byte* memory, size_t page, uint64_t changes) {
  uint64_t* words = (uint64_t*)(memory + page * PAGE);
  for (unsigned i = 0; i < 4; ++i) words[i * 170] = page * 1000003 + changes * 7919 + i;
}

static bool page_is(const byte* memory, size_t page, uint64_t changes) {
  const uint64_t* words = (const uint64_t*)(memory + page * PAGE);
  for (unsigned i = 0; i < 4; ++i) {
    if (words[i * 170] != page * 1000003 + changes * 7919 + i) return false;
  }
  return true;
}

static void fill(byte* memory, size_t pages) {
  for (size_t i = 0; i < pages; ++i) write_page(memory, i, 0);
}

static void check_filled(const byte* memory, size_t pages) {
  for (size_t i = 0; i < pages; ++i) check(page_is(memory, i, 0));
}

static void say_ready(void) { say("ready\n"); }

static void hold(byte* memory, size_t pages) {
  fill(memory, pages);
  say_ready();
  await_word();
  check_filled(memory, pages);
}

static void private_memory(char** arguments) {
  const size_t pages = pages_of(arguments[0]);
  hold(map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1), pages);
}

static void shared_memory(char** arguments) {
  const size_t pages = pages_of(arguments[0]);
  hold(map_pages(pages, MAP_SHARED | MAP_ANONYMOUS, -1), pages);
}

static int sized_file(const char* path, size_t pages) {
  const int descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  check(descriptor >= 0 && ftruncate(descriptor, (off_t)(pages * PAGE)) == 0);
  return descriptor;
}

static void shared_file(char** arguments) {
  const size_t pages = pages_of(arguments[1]);
  hold(map_pages(pages, MAP_SHARED, sized_file(arguments[0], pages)), pages);
}

// Copies that a program has of a file's pages.
static void private_file(char** arguments) {
  const size_t pages = pages_of(arguments[1]);
  hold(map_pages(pages, MAP_PRIVATE, sized_file(arguments[0], pages)), pages);
}

// A parent and children, each of which changes a third of the pages that they share.
static void family(char** arguments) {
  enum { kChildren = 2 };
  const size_t pages = pages_of(arguments[0]);
  byte* memory = map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  fill(memory, pages);
  int changed[2];
  int end[2];
  check(pipe(changed) == 0 && pipe(end) == 0);
  for (unsigned child = 0; child < kChildren; ++child) {
    const pid_t pid = fork();
    check(pid >= 0);
    if (pid != 0) continue;
    check(close(end[1]) == 0);
    const size_t first = child * pages / 3;
    for (size_t i = first; i < first + pages / 3; ++i) write_page(memory, i, child + 1);
    check(write(changed[1], "", 1) == 1);
    char none;
    check(read(end[0], &none, 1) == 0);
    for (size_t i = 0; i < pages; ++i) {
      const bool own = i >= first && i < first + pages / 3;
      check(page_is(memory, i, own ? child + 1 : 0));
    }
    _exit(0);
  }
  for (unsigned child = 0; child < kChildren; ++child) {
    char one;
    check(read(changed[0], &one, 1) == 1);
  }
  say_ready();
  await_word();
  check(close(end[1]) == 0);
  for (unsigned child = 0; child < kChildren; ++child) {
    int status = 0;
    check(wait(&status) > 0 && status == 0);
  }
  check_filled(memory, pages);
}

struct part {
  byte* memory;
  size_t pages;
};

static void* fill_part(void* argument) {
  const struct part* part = argument;
  fill(part->memory, part->pages);
  return NULL;
}

// Two threads that take memory as fast as they can.
static void greedy(char** arguments) {
  enum { kThreads = 2 };
  const size_t pages = pages_of(arguments[0]) / kThreads;
  pthread_t threads[kThreads];
  struct part parts[kThreads];
  say_ready();
  for (unsigned i = 0; i < kThreads; ++i) {
    parts[i] = (struct part){map_pages(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1), pages};
    check(pthread_create(&threads[i], NULL, fill_part, &parts[i]) == 0);
  }
  for (unsigned i = 0; i < kThreads; ++i) check(pthread_join(threads[i], NULL) == 0);
  for (unsigned i = 0; i < kThreads; ++i) check_filled(parts[i].memory, pages);
}

struct steps {
  byte* memory;
  size_t pages;
  uint64_t seed;
  _Atomic uint64_t done;
  _Atomic bool enough;
};

static void* make_steps(void* argument) {
  struct steps* steps = argument;
  uint32_t* changes = calloc(steps->pages, sizeof(*changes));
  check(changes != NULL);
  while (!steps->enough) {
    steps->seed = steps->seed * 6364136223846793005u + 1442695040888963407u;
    const size_t page = (steps->seed >> 33) % steps->pages;
    check(page_is(steps->memory, page, changes[page]));
    write_page(steps->memory, page, ++changes[page]);
    ++steps->done;
  }
  free(changes);
  return NULL;
}

// Changes pages at random; says how many it has changed as often as it is asked by a question mark.
static void random_steps(char** arguments) {
  struct steps steps = {.pages = pages_of(arguments[0]), .seed = strtoull(arguments[1], NULL, 10)};
  steps.memory = map_pages(steps.pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  fill(steps.memory, steps.pages);
  pthread_t thread;
  check(pthread_create(&thread, NULL, make_steps, &steps) == 0);
  say_ready();
  while (await_word() == '?') {
    dprintf(STDOUT_FILENO, "%llu\n", (unsigned long long)steps.done);
  }
  steps.enough = true;
  check(pthread_join(thread, NULL) == 0);
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    int arguments;
    void (*function)(char**);
  } cases[] = {{"private", 1, private_memory}, {"shared", 1, shared_memory},
               {"file", 2, shared_file},       {"copies", 2, private_file},
               {"family", 1, family},          {"greedy", 1, greedy},
               {"random", 2, random_steps}};
  for (size_t i = 0; argc > 1 && i < sizeof(cases) / sizeof(cases[0]); ++i) {
    if (strcmp(argv[1], cases[i].name) != 0 || argc - 2 != cases[i].arguments) continue;
    cases[i].function(argv + 2);
    return 0;
  }
  dprintf(STDERR_FILENO, "no such case\n");
  return 2;
}
