// Does what it is told to the file arguments[0], over the socket that is descriptor arguments[1]:
// one of several processes, served and not, that share a file in every way there is
// (tests/integration/fsx_test.cc).
#include "file_steps.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "check.h"

static const char* path;
static int file = -1;
static int direct = -1;
static byte* shared;
static byte* private;
static _Alignas(4096) byte buffer[FILE_STEPS_MOST];
static struct file_step_outcome outcome;

static void map(void) {
  const size_t bytes = FILE_STEPS_PAGES * PAGE;
  shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  private = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
  check(shared != MAP_FAILED && private != MAP_FAILED);
}

static void unmap(void) {
  if (shared == NULL) return;
  check(munmap(shared, FILE_STEPS_PAGES * PAGE) == 0);
  check(munmap(private, FILE_STEPS_PAGES * PAGE) == 0);
  shared = private = NULL;
}

static void begin(void) {
  file = open(path, O_RDWR);
  direct = open(path, O_RDWR | O_DIRECT);  // not on every file system
  check(file >= 0);
  map();
}

static void fill(const struct file_step* step) {
  for (uint32_t i = 0; i < step->bytes; ++i) buffer[i] = step_byte(step->seed, i);
}

static void found(const void* data, ssize_t bytes) {
  if (bytes < 0) {
    outcome.error = errno;
    return;
  }
  memcpy(outcome.data, data, (size_t)bytes);
  outcome.bytes = (uint32_t)bytes;
}

static void did(bool well) {
  if (!well) outcome.error = errno != 0 ? errno : EIO;
}

// Halves, so that a vector has two parts.
static struct iovec* halves(uint32_t bytes) {
  static struct iovec vector[2];
  vector[0] = (struct iovec){buffer, bytes / 2};
  vector[1] = (struct iovec){buffer + bytes / 2, bytes - bytes / 2};
  return vector;
}

static void load(const byte* from, const struct file_step* step) {
  catch_faults();
  fault_is_expected = 1;
  const int number = sigsetjmp(fault_return, 1);
  if (number != 0) {
    outcome.error = -number;
    return;
  }
  memcpy(outcome.data, from + step->offset, step->bytes);
  outcome.bytes = step->bytes;
}

static void store(const struct file_step* step) {
  catch_faults();
  fault_is_expected = 1;
  const int number = sigsetjmp(fault_return, 1);
  if (number != 0) {
    outcome.error = -number;
    return;
  }
  for (uint32_t i = 0; i < step->bytes; ++i) shared[step->offset + i] = step_byte(step->seed, i);
}

static void through_pipe(const struct file_step* step, bool with_sendfile) {
  int ends[2];
  check(pipe(ends) == 0);
  off_t at = (off_t)step->offset;
  const ssize_t moved = with_sendfile ? sendfile(ends[1], file, &at, step->bytes)
                                      : splice(file, &at, ends[1], NULL, step->bytes, 0);
  close(ends[1]);
  ssize_t got = moved;
  if (moved > 0) {
    got = 0;
    ssize_t part;
    while ((part = read(ends[0], buffer + got, (size_t)(moved - got))) > 0) got += part;
  }
  found(buffer, got);
  close(ends[0]);
}

static void splice_in(const struct file_step* step) {
  int ends[2];
  check(pipe(ends) == 0);
  off_t at = (off_t)step->offset;
  check(write(ends[1], buffer, step->bytes) == (ssize_t)step->bytes);
  ssize_t left = step->bytes;
  while (left > 0) {
    const ssize_t moved = splice(ends[0], NULL, file, &at, (size_t)left, 0);
    if (moved <= 0) break;
    left -= moved;
  }
  did(left == 0);
  close(ends[0]);
  close(ends[1]);
}

static void with_stdio(const struct file_step* step, bool writes) {
  FILE* stream = fopen(path, writes ? "r+" : "r");
  check(stream != NULL);
  check(fseek(stream, (long)step->offset, SEEK_SET) == 0);
  if (writes) {
    did(fwrite(buffer, 1, step->bytes, stream) == step->bytes);
  } else {
    found(buffer, (ssize_t)fread(buffer, 1, step->bytes, stream));
  }
  check(fclose(stream) == 0);
}

