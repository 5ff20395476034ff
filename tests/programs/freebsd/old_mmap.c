// 4.3BSD's mmap, which no header declares.
#include <sys/mman.h>
#include <sys/param.h>

#include "../check.h"

#include <fcntl.h>

extern caddr_t ommap(caddr_t address, int length, int protection, int flags, int descriptor,
                     long position);
extern int ogetpagesize(void);

enum { kExecute = 1, kWrite = 2, kRead = 4 };
enum { kAnonymous = 0x2, kShared = 0x10, kFixed = 0x100 };

static void anonymous(char** arguments) {
  (void)arguments;
  byte* at = (byte*)ommap(NULL, 4 * PAGE_SIZE, kRead | kWrite, kAnonymous, -1, 0);
  check(at != MAP_FAILED && is_filled(at, 4 * PAGE_SIZE, 0));
  fill_pattern(at, 4 * PAGE_SIZE, 0);
  check(ommap((caddr_t)at, PAGE_SIZE, kRead, kAnonymous | kFixed, -1, 0) == (caddr_t)at);
  check(is_filled(at, PAGE_SIZE, 0));
  check(is_pattern(at + PAGE_SIZE, 3 * PAGE_SIZE, PAGE_SIZE));
  check(signal_of_store(at, 1) == SIGSEGV);
}

// Bit 0 is execution there, not reading.
static void protection(char** arguments) {
  (void)arguments;
  byte* at = (byte*)ommap(NULL, PAGE_SIZE, kRead | kExecute, kAnonymous, -1, 0);
  check(at != MAP_FAILED);
  check(signal_of_load(at) == 0);
  check(signal_of_store(at, 1) == SIGSEGV);
}

// arguments[0]: a file of 4 pages
static void file(char** arguments) {
  const int descriptor = open(arguments[0], O_RDWR);
  check(descriptor >= 0);
  byte* own = (byte*)ommap(NULL, 4 * PAGE_SIZE, kRead | kWrite, 0, descriptor, 0);
  byte* all = (byte*)ommap(NULL, 4 * PAGE_SIZE, kRead | kWrite, kShared, descriptor, 0);
  check(own != MAP_FAILED && all != MAP_FAILED);
  memset(own, 0xdd, PAGE_SIZE);
  check(is_pattern(all, 4 * PAGE_SIZE, 0));
  memset(all, 0xee, PAGE_SIZE);
  check(is_filled(own, PAGE_SIZE, 0xdd));
  check(msync(all, PAGE_SIZE, MS_SYNC) == 0);
  byte read_back[PAGE_SIZE];
  check(pread(descriptor, read_back, sizeof(read_back), 0) == (ssize_t)sizeof(read_back));
  check(is_filled(read_back, sizeof(read_back), 0xee));
}

static void refusals(char** arguments) {
  (void)arguments;
  check_error(EINVAL, ommap(NULL, -PAGE_SIZE, kRead, kAnonymous, -1, 0) == (caddr_t)-1);
  check_error(EBADF, ommap(NULL, PAGE_SIZE, kRead, 0, 800, 0) == (caddr_t)-1);
  check(ogetpagesize() == PAGE_SIZE);
}

static void unserved(char** arguments) {
  (void)arguments;
  check_error(ENOSYS, ommap(NULL, PAGE_SIZE, kRead, kAnonymous, -1, 0) == (caddr_t)-1);
  check(ogetpagesize() == PAGE_SIZE);
}

CASES(CASE(anonymous), CASE(protection), CASE(file), CASE(refusals), CASE(unserved))
