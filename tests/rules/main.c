// rules_host, rules_freebsd: runs the rules of a personality and prints TAP, or prints the table.
//
//   rules_host PERSONALITY [--with OPTION] [CALL | CALL.NAME]…
//   rules_host --table
//
// Without --with it runs the rules that need no option of the server, with it those that need just
// that one. Exits with 0 when every rule held, 1 when one did not, 2 for bad arguments.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "numbers.h"
#include "rule.h"
#include "run.h"

static const char* const kNames[kPersonalities] = {"freebsd-7", "freebsd-14", "linux"};

// The order of docs/calls.md.
static const char* const kCalls[] = {
    "mmap",    "munmap", "mprotect", "minherit",    "msync",    "madvise",     "posix_madvise",
    "mincore", "mlock",  "mlock2",   "munlock",     "mlockall", "munlockall",  "mremap",
    "sbrk",    "brk",    "sstk",     "getpagesize", "ommap",    "ogetpagesize"};

static const struct rule* rules[1000];
static size_t rule_count;

void add_rule(const struct rule* rule) {
  if (rule_count == sizeof(rules) / sizeof(rules[0])) abort();
  rules[rule_count++] = rule;
}

static size_t call_order(const char* call) {
  for (size_t i = 0; i < sizeof(kCalls) / sizeof(kCalls[0]); ++i) {
    if (strcmp(kCalls[i], call) == 0) return i;
  }
  fprintf(stderr, "no place for the call \"%s\"\n", call);
  exit(2);
}

static int in_order(const void* left, const void* right) {
  const struct rule* a = *(const struct rule* const*)left;
  const struct rule* b = *(const struct rule* const*)right;
  const size_t a_call = call_order(a->call), b_call = call_order(b->call);
  if (a_call != b_call) return a_call < b_call ? -1 : 1;
  const int file = strcmp(a->file, b->file);
  return file != 0 ? file : a->line - b->line;
}

// ---- the table ----

static void print_string(const char* text) {
  if (text == NULL) {
    printf("null");
    return;
  }
  putchar('"');
  for (; *text != '\0'; ++text) {
    if (*text == '"' || *text == '\\') putchar('\\');
    putchar(*text);
  }
  putchar('"');
}

static void print_field(const char* name, const char* text) {
  printf("\"%s\": ", name);
  print_string(text);
}

static void print_table(void) {
  printf("{\"numbers\": \"" NUMBERS "\", \"rules\": [");
  for (size_t i = 0; i < rule_count; ++i) {
    const struct rule* rule = rules[i];
    printf("%s\n  {", i == 0 ? "" : ",");
    print_field("call", rule->call);
    printf(", ");
    print_field("name", rule->name);
    printf(", ");
    print_field("situation", rule->situation);
    printf(", ");
    print_field("option", rule->option);
    printf(", \"outcomes\": {");
    bool first = true;
    for (int p = 0; p < kPersonalities; ++p) {
      if (rule->outcomes[p].text == NULL) continue;
      printf("%s\"%s\": {", first ? "" : ", ", kNames[p]);
      print_field("text", rule->outcomes[p].text);
      printf(", ");
      print_field("source", rule->outcomes[p].source);
      printf("}");
      first = false;
    }
    printf("}}");
  }
  printf("\n]}\n");
}

// ---- running ----

static void remove_directory(const char* path) {
  DIR* const directory = opendir(path);
  if (directory == NULL) return;
  for (const struct dirent* entry; (entry = readdir(directory)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (unlinkat(dirfd(directory), entry->d_name, 0) != 0)
      unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
  }
  closedir(directory);
  rmdir(path);
}

// Each rule has a child of its own, in a directory of its own.
static const char* observe(const struct rule* rule, char* text, size_t bytes) {
  const char* parent = getenv("TMPDIR");
  char directory[200];
  snprintf(directory, sizeof(directory), "%s/rules.XXXXXX", parent != NULL ? parent : "/tmp");
  int ends[2];
  if (mkdtemp(directory) == NULL || pipe(ends) != 0) {
    perror(directory);
    exit(1);
  }
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) {
    perror("fork");
    exit(1);
  }
  if (child == 0) {
    setpgid(0, 0);
    close(ends[0]);
    report_to(ends[1]);
    if (chdir(directory) != 0) report("cannot enter its directory");
    report(rule->run());
  }
  close(ends[1]);
  read_report(ends[0], child, text, bytes);
  kill(-child, SIGKILL);
  remove_directory(directory);
  return text;
}

static bool run_rule(size_t number, const struct rule* rule, int personality) {
  const char* const expected = rule->outcomes[personality].text;
  char text[300];
  observe(rule, text, sizeof(text));
  if (strncmp(text, SKIPPED, strlen(SKIPPED)) == 0) {
    printf("ok %zu - %s.%s # SKIP %s\n", number, rule->call, rule->name, text + strlen(SKIPPED));
    return true;
  }
  if (strcmp(text, expected) == 0) {
    printf("ok %zu - %s.%s\n", number, rule->call, rule->name);
    return true;
  }
  printf("not ok %zu - %s.%s: expected \"%s\", got \"%s\"\n", number, rule->call, rule->name,
         expected, text);
  return false;
}

// CALL or CALL.NAME
static bool is_asked_for(const struct rule* rule, char** filters) {
  if (*filters == NULL) return true;
  char name[200];
  snprintf(name, sizeof(name), "%s.%s", rule->call, rule->name);
  for (; *filters != NULL; ++filters) {
    if (strcmp(*filters, rule->call) == 0 || strcmp(*filters, name) == 0) return true;
  }
  return false;
}

static bool needs(const struct rule* rule, const char* option) {
  if (rule->option == NULL || option == NULL) return rule->option == option;
  return strcmp(rule->option, option) == 0;
}

static int run(int personality, const char* option, char** filters) {
  const struct rule* chosen[sizeof(rules) / sizeof(rules[0])];
  size_t count = 0;
  for (size_t i = 0; i < rule_count; ++i) {
    if (rules[i]->outcomes[personality].text != NULL && needs(rules[i], option) &&
        is_asked_for(rules[i], filters)) {
      chosen[count++] = rules[i];
    }
  }
  printf("1..%zu\n", count);
  bool good = true;
  for (size_t i = 0; i < count; ++i) good &= run_rule(i + 1, chosen[i], personality);
  return good ? 0 : 1;
}

int main(int argc, char** argv) {
  qsort(rules, rule_count, sizeof(rules[0]), in_order);
  if (argc == 2 && strcmp(argv[1], "--table") == 0) {
    print_table();
    return 0;
  }
  for (int p = 0; argc > 1 && p < kPersonalities; ++p) {
    if (strcmp(argv[1], kNames[p]) != 0) continue;
    const bool with = argc > 3 && strcmp(argv[2], "--with") == 0;
    return run(p, with ? argv[3] : NULL, argv + (with ? 4 : 2));
  }
  fprintf(stderr,
          "usage: %s PERSONALITY [--with OPTION] [CALL | CALL.NAME]...\n       %s --table\n",
          argv[0], argv[0]);
  return 2;
}
