// mmap of regular files. arguments[0] is a file that holds the pattern.
#include "check.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static byte* map_file(int file, size_t bytes, int protection, int flags, off_t offset) {
  byte* at = mmap(NULL, bytes, protection, flags, file, offset);
  check(at != MAP_FAILED);
  return at;
}

static int open_file(const char* path, int flags) {
  const int file = open(path, flags);
  check(file >= 0);
  return file;
}

static size_t file_bytes(int file) {
  struct stat status;
  check(fstat(file, &status) == 0);
  return (size_t)status.st_size;
}

static bool file_holds(int file, size_t first, const byte* data, size_t bytes) {
  byte* read_back = malloc(bytes);
  const bool same = pread(file, read_back, bytes, (off_t)first) == (ssize_t)bytes &&
                    memcmp(read_back, data, bytes) == 0;
  free(read_back);
  return same;
}

static void read_private(char** arguments) {
  const int file = open_file(arguments[0], O_RDONLY);
  const size_t bytes = file_bytes(file);
  const byte* at = map_file(file, bytes, PROT_READ, MAP_PRIVATE, 0);
  check(close(file) == 0);
  check(is_pattern(at, bytes, 0));
  check(munmap((void*)at, bytes) == 0);
}

static void read_shared(char** arguments) {
  const int file = open_file(arguments[0], O_RDONLY);
  const size_t bytes = file_bytes(file);
  byte* at = map_file(file, bytes, PROT_READ, MAP_SHARED, 0);
  check(close(file) == 0);
  check(is_pattern(at, bytes, 0));
  check(signal_of_store(at, 1) == SIGSEGV);
}

