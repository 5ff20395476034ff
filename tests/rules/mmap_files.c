// mmap: what a descriptor must be and allows, and what a mapping of a file shows.
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "observe.h"
#include "rule.h"

// ---- what can be mapped ----

static const char* map_one(int descriptor, int protection, int flags) {
  return mapped(mmap(NULL, PAGE, protection, flags, descriptor, 0));
}

RULE(mmap, bad_descriptor, "a descriptor that is not open",
     EVERYWHERE("EBADF", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return map_one(1000, PROT_READ, MAP_PRIVATE);
}

RULE(mmap, no_descriptor, "the descriptor -1, without MAP_ANON",
     EVERYWHERE("EBADF", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return map_one(-1, PROT_READ, MAP_PRIVATE);
}

RULE(mmap, pipe, "a pipe", EVERYWHERE("ENODEV", "seed mmap()", "mmap(2)", "mmap(2)")) {
  int ends[2];
  require(pipe(ends) == 0);
  return map_one(ends[0], PROT_READ, MAP_PRIVATE);
}

RULE(mmap, socket, "a socket", EVERYWHERE("ENODEV", "seed mmap()", "mmap(2)", "mmap(2)")) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
  require(descriptor >= 0);
  return map_one(descriptor, PROT_READ, MAP_PRIVATE);
}

RULE(mmap, directory, "a directory", FREEBSD_7("EINVAL", "seed vm_mmap_vnode()"),
     FREEBSD_14("ENODEV", "mmap(2)"), LINUX("ENODEV", "mmap(2)")) {
  return map_one(open(".", O_RDONLY), PROT_READ, MAP_PRIVATE);
}

RULE(mmap, fifo, "a FIFO", FREEBSD_7("EINVAL", "seed vm_mmap_vnode()"),
     FREEBSD_14("ENODEV", "mmap(2)"), LINUX("ENODEV", "mmap(2)")) {
  require(mkfifo("fifo", 0600) == 0);
  return map_one(open("fifo", O_RDWR), PROT_READ, MAP_PRIVATE);
}

RULE(mmap, posix_shared_memory, "a POSIX shared memory object: what another mapping of it stored",
     EVERYWHERE("reads 9", "seed mmap()", "mmap(2)", "shm_open(3)")) {
  char name[40];
  snprintf(name, sizeof(name), "/rules.%d", (int)getpid());
  const int object = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  require(object >= 0);
  require(shm_unlink(name) == 0);
  require(ftruncate(object, PAGE) == 0);
  byte* const at = mmap(NULL, PAGE, READ_WRITE, MAP_SHARED, object, 0);
  if (at == MAP_FAILED) return error_name(errno);
  *at = 9;
  return load(map_file(object, 1, PROT_READ, MAP_SHARED));
}

RULE(mmap, no_links_left, "a file that is not linked any more is stored to, then msync",
     EVERYWHERE("the file has it", "seed vm_mmap_vnode()", "mmap(2)", "mmap(2)")) {
  const int file = open("gone", O_RDWR | O_CREAT, 0600);
  require(file >= 0 && unlink("gone") == 0 && ftruncate(file, PAGE) == 0);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC) == 0);
  return file_state(file, 0, 9);
}

// ---- what the descriptor allows ----

RULE(mmap, read_without_the_right, "PROT_READ of a file that is open for writing only",
     EVERYWHERE("EACCES", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return map_one(open_again(new_file(1), O_WRONLY), PROT_READ, MAP_PRIVATE);
}

RULE(mmap, nothing_without_the_right_to_read, "PROT_NONE of a file that is open for writing only",
     BOTH_FREEBSDS("maps it", "seed mmap()", "mmap(2)"), LINUX("EACCES", "mmap(2)")) {
  return map_one(open_again(new_file(1), O_WRONLY), PROT_NONE, MAP_PRIVATE);
}

RULE(mmap, write_without_the_right_to_read,
     "PROT_WRITE, shared, of a file that is open for writing only",
     BOTH_FREEBSDS("maps it", "seed mmap()", "mmap(2)"), LINUX("EACCES", "mmap(2)")) {
  return map_one(open_again(new_file(1), O_WRONLY), PROT_WRITE, MAP_SHARED);
}

RULE(mmap, read_later_without_the_right,
     "a file that is open for writing only, mapped PROT_NONE, is to become readable",
     BOTH_FREEBSDS("EACCES", "seed mmap()", "mprotect(2)"), LINUX("EACCES", "mmap(2)")) {
  void* const at = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE, open_again(new_file(1), O_WRONLY), 0);
  if (at == MAP_FAILED) return error_name(errno);
  return status(mprotect(at, PAGE, PROT_READ));
}

