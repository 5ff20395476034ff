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
//
// What a lane is: crowd_lane.h. What it does: crowd_calls.h. Here are the processes and threads
// that have it done.
#include "crowd_steps.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>

#include "check.h"
#include "crowd_calls.h"
#include "crowd_lane.h"

enum { kMostLanes = 3, kMostDepth = 3, kMostProcesses = 12 };

static uint64_t quota;
static unsigned lane_count;
static struct lane lanes[kMostLanes];
static bool may_fork = true;
static uint64_t steps_of_process = UINT64_MAX;  // each lane
// Held for reading by who takes a step, and for writing by who forks while the others stand still.
static pthread_rwlock_t steps_lock;

static bool enough(void) { return __atomic_load_n(&board->steps, __ATOMIC_RELAXED) >= quota; }

static void init_steps_lock(struct lane* lane) {
  pthread_rwlockattr_t attributes;
  must(lane, pthread_rwlockattr_init(&attributes) == 0);
  must(lane, pthread_rwlockattr_setkind_np(&attributes,
                                           PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
  must(lane, pthread_rwlock_init(&steps_lock, &attributes) == 0);
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
    if (page->inherited == AS_ZEROES) {
      memset(page->key, 0, sizeof(page->key));
      memset(page->base, 0, sizeof(page->base));
      page->has_base = page->foreign = false;
    }
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
    if (one_in(lane, board->forks_in)) fork_child(lane);
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
  find_minherit();
  catch_faults();
  tell_more_of_fault = tell_of_page;
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