static void write_private(char** arguments) {
  const int file = open_file(arguments[0], O_RDONLY);
  const size_t bytes = file_bytes(file);
  byte* at = map_file(file, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
  byte* other = map_file(file, bytes, PROT_READ, MAP_PRIVATE, 0);
  for (size_t i = 0; i < bytes; i += 3 * PAGE) at[i] = 0;
  for (size_t i = 0; i < bytes; ++i) {
    check(at[i] == (i % (3 * PAGE) == 0 ? 0 : pattern_byte(i)));
  }
  check(is_pattern(other, bytes, 0));
  check(munmap(at, bytes) == 0);
  check(file_holds(file, 0, other, bytes));
}

// Stores reach the file when asked for, and nothing but them.
static void write_shared(char** arguments) {
  const int file = open_file(arguments[0], O_RDWR);
  const size_t bytes = file_bytes(file);
  byte* at = map_file(file, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  byte* expected = malloc(bytes);
  fill_pattern(expected, bytes, 0);
  for (size_t i = 100; i < bytes; i += 5 * PAGE) at[i] = expected[i] = 0xee;
  check(msync(at, bytes, MS_SYNC) == 0);
  check(file_holds(file, 0, expected, bytes));
  for (size_t i = 200; i < bytes; i += 7 * PAGE) at[i] = expected[i] = 0xdd;
  check(memcmp(at, expected, bytes) == 0);
  check(munmap(at, bytes) == 0);
  check(file_holds(file, 0, expected, bytes));
  free(expected);
}

static void part_synced(char** arguments) {
  const int file = open_file(arguments[0], O_RDWR);
  const size_t bytes = file_bytes(file);
  byte* at = map_file(file, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  at[0] = 0xee;
  at[4 * PAGE] = 0xdd;
  check(msync(at + 4 * PAGE, PAGE, MS_SYNC) == 0);
  const byte stored = 0xdd;
  check(file_holds(file, 4 * PAGE, &stored, 1));
  check_error(EINVAL, msync(at, bytes, MS_ASYNC | MS_INVALIDATE) == -1);
  check(msync(at, bytes, MS_ASYNC) == 0);
  check(msync(at, 0, MS_SYNC) == 0);  // the whole mapping
  const byte first = 0xee;
  check(file_holds(file, 0, &first, 1));
  check(munmap(at, PAGE) == 0);
  check_error(EINVAL, msync(at, PAGE, MS_SYNC) == -1);
}

// Leaves its stores to the end of the program. arguments[1]: how it ends.
static void store_and_end(char** arguments) {
  const int file = open_file(arguments[0], O_RDWR);
  const size_t bytes = file_bytes(file);
  byte* at = map_file(file, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  for (size_t i = 0; i < bytes; ++i) at[i] = (byte)~pattern_byte(i);
  close(file);
  if (strcmp(arguments[1], "return") == 0) return;
  if (strcmp(arguments[1], "exit") == 0) exit(0);
  if (strcmp(arguments[1], "_exit") == 0) _exit(0);
  if (strcmp(arguments[1], "exec") == 0) execl("/bin/true", "true", NULL);
  if (strcmp(arguments[1], "abort") == 0) abort();
  raise(SIGKILL);
}

static void offsets(char** arguments) {
  const int file = open_file(arguments[0], O_RDONLY);
  const size_t bytes = file_bytes(file);
  for (size_t page = 0; page * PAGE < bytes; page += 3) {
    const size_t rest = bytes - page * PAGE;
    const byte* at = map_file(file, rest, PROT_READ, MAP_PRIVATE, (off_t)(page * PAGE));
    check(is_pattern(at, rest, page * PAGE));
    check(munmap((void*)at, rest) == 0);
  }
}

// freebsd-7: an offset inside a page gives the address of that very byte.
static void unaligned_offset(char** arguments) {
  const int file = open_file(arguments[0], O_RDONLY);
  const byte* at = map_file(file, 2 * PAGE, PROT_READ, MAP_PRIVATE, (off_t)(PAGE + 123));
  check((uintptr_t)at % PAGE == 123);
  check(is_pattern(at, 2 * PAGE, PAGE + 123));
  check(munmap((void*)at, 2 * PAGE) == 0);
}

static void tail(char** arguments) {
  const int file = open_file(arguments[0], O_RDWR);
  const size_t bytes = file_bytes(file);
  const size_t end = (bytes + PAGE - 1) / PAGE * PAGE;
  check(end != bytes);
  byte* at = map_file(file, end + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  check(is_filled(at + bytes, end - bytes, 0));
  check(signal_of_load(at + end) == SIGBUS);
  check(signal_of_store(at + end + PAGE, 1) == SIGBUS);
  at[bytes] = 0xee;  // behind the end: not the file's
  at[bytes - 1] = 0xdd;
  check(munmap(at, end + 2 * PAGE) == 0);
  check(file_bytes(file) == bytes);
  const byte last = 0xdd;
  check(file_holds(file, bytes - 1, &last, 1));
}

static void grown(char** arguments) {
  const int file = open_file(arguments[0], O_RDWR);
  const size_t bytes = file_bytes(file);
  byte* at = map_file(file, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  check(is_pattern(at, bytes, 0));
  check(ftruncate(file, (off_t)(2 * bytes)) == 0);
  byte* more = map_file(file, 2 * bytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  check(is_pattern(more, bytes, 0));
  check(is_filled(more + bytes, bytes, 0));
  fill_pattern(more + bytes, bytes, bytes);
  check(msync(more, 2 * bytes, MS_SYNC) == 0);
  check(file_holds(file, bytes, more + bytes, bytes));
}

static void unlinked(char** arguments) {
  const int file = open_file(arguments[0], O_RDWR);
  const size_t bytes = file_bytes(file);
  check(unlink(arguments[0]) == 0);
  byte* at = map_file(file, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  check(is_pattern(at, bytes, 0));
  at[0] = 0xee;
  check(msync(at, bytes, MS_SYNC) == 0);
  check(file_holds(file, 0, at, 1));
}

static void fixed(char** arguments) {
  const int file = open_file(arguments[0], O_RDONLY);
  byte* at = map_private(16 * PAGE);
  memset(at, 0xee, 16 * PAGE);
  check(mmap(at + 4 * PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, (off_t)PAGE) ==
        at + 4 * PAGE);
  check(is_pattern(at + 4 * PAGE, 2 * PAGE, PAGE));
  check(is_filled(at, 4 * PAGE, 0xee) && is_filled(at + 6 * PAGE, 10 * PAGE, 0xee));
  byte* const elsewhere = (byte*)0x220000000000;
  check(mmap(elsewhere, 4 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == elsewhere);
  check(is_pattern(elsewhere, 4 * PAGE, 0));
  check(munmap(elsewhere, 4 * PAGE) == 0);
  check(signal_of_load(elsewhere) == SIGSEGV);
}

static void rights(char** arguments) {
  const int read_only = open_file(arguments[0], O_RDONLY);
  const int write_only = open_file(arguments[0], O_WRONLY);
  check_error(EACCES,
              mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, read_only, 0) == MAP_FAILED);
  check_error(EACCES, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, write_only, 0) == MAP_FAILED);
  check_error(EACCES, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, write_only, 0) == MAP_FAILED);
  check(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, read_only, 0) != MAP_FAILED);
}

static void other_descriptors(char** arguments) {
  (void)arguments;
  int ends[2], sockets[2];
  check(pipe(ends) == 0);
  check(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  const int directory = open("/", O_RDONLY | O_DIRECTORY);
  check(directory >= 0);
  check_error(ENODEV, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ends[0], 0) == MAP_FAILED);
  check_error(ENODEV, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, sockets[0], 0) == MAP_FAILED);
  check_error(EINVAL, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, directory, 0) == MAP_FAILED);
  check_error(EBADF, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, 700, 0) == MAP_FAILED);
  check_error(EBADF, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, -5, 0) == MAP_FAILED);
  const int status = open("/proc/self/status", O_RDONLY);
  check(status >= 0);
  check(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, status, 0) == MAP_FAILED);
}

static void no_pager(char** arguments) {
  const int file = open_file(arguments[0], O_RDONLY);
  check_error(ENOMEM, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0) == MAP_FAILED);
}