RULE(mmap, shared_write_without_the_right,
     "PROT_WRITE, shared, of a file that is open for reading only",
     EVERYWHERE("EACCES", "seed mmap()", "mmap(2)", "mmap(2)")) {
  return map_one(open_again(new_file(1), O_RDONLY), READ_WRITE, MAP_SHARED);
}

RULE(mmap, private_write_without_the_right,
     "PROT_WRITE, private, of a file that is open for reading only: a store, and the file",
     EVERYWHERE("reads 9, the file has its own", "seed mmap()", "mmap(2)", "mmap(2)")) {
  const int file = open_again(new_file(1), O_RDONLY);
  byte* const at = mmap(NULL, PAGE, READ_WRITE, MAP_PRIVATE, file, 0);
  if (at == MAP_FAILED) return error_name(errno);
  *at = 9;
  return say("%s, %s", load(at), file_state(file, 0, 9));
}

RULE(mmap, private_write_later,
     "a file open for reading only, mapped privately, is to become writable",
     EVERYWHERE("succeeds", "seed mmap()", "mprotect(2)", "mprotect(2)")) {
  byte* const at = map_file(open_again(new_file(1), O_RDONLY), 1, PROT_READ, MAP_PRIVATE);
  return status(mprotect(at, PAGE, READ_WRITE));
}

