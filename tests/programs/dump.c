// Memory that is looked at from outside: in a core file, by a debugger, in /proc.
#include "check.h"

static byte* region;

static void have_memory(void) {
  region = map_private(1024 * PAGE);
  memcpy(region + 5 * PAGE, "the word in private memory", 27);
  byte* shared = map_shared(64 * PAGE);
  memcpy(shared + 3 * PAGE, "the word in shared memory", 26);
  // Some that comes and goes, which must not be looked for in the file.
  for (size_t i = 0; i < 200; ++i) {
    byte* at = map_private(64 * PAGE);
    at[0] = 1;
    check(munmap(at, 64 * PAGE) == 0);
  }
}

static void aborts(char** arguments) {
  (void)arguments;
  have_memory();
  abort();
}

// Says where: one page that is there, one that is not.
static void waits(char** arguments) {
  (void)arguments;
  have_memory();
  char line[100];
  const int length = snprintf(line, sizeof(line), "present %p absent %p end\n",
                              (void*)(region + 5 * PAGE), (void*)(region + 900 * PAGE));
  check(write(1, line, (size_t)length) == length);
  char word = 0;
  check(read(0, &word, 1) == 1);
  check(memcmp(region + 5 * PAGE, "The", 3) == 0);  // the debugger stored that
  check(is_filled(region + 900 * PAGE, PAGE, 0));
}

// Whether /proc/self/maps has all of the range, with these rights.
static bool shown(const byte* at, size_t bytes, const char* rights) {
  FILE* maps = fopen("/proc/self/maps", "re");
  check(maps != NULL);
  const uintptr_t wanted_end = (uintptr_t)at + bytes;
  uintptr_t covered = (uintptr_t)at;
  char line[512];
  while (fgets(line, sizeof(line), maps) != NULL) {
    unsigned long start = 0, end = 0;
    char seen[5] = {0};
    check(sscanf(line, "%lx-%lx %4s", &start, &end, seen) == 3);
    if (start <= covered && covered < end && strcmp(seen, rights) == 0) covered = end;
  }
  check(fclose(maps) == 0);
  return covered >= wanted_end;
}

static void in_proc_maps(char** arguments) {
  (void)arguments;
  byte* at = map_private(16 * PAGE);
  check(shown(at, 16 * PAGE, "rw-p"));
  at[0] = 1;
  check(mprotect(at + 4 * PAGE, 4 * PAGE, PROT_READ) == 0);
  check(mprotect(at + 8 * PAGE, 4 * PAGE, PROT_NONE) == 0);
  check(mprotect(at + 12 * PAGE, 4 * PAGE, PROT_READ | PROT_EXEC) == 0);
  check(shown(at, 4 * PAGE, "rw-p"));
  check(shown(at + 4 * PAGE, 4 * PAGE, "r--p"));
  check(shown(at + 8 * PAGE, 4 * PAGE, "---p"));
  check(shown(at + 12 * PAGE, 4 * PAGE, "r-xp"));
  byte* shared = map_shared(16 * PAGE);
  check(shown(shared, 16 * PAGE, "rw-s"));
  check(munmap(at, 16 * PAGE) == 0);
  check(!shown(at, PAGE, "rw-p") && !shown(at + 4 * PAGE, PAGE, "r--p"));
}

// What has been unmapped is in no line, as natively.
static void unmapped_in_proc_maps(char** arguments) {
  (void)arguments;
  // Nothing may be allocated after the unmapping: it could go where that was.
  static char buffer[65536];
  FILE* maps = fopen("/proc/self/maps", "re");
  check(maps != NULL);
  check(setvbuf(maps, buffer, _IOFBF, sizeof(buffer)) == 0);
  byte* at = map_private(16 * PAGE);
  at[0] = 1;
  check(munmap(at, 16 * PAGE) == 0);
  char line[512];
  while (fgets(line, sizeof(line), maps) != NULL) {
    unsigned long start = 0, end = 0;
    check(sscanf(line, "%lx-%lx", &start, &end) == 2);
    check((uintptr_t)at + 16 * PAGE <= start || end <= (uintptr_t)at);
  }
  check(fclose(maps) == 0);
}

CASES(CASE(aborts), CASE(waits), CASE(in_proc_maps), CASE(unmapped_in_proc_maps))