static void lock_and_unlock(void) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  check(fcntl(file, F_SETLKW, &lock) == 0);
  lock.l_type = F_UNLCK;
  check(fcntl(file, F_SETLK, &lock) == 0);
}

static void take(const struct file_step* step) {
  const off_t at = (off_t)step->offset;
  const ssize_t bytes = step->bytes;
  const size_t count = step->bytes;
  switch (step->kind) {
    case STEP_READ:
      return found(buffer, pread(file, buffer, count, at));
    case STEP_READ_HERE:
      check(lseek(file, at, SEEK_SET) == at);
      return found(buffer, read(file, buffer, count));
    case STEP_READV:
      return found(buffer, preadv(file, halves(step->bytes), 2, at));
    case STEP_FREAD:
      return with_stdio(step, false);
    case STEP_READ_DIRECT:
      return found(buffer, pread(direct >= 0 ? direct : file, buffer, count, at));
    case STEP_SENDFILE:
    case STEP_SPLICE_OUT:
      return through_pipe(step, step->kind == STEP_SENDFILE);
    case STEP_LOAD:
      return load(shared, step);
    case STEP_LOAD_PRIVATE:
      return load(private, step);
    case STEP_WRITE:
      return did(pwrite(file, buffer, count, at) == bytes);
    case STEP_WRITE_HERE:
      check(lseek(file, at, SEEK_SET) == at);
      return did(write(file, buffer, count) == bytes);
    case STEP_WRITEV:
      return did(pwritev(file, halves(step->bytes), 2, at) == bytes);
    case STEP_FWRITE:
      return with_stdio(step, true);
    case STEP_APPEND: {
      const int end = open(path, O_WRONLY | O_APPEND);
      check(end >= 0);
      did(write(end, buffer, count) == bytes);
      check(close(end) == 0);
      return;
    }
    case STEP_WRITE_DIRECT:
      return did(pwrite(direct >= 0 ? direct : file, buffer, count, at) == bytes);
    case STEP_SPLICE_IN:
      return splice_in(step);
    case STEP_STORE:
      return store(step);
    case STEP_COPY: {
      off_t from = at;
      off_t to = (off_t)step->other;
      return did(copy_file_range(file, &from, file, &to, count, 0) == bytes);
    }
    case STEP_FTRUNCATE:
      return did(ftruncate(file, at) == 0);
    case STEP_TRUNCATE:
      return did(truncate(path, at) == 0);
    case STEP_OPEN_TRUNCATED: {
      const int empty = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
      did(empty >= 0);
      close(empty);
      return;
    }
    case STEP_PUNCH:
      return did(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, bytes) == 0);
    case STEP_ZERO:
      return did(fallocate(file, FALLOC_FL_ZERO_RANGE, at, bytes) == 0);
    case STEP_ALLOCATE:
      return did(posix_fallocate(file, at, bytes) == 0);
    case STEP_SYNC:
      return did(msync(shared, FILE_STEPS_PAGES * PAGE, MS_SYNC) == 0);
    case STEP_FSYNC:
      return did(fsync(file) == 0);
    case STEP_LOCK:
      return lock_and_unlock();
    case STEP_MAP_ANEW:
      unmap();
      close(file);
      close(direct);
      return begin();
    case STEP_UNMAP:
      return unmap();
    default:
      check(!"a known step");
  }
}

int main(int argc, char** argv) {
  check(argc == 3);
  path = argv[1];
  const int socket = atoi(argv[2]);
  begin();
  for (;;) {
    struct file_step step;
    check(recv(socket, &step, sizeof(step), 0) == (ssize_t)sizeof(step));
    if (step.kind == STEP_END) return 0;
    check(step.bytes <= FILE_STEPS_MOST);
    outcome.error = 0;
    outcome.bytes = 0;
    errno = 0;
    fill(&step);
    take(&step);
    const size_t length = offsetof(struct file_step_outcome, data) + outcome.bytes;
    check(send(socket, &outcome, length, 0) == (ssize_t)length);
  }
}