// A file on a mount of its own; what is mounted goes with the process.
static int file_on_noexec_mount(void) {
  need_root();
  if (unshare(CLONE_NEWNS) != 0) skip("no mount namespaces");
  require(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
  require(mkdir("mounted", 0700) == 0);
  if (mount("none", "mounted", "tmpfs", MS_NOEXEC, NULL) != 0) skip("no tmpfs");
  const int file = open("mounted/file", O_RDWR | O_CREAT, 0700);
  require(file >= 0 && ftruncate(file, PAGE) == 0);
  return file;
}

RULE(mmap, execute_on_noexec_mount, "PROT_EXEC of a file on a mount that forbids execution",
     BOTH_FREEBSDS("EACCES", "seed mmap()", "vfs_vnops.c vn_mmap()"), LINUX("EPERM", "mmap(2)")) {
  return map_one(file_on_noexec_mount(), PROT_READ | PROT_EXEC, MAP_PRIVATE);
}

RULE(mmap, execute_later_on_noexec_mount,
     "a file on a mount that forbids execution is mapped for reading and is to become executable",
     EVERYWHERE("EACCES", "seed mmap()", "mprotect(2)", "mprotect(2)")) {
  byte* const at = map_file(file_on_noexec_mount(), 1, PROT_READ, MAP_PRIVATE);
  return status(mprotect(at, PAGE, PROT_READ | PROT_EXEC));
}

// chattr +i or +a; the attribute is taken away again by forget_attribute().
static int file_with_attribute(int attribute) {
  need_root();
  const int file = new_file(1);
  int attributes = 0;
  if (ioctl(file, FS_IOC_GETFLAGS, &attributes) != 0) skip("no file attributes here");
  attributes |= attribute;
  if (ioctl(file, FS_IOC_SETFLAGS, &attributes) != 0) skip("no file attributes here");
  return file;
}

static const char* forget_attribute(int file, const char* text) {
  int attributes = 0;
  require(ioctl(file, FS_IOC_GETFLAGS, &attributes) == 0);
  attributes &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
  require(ioctl(file, FS_IOC_SETFLAGS, &attributes) == 0);
  return text;
}

RULE(mmap, shared_write_of_immutable, "PROT_WRITE, shared, of an immutable file",
     BOTH_FREEBSDS("EPERM", "seed vm_mmap_vnode()", "vm_mmap.c vm_mmap_vnode()")) {
  const int file = file_with_attribute(FS_IMMUTABLE_FL);
  return forget_attribute(file, map_one(file, READ_WRITE, MAP_SHARED));
}

RULE(mmap, write_of_immutable_later,
     "an immutable file, mapped shared for reading, is to become writable",
     BOTH_FREEBSDS("EACCES", "seed vm_mmap_vnode()", "vm_mmap.c vm_mmap_vnode()")) {
  const int file = file_with_attribute(FS_IMMUTABLE_FL);
  byte* const at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
  if (at == MAP_FAILED) return forget_attribute(file, error_name(errno));
  return forget_attribute(file, status(mprotect(at, PAGE, READ_WRITE)));
}

RULE(mmap, private_write_of_immutable, "PROT_WRITE, private, of an immutable file",
     EVERYWHERE("maps it", "seed vm_mmap_vnode()", "vm_mmap.c vm_mmap_vnode()", "mmap(2)")) {
  const int file = file_with_attribute(FS_IMMUTABLE_FL);
  return forget_attribute(file, map_one(file, READ_WRITE, MAP_PRIVATE));
}

RULE(mmap, shared_write_of_append_only,
     "PROT_WRITE, shared, of a file that can only be appended to",
     BOTH_FREEBSDS("EPERM", "seed vm_mmap_vnode()", "vm_mmap.c vm_mmap_vnode()"),
     LINUX("EACCES", "mmap(2)")) {
  const int file = file_with_attribute(FS_APPEND_FL);
  return forget_attribute(file, map_one(file, READ_WRITE, MAP_SHARED));
}

// ---- what a mapping shows ----

RULE(mmap, file_is_read, "the second page of a file's mapping",
     EVERYWHERE("reads 2", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  return load(map_file(new_file(2), 2, PROT_READ, MAP_PRIVATE) + PAGE);
}

RULE(mmap, file_offset, "a mapping at an offset of one page",
     EVERYWHERE("reads 2", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  const byte* const at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, new_file(2), PAGE);
  require(at != MAP_FAILED);
  return load(at);
}

RULE(mmap, shared_store, "a store to a shared mapping of a file, then msync",
     EVERYWHERE("the file has it", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  const int file = new_file(1);
  byte* const at = map_file(file, 1, READ_WRITE, MAP_SHARED);
  *at = 9;
  require(msync(at, PAGE, MS_SYNC) == 0);
  return file_state(file, 0, 9);
}

RULE(mmap, shared_store_elsewhere, "a store to a shared mapping of a file: another mapping of it",
     EVERYWHERE("reads 9", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  const int file = new_file(1);
  const byte* const other = map_file(file, 1, PROT_READ, MAP_SHARED);
  *map_file(file, 1, READ_WRITE, MAP_SHARED) = 9;
  return load(other);
}

RULE(mmap, private_store,
     "a store to a private mapping of a file: another mapping of it, and the file",
     EVERYWHERE("reads 1, the file has its own", "seed vm_mmap()", "mmap(2)", "mmap(2)")) {
  const int file = new_file(1);
  const byte* const other = map_file(file, 1, PROT_READ, MAP_SHARED);
  *map_file(file, 1, READ_WRITE, MAP_PRIVATE) = 9;
  return say("%s, %s", load(other), file_state(file, 0, 9));
}

RULE(mmap, closed_descriptor, "a mapping whose descriptor was closed before the first touch",
     EVERYWHERE("reads 1", "seed mmap()", "mmap(2)", "mmap(2)")) {
  const int file = new_file(1);
  const byte* const at = map_file(file, 1, PROT_READ, MAP_PRIVATE);
  require(close(file) == 0);
  return load(at);
}

RULE(mmap, rest_of_last_page, "the rest of a file's last page, behind its end",
     EVERYWHERE("reads 0", "seed vm_mmap_vnode()", "mmap(2)", "mmap(2)")) {
  const int file = new_file(1);
  require(ftruncate(file, 100) == 0);
  return load(map_file(file, 1, PROT_READ, MAP_PRIVATE) + 100);
}

RULE(mmap, behind_the_end, "the page behind a file's last one",
     EVERYWHERE("SIGBUS", "seed vm_mmap_vnode()", "mmap(2)", "mmap(2)")) {
  return load(map_file(new_file(1), 2, PROT_READ, MAP_PRIVATE) + PAGE);
}

RULE(mmap, access_time, "mapping a file whose access time is old, and reading it: the access time",
     EVERYWHERE("is marked", "seed vm_mmap_vnode()", AS_7, "mmap(2)")) {
  const int file = new_file(1);
  struct statvfs where;
  require(fstatvfs(file, &where) == 0);
  if ((where.f_flag & ST_NOATIME) != 0) skip("the directory is on a mount without access times");
  const struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
  require(futimens(file, old) == 0);
  (void)load(map_file(file, 1, PROT_READ, MAP_PRIVATE));
  struct stat status;
  require(fstat(file, &status) == 0);
  return status.st_atim.tv_sec == old[0].tv_sec ? "is not marked" : "is marked";
}
