// Reads through io_uring into memory that is being paged out:
//   uring CASE FILE MEGABYTES
// FILE holds pattern_byte(); MEGABYTES of private memory are used meanwhile, more than there is.
//
// The system calls are made without liburing, so nobody but the kernel hears of the buffers.
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "check.h"

enum {
  kRequests = 8,
  kPages = 8,  // of one read
  kFilePages = 64,
  kPlaces = 32,  // of a read, in one's memory
};
static const size_t kPiece = kPages * PAGE;

struct ring {
  int descriptor;
  _Atomic unsigned* submitted;
  unsigned submission_mask;
  unsigned* submissions;
  struct io_uring_sqe* requests;
  _Atomic unsigned* taken;
  _Atomic unsigned* completed;
  unsigned completion_mask;
  struct io_uring_cqe* completions;
};

static void open_ring(struct ring* ring) {
  struct io_uring_params parameters = {0};
  ring->descriptor = (int)syscall(SYS_io_uring_setup, kRequests, &parameters);
  check(ring->descriptor >= 0);
  check((parameters.features & IORING_FEAT_SINGLE_MMAP) != 0);
  const size_t submission_bytes =
      parameters.sq_off.array + parameters.sq_entries * sizeof(unsigned);
  const size_t completion_bytes =
      parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe);
  const size_t bytes = submission_bytes > completion_bytes ? submission_bytes : completion_bytes;
  byte* rings =
      mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->descriptor, IORING_OFF_SQ_RING);
  ring->requests = mmap(NULL, parameters.sq_entries * sizeof(struct io_uring_sqe),
                        PROT_READ | PROT_WRITE, MAP_SHARED, ring->descriptor, IORING_OFF_SQES);
  check(rings != MAP_FAILED && ring->requests != MAP_FAILED);
  ring->submitted = (_Atomic unsigned*)(rings + parameters.sq_off.tail);
  ring->submission_mask = *(unsigned*)(rings + parameters.sq_off.ring_mask);
  ring->submissions = (unsigned*)(rings + parameters.sq_off.array);
  ring->taken = (_Atomic unsigned*)(rings + parameters.cq_off.head);
  ring->completed = (_Atomic unsigned*)(rings + parameters.cq_off.tail);
  ring->completion_mask = *(unsigned*)(rings + parameters.cq_off.ring_mask);
  ring->completions = (struct io_uring_cqe*)(rings + parameters.cq_off.cqes);
}

static void submit(struct ring* ring, const struct io_uring_sqe* request) {
  const unsigned at = atomic_load(ring->submitted);
  ring->requests[at & ring->submission_mask] = *request;
  ring->submissions[at & ring->submission_mask] = at & ring->submission_mask;
  atomic_store(ring->submitted, at + 1);
  check(syscall(SYS_io_uring_enter, ring->descriptor, 1, 0, 0, NULL, 0) == 1);
}

struct completion {
  uint64_t request;
  int result;
};

static struct completion await(struct ring* ring) {
  const unsigned at = atomic_load(ring->taken);
  while (atomic_load(ring->completed) == at) {
    const long entered =
        syscall(SYS_io_uring_enter, ring->descriptor, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    check(entered >= 0 || errno == EINTR);
  }
  const struct io_uring_cqe* entry = &ring->completions[at & ring->completion_mask];
  const struct completion completion = {entry->user_data, entry->res};
  atomic_store(ring->taken, at + 1);
  return completion;
}

struct reader {
  int descriptor;
  byte* memory;  // kPlaces pieces
  bool registered;
};

static atomic_bool enough;

static void* read_on_and_on(void* argument) {
  const struct reader* reader = argument;
  struct ring ring;
  open_ring(&ring);
  const size_t bytes = kPlaces * kPiece;
  if (reader->registered) {
    const struct iovec whole = {reader->memory, bytes};
    check(syscall(SYS_io_uring_register, ring.descriptor, IORING_REGISTER_BUFFERS, &whole, 1) == 0);
  }
  size_t place = 0;
  for (unsigned round = 0; !enough || round < 8; ++round) {
    const size_t first = place;
    for (unsigned i = 0; i < kRequests; ++i) {
      // Else it would find what the last time has left.
      memset(reader->memory + (first + i) % kPlaces * kPiece, 0, kPiece);
    }
    for (unsigned i = 0; i < kRequests; ++i) {
      const struct io_uring_sqe request = {
          .opcode = reader->registered ? IORING_OP_READ_FIXED : IORING_OP_READ,
          .fd = reader->descriptor,
          .off = (round * kRequests + i) * kPiece % (kFilePages * PAGE),
          .addr = (uintptr_t)reader->memory + (first + i) % kPlaces * kPiece,
          .len = (unsigned)kPiece,
          .user_data = i,
      };
      submit(&ring, &request);
    }
    for (unsigned i = 0; i < kRequests; ++i) {
      const struct completion completion = await(&ring);
      errno = completion.result < 0 ? -completion.result : 0;
      check(completion.result == (int)kPiece);
      const size_t offset = (round * kRequests + completion.request) * kPiece % (kFilePages * PAGE);
      byte* at = reader->memory + (first + completion.request) % kPlaces * kPiece;
      check(is_pattern(at, kPiece, offset));
    }
    // Not all places are of the same age.
    place += 1 + round % kRequests;
  }
  check(close(ring.descriptor) == 0);
  return NULL;
}

// Uses more private memory than there is, while `reader` reads.
static void read_beside(char** arguments, struct reader reader) {
  const size_t bytes = strtoul(arguments[1], NULL, 10) << 20;
  // Direct I/O writes to the pages themselves, later; not all file systems have it.
  reader.descriptor = open(arguments[0], O_RDONLY | O_DIRECT);
  if (reader.descriptor < 0) reader.descriptor = open(arguments[0], O_RDONLY);
  check(reader.descriptor >= 0);
  pthread_t thread;
  check(pthread_create(&thread, NULL, read_on_and_on, &reader) == 0);
  byte* memory = map_private(bytes);
  for (unsigned pass = 0; pass < 3; ++pass) {
    for (size_t at = 0; at < bytes; at += PAGE) {
      check(pass == 0 || is_pattern(memory + at, PAGE, at + pass - 1));
      fill_pattern(memory + at, PAGE, at + pass);
    }
  }
  enough = true;
  check(pthread_join(thread, NULL) == 0);
}

static void any_buffer(char** arguments) {
  read_beside(arguments, (struct reader){.memory = map_private(kPlaces * kPiece)});
}

static void registered(char** arguments) {
  read_beside(arguments,
              (struct reader){.memory = map_private(kPlaces * kPiece), .registered = true});
}

// What is registered is copied for a child, not shared with it.
static void registered_and_forks(char** arguments) {
  struct reader reader = {.memory = map_private(kPlaces * kPiece), .registered = true};
  const pid_t child = fork();
  check(child >= 0);
  if (child == 0) {
    read_beside(arguments, reader);
    _exit(0);
  }
  read_beside(arguments, reader);
  check_child(child);
}

CASES(CASE(any_buffer), CASE(registered), CASE(registered_and_forks))