// A memfd is one with its mapping: what is written to it, cut off or punched out shows at once.
static void memory_files(char** arguments) {
  (void)arguments;
  const int file = memfd_create("test", 0);
  check(file >= 0);
  check(ftruncate(file, (off_t)(8 * PAGE)) == 0);
  byte* at = map_file(file, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  check(is_filled(at, 8 * PAGE, 0));
  fill_pattern(at, 8 * PAGE, 0);
  check(msync(at, 8 * PAGE, MS_SYNC) == 0);
  check(file_holds(file, 0, at, 8 * PAGE));
  check(pwrite(file, "written", 7, (off_t)PAGE) == 7);
  check(memcmp(at + PAGE, "written", 7) == 0);
  check(fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(2 * PAGE),
                  (off_t)PAGE) == 0);
  check(is_filled(at + 2 * PAGE, PAGE, 0));
  check(munmap(at, 8 * PAGE) == 0);
}

// What the kernel makes of its own objects, mmap says; those of this machine that can be mapped are.
static void kernel_objects(char** arguments) {
  (void)arguments;
  struct io_uring_params ring = {0};
  struct perf_event_attr clock = {
      .type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_TASK_CLOCK, .size = sizeof(clock)};
  const struct {
    long descriptor;
    size_t bytes;
  } objects[] = {{syscall(SYS_io_uring_setup, 4, &ring), PAGE},
                 {syscall(SYS_perf_event_open, &clock, 0, -1, -1, 0), 2 * PAGE},
                 {eventfd(0, 0), PAGE},
                 {syscall(SYS_memfd_secret, 0), PAGE}};
  for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); ++i) {
    const int file = (int)objects[i].descriptor;
    if (file < 0) continue;  // not on this kernel, or not for us
    if (i == 3) check(ftruncate(file, (off_t)PAGE) == 0);
    const size_t bytes = objects[i].bytes;
    const long host = syscall(SYS_mmap, NULL, bytes, PROT_READ, MAP_SHARED, file, 0L);
    const int host_error = errno;
    check(host != -1 || i == 2);
    if (host != -1) check(syscall(SYS_munmap, host, bytes) == 0);
    byte* at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    check((at != MAP_FAILED) == (host != -1));
    if (at == MAP_FAILED) {
      check(errno == host_error);
      continue;
    }
    check(signal_of_load(at) == 0);
    check(munmap(at, bytes) == 0);
    check(close(file) == 0);
  }
}

// As linkers do it: nothing of the mapping is left when it is unmapped, or exec says ETXTBSY.
/* A new file that may be executed and has room for /bin/true. */
static int program_file(const char* path, size_t bytes) {
  check(unlink(path) == 0 || errno == ENOENT);
  const int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
  check(file >= 0 && ftruncate(file, (off_t)bytes) == 0);
  return file;
}

static void check_executes(const char* path) {
  const pid_t child = fork();
  if (child == 0) {
    execl(path, "true", NULL);
    fail_check(__FILE__, __LINE__, "execl");
  }
  check_child(child);
}

static void written_and_executed(char** arguments) {
  const int from = open("/bin/true", O_RDONLY);
  struct stat status;
  check(from >= 0 && fstat(from, &status) == 0);
  const size_t bytes = (size_t)status.st_size;
  for (int round = 0; round < 100; ++round) {
    const int file = program_file(arguments[0], bytes);
    byte* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    check(at != MAP_FAILED);
    check(pread(from, at, bytes, 0) == (ssize_t)bytes);
    check(munmap(at, bytes) == 0 && close(file) == 0);
    check_executes(arguments[0]);
  }
}

/* Nobody who was told of the file is needed for its end. */
static void mapped_and_executed(char** arguments) {
  const int from = open("/bin/true", O_RDONLY);
  struct stat status;
  check(from >= 0 && fstat(from, &status) == 0);
  const size_t bytes = (size_t)status.st_size;
  const int file = program_file(arguments[0], bytes);
  off_t offset = 0;
  check(sendfile(file, from, &offset, bytes) == (ssize_t)bytes);
  byte* at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  check(at != MAP_FAILED && munmap(at, bytes) == 0 && close(file) == 0);
  check_executes(arguments[0]);
}

/* Its last byte is the one that it is told. */
static void ends_with(char** arguments) {
  const int file = open_file(arguments[0], O_RDONLY);
  const size_t bytes = file_bytes(file);
  const byte* at = map_file(file, bytes, PROT_READ, MAP_SHARED, 0);
  check(at[bytes - 1] == (byte)arguments[1][0]);
}

CASES(CASE(read_private), CASE(read_shared), CASE(write_private), CASE(write_shared),
      CASE(part_synced), CASE(store_and_end), CASE(offsets), CASE(unaligned_offset), CASE(tail),
      CASE(grown), CASE(unlinked), CASE(fixed), CASE(rights), CASE(other_descriptors),
      CASE(memory_files), CASE(kernel_objects), CASE(no_pager), CASE(written_and_executed),
      CASE(mapped_and_executed), CASE(ends_with))
