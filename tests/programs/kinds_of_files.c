// Maps, reads and writes files in the ways that have to be as on the host, in the directory
// arguments[1], and prints what it finds. The same run served and not prints the same.
#include "check.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define GIB ((off_t)1 << 30)

static int new_file(const char* name, size_t bytes) {
  const int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
  check(file >= 0);
  byte* content = malloc(bytes);
  fill_pattern(content, bytes, 0);
  check(write(file, content, bytes) == (ssize_t)bytes);
  free(content);
  return file;
}

static byte* map_file(int file, size_t bytes, off_t at) {
  byte* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, at);
  check(memory != MAP_FAILED);
  return memory;
}

static int byte_at(int file, off_t at) {
  byte value = 0;
  return pread(file, &value, 1, at) == 1 ? value : -1;
}

static void renamed_and_unlinked(void) {
  const int file = new_file("a", 3 * PAGE);
  byte* memory = map_file(file, 3 * PAGE, 0);
  memory[1] = 201;
  check(rename("a", "b") == 0);
  memory[2] = 202;
  const int again = open("b", O_RDWR);
  printf("renamed: %d %d\n", byte_at(again, 1), byte_at(again, 2));
  check(link("b", "hard") == 0 && symlink("b", "soft") == 0);
  memory[3] = 203;
  const int hard = open("hard", O_RDONLY);
  const int soft = open("soft", O_RDONLY);
  printf("linked: %d %d\n", byte_at(hard, 3), byte_at(soft, 3));
  // Another file takes the name: the mapping keeps the old one.
  const int other = new_file("c", 2 * PAGE);
  check(rename("c", "b") == 0);
  memory[4] = 204;
  check(pwrite(other, "\7", 1, 4) == 1);
  const int replaced = open("b", O_RDONLY);
  printf("replaced: %d %d %d\n", byte_at(hard, 4), byte_at(replaced, 4), memory[4]);
  check(unlink("b") == 0 && unlink("hard") == 0 && unlink("soft") == 0);
  memory[5] = 205;
  struct stat status;
  check(fstat(file, &status) == 0);
  printf("unlinked: %d, %d links\n", byte_at(file, 5), (int)status.st_nlink);
  check(munmap(memory, 3 * PAGE) == 0);
  printf("unmapped: %d\n", byte_at(file, 5));
  close(file), close(again), close(hard), close(soft), close(other), close(replaced);
}

static void with_holes(void) {
  const int file = new_file("holes", 8 * PAGE);
  byte* memory = map_file(file, 8 * PAGE, 0);
  const int before = memory[3 * PAGE];
  memory[4 * PAGE] = 99;
  const int punched = fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE + 100,
                                3 * PAGE);
  printf("punched %d: %d, then %d %d %d %d\n", punched == 0 ? 0 : errno, before, memory[2 * PAGE],
         memory[2 * PAGE + 100], memory[4 * PAGE], memory[5 * PAGE + 100]);
  memory[3 * PAGE] = 98;
  printf("stored into the hole: %d\n", byte_at(file, 3 * PAGE));
  check(munmap(memory, 8 * PAGE) == 0);
  close(file);
  check(unlink("holes") == 0);
}

static void sparse_and_large(void) {
  const int file = open("large", O_RDWR | O_CREAT | O_TRUNC, 0644);
  check(file >= 0);
  printf("to 6 GiB: %d\n", ftruncate(file, 6 * GIB) == 0 ? 0 : errno);
  byte* memory = map_file(file, 2 * PAGE, 5 * GIB);
  printf("sparse: %d\n", memory[PAGE]);
  memory[10] = 77;
  printf("behind 4 GiB: %d\n", byte_at(file, 5 * GIB + 10));
  check(pwrite(file, "\10", 1, 5 * GIB + PAGE) == 1);
  printf("written there: %d\n", memory[PAGE]);
  byte* whole = map_file(file, 6 * (size_t)GIB, 0);
  printf("seen from the start: %d %d\n", whole[5 * (size_t)GIB + 10], whole[(size_t)GIB]);
  check(ftruncate(file, 5 * GIB + 20) == 0);
  printf("cut: %d, signal %d\n", whole[5 * (size_t)GIB + 10],
         signal_of_load(whole + 5 * (size_t)GIB + PAGE));
  check(munmap(memory, 2 * PAGE) == 0 && munmap(whole, 6 * (size_t)GIB) == 0);
  struct stat status;
  check(fstat(file, &status) == 0);
  printf("size %lld, sparse %d\n", (long long)status.st_size, status.st_blocks < 2048);
  close(file);
  check(unlink("large") == 0);
}

