// Locks that lie in managed memory.
#include "check.h"

#include <fcntl.h>
#include <pthread.h>

struct shared {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  unsigned long turn;
  unsigned long count;
};

static void init(struct shared* at) {
  pthread_mutexattr_t mutex;
  pthread_condattr_t condition;
  check(pthread_mutexattr_init(&mutex) == 0 && pthread_condattr_init(&condition) == 0);
  check(pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) == 0);
  check(pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED) == 0);
  check(pthread_mutex_init(&at->mutex, &mutex) == 0);
  check(pthread_cond_init(&at->changed, &condition) == 0);
}

// Parent and child take turns.
static void take_turns(struct shared* at, unsigned long self) {
  enum { ROUNDS = 300 };
  for (int round = 0; round < ROUNDS; ++round) {
    check(pthread_mutex_lock(&at->mutex) == 0);
    while (at->turn != self) check(pthread_cond_wait(&at->changed, &at->mutex) == 0);
    ++at->count;
    at->turn = 1 - self;
    check(pthread_cond_broadcast(&at->changed) == 0);
    check(pthread_mutex_unlock(&at->mutex) == 0);
  }
}

static void with_child(struct shared* at) {
  init(at);
  const pid_t child = fork();
  if (child == 0) {
    take_turns(at, 1);
    _exit(0);
  }
  take_turns(at, 0);
  check_child(child);
  check(at->count == 600);
}

static void in_anonymous(char** arguments) {
  (void)arguments;
  with_child((struct shared*)map_shared(PAGE));
}

// arguments[0]: a file of a page
static void in_file(char** arguments) {
  const int file = open(arguments[0], O_RDWR);
  void* at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(at != MAP_FAILED);
  memset(at, 0, PAGE);
  with_child(at);
}

static void* turns_of_thread(void* at) {
  take_turns(at, 1);
  return NULL;
}

static void in_private(char** arguments) {
  (void)arguments;
  struct shared* at = (struct shared*)map_private(PAGE);
  init(at);
  pthread_t thread;
  check(pthread_create(&thread, NULL, turns_of_thread, at) == 0);
  take_turns(at, 0);
  check(pthread_join(thread, NULL) == 0);
  check(at->count == 600);
}

CASES(CASE(in_anonymous), CASE(in_file), CASE(in_private))