static void try_to_map(const char* path, int flags, int protection, int type) {
  const int file = open(path, flags);
  if (file < 0) {
    printf("%s: open %d\n", path, errno);
    return;
  }
  byte* memory = mmap(NULL, PAGE, protection, type, file, 0);
  printf("%s: mmap %d\n", path, memory == MAP_FAILED ? errno : 0);
  if (memory != MAP_FAILED) check(munmap(memory, PAGE) == 0);
  close(file);
}

static void what_cannot_be_mapped(void) {
  try_to_map("/proc/self/status", O_RDONLY, PROT_READ, MAP_PRIVATE);
  try_to_map("/proc/self/status", O_RDONLY, PROT_READ, MAP_SHARED);
  try_to_map("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY, PROT_READ, MAP_SHARED);
  try_to_map("/sys/power/state", O_RDONLY, PROT_READ, MAP_SHARED);
}

static void read_only_mount(void) {
  close(new_file("plain", PAGE));
  if (mkdir("mounted", 0755) != 0 || mount(".", "mounted", NULL, MS_BIND, NULL) != 0) {
    printf("no bind mount: %d\n", errno);
    return;
  }
  check(mount(NULL, "mounted", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0);
  try_to_map("mounted/plain", O_RDWR, PROT_READ, MAP_SHARED);
  try_to_map("mounted/plain", O_RDONLY, PROT_READ, MAP_SHARED);
  try_to_map("mounted/plain", O_RDONLY, PROT_READ | PROT_WRITE, MAP_SHARED);
  try_to_map("mounted/plain", O_RDONLY, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  // Written through the other path, seen through this one.
  const int writable = open("plain", O_RDWR);
  const int readable = open("mounted/plain", O_RDONLY);
  byte* const written = map_file(writable, PAGE, 0);
  const byte* const seen = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, readable, 0);
  check(seen != MAP_FAILED);
  written[9] = 55;
  printf("through both: %d %d\n", seen[9], byte_at(readable, 9));
  check(pwrite(writable, "\5", 1, 10) == 1);
  printf("through both: %d %d\n", seen[10], byte_at(readable, 10));
  close(writable), close(readable);
  check(munmap(written, PAGE) == 0 && munmap((void*)seen, PAGE) == 0);
  check(umount("mounted") == 0 && rmdir("mounted") == 0 && unlink("plain") == 0);
}

static void own_memory(void) {
  const int memory_file = memfd_create("own", 0);
  check(memory_file >= 0 && ftruncate(memory_file, 2 * PAGE) == 0);
  byte* first = map_file(memory_file, 2 * PAGE, 0);
  byte* second = map_file(memory_file, 2 * PAGE, 0);
  first[1] = 31;
  check(pwrite(memory_file, "\40", 1, PAGE) == 1);
  printf("memfd: %d %d %d\n", second[1], byte_at(memory_file, 1), second[PAGE]);
  char name[64];
  snprintf(name, sizeof(name), "/kinds-of-files-%d", (int)getpid());
  const int shared = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  check(shared >= 0 && ftruncate(shared, 2 * PAGE) == 0);
  byte* here = map_file(shared, 2 * PAGE, 0);
  const pid_t child = fork();
  if (child == 0) {
    const int again = shm_open(name, O_RDWR, 0);
    byte* there = map_file(again, 2 * PAGE, 0);
    there[3] = 33;
    check(pwrite(again, "\42", 1, 4) == 1);
    _exit(0);
  }
  check_child(child);
  printf("shm: %d %d %d\n", here[3], here[4], byte_at(shared, 3));
  check(shm_unlink(name) == 0);
  close(memory_file), close(shared);
}

static void private_changes(void) {
  const int file = new_file("private", 4 * PAGE);
  byte* mine = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  byte* shared = map_file(file, 4 * PAGE, 0);
  mine[1] = 11;
  shared[2] = 12;
  check(pwrite(file, "\15", 1, 3) == 1);
  printf("private: %d, shared %d %d, file %d %d %d\n", mine[1], shared[1], shared[2],
         byte_at(file, 1), byte_at(file, 2), byte_at(file, 3));
  // A page that is not its own yet shows what the file gets.
  check(pwrite(file, "\16", 1, PAGE + 3) == 1);
  shared[PAGE + 4] = 15;
  printf("not touched: %d %d\n", mine[PAGE + 3], mine[PAGE + 4]);
  check(msync(mine, 4 * PAGE, MS_SYNC) == 0 && munmap(mine, 4 * PAGE) == 0);
  printf("afterwards: %d\n", byte_at(file, 1));
  close(file);
  check(unlink("private") == 0);
}

int main(int argc, char** argv) {
  check(argc == 2 && chdir(argv[1]) == 0);
  renamed_and_unlinked();
  with_holes();
  sparse_and_large();
  what_cannot_be_mapped();
  read_only_mount();
  own_memory();
  private_changes();
  return 0;
}
