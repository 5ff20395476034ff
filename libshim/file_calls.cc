#include "libshim/file_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

#include "libshim/file_changes.h"
#include "libshim/file_view.h"
#include "libshim/redirect.h"
#include "libshim/session.h"
#include "libshim/syscall.h"

#ifndef RWF_APPEND
#define RWF_APPEND 0x10
#endif

namespace shim {
namespace {

// What still does what libc's functions did.
struct {
  ssize_t (*read)(int, void*, size_t);
  ssize_t (*pread)(int, void*, size_t, off_t);
  ssize_t (*readv)(int, const iovec*, int);
  ssize_t (*preadv)(int, const iovec*, int, off_t);
  ssize_t (*preadv2)(int, const iovec*, int, off_t, int);
  ssize_t (*write)(int, const void*, size_t);
  ssize_t (*pwrite)(int, const void*, size_t, off_t);
  ssize_t (*writev)(int, const iovec*, int);
  ssize_t (*pwritev)(int, const iovec*, int, off_t);
  ssize_t (*pwritev2)(int, const iovec*, int, off_t, int);
  ssize_t (*sendfile)(int, int, off_t*, size_t);
  ssize_t (*copy_file_range)(int, off_t*, int, off_t*, size_t, unsigned);
  ssize_t (*splice)(int, off_t*, int, off_t*, size_t, unsigned);
  int (*ftruncate)(int, off_t);
  int (*truncate)(const char*, off_t);
  int (*fallocate)(int, int, off_t, off_t);
  int (*posix_fallocate)(int, off_t, off_t);
  int (*posix_fallocate64)(int, off_t, off_t);
  int (*open)(const char*, int, ...);
  int (*openat)(int, const char*, int, ...);
  int (*creat)(const char*, mode_t);
  int (*fsync)(int);
  int (*fdatasync)(int);
  int (*sync_file_range)(int, off_t, off_t, unsigned);
  void (*sync)();
  int (*syncfs)(int);
  int (*fcntl)(int, int, ...);
  int (*flock)(int, int);
  int (*close)(int);
  void (*exit)(int);
  int (*execve)(const char*, char* const*, char* const*);
  int (*execveat)(int, const char*, char* const*, char* const*, int);
  int (*fexecve)(int, char* const*, char* const*);
  // Of libc's own, where a thread must not be cancelled.
  ssize_t (*read_nocancel)(int, void*, size_t);
  ssize_t (*pread_nocancel)(int, void*, size_t, off_t);
  ssize_t (*write_nocancel)(int, const void*, size_t);
  int (*open_nocancel)(const char*, int, ...);
  int (*close_nocancel)(int);
} original;

// Once the program has locked a file: to close one may give up locks.
bool takes_locks = false;

void before_read_here(int descriptor, uint64_t bytes) {
  if (__builtin_expect(!anybody_stores(), 1)) return;
  const File file = file_of(descriptor);
  if (is_stored_to(file)) before_read(file, bytes_from(position_of(descriptor), bytes));
}

void before_read_at(int descriptor, off_t at, uint64_t bytes) {
  if (__builtin_expect(!anybody_stores(), 1)) return;
  before_read(descriptor, bytes_from(static_cast<uint64_t>(at), bytes));
}

ssize_t file_read(int descriptor, void* buffer, size_t bytes) {
  before_read_here(descriptor, bytes);
  return original.read(descriptor, buffer, bytes);
}

ssize_t file_read_nocancel(int descriptor, void* buffer, size_t bytes) {
  before_read_here(descriptor, bytes);
  return original.read_nocancel(descriptor, buffer, bytes);
}

ssize_t file_pread(int descriptor, void* buffer, size_t bytes, off_t at) {
  before_read_at(descriptor, at, bytes);
  return original.pread(descriptor, buffer, bytes, at);
}

ssize_t file_pread_nocancel(int descriptor, void* buffer, size_t bytes, off_t at) {
  before_read_at(descriptor, at, bytes);
  return original.pread_nocancel(descriptor, buffer, bytes, at);
}

ssize_t file_readv(int descriptor, const iovec* vector, int count) {
  before_read_here(descriptor, kAnywhere);
  return original.readv(descriptor, vector, count);
}

ssize_t file_preadv(int descriptor, const iovec* vector, int count, off_t at) {
  before_read_at(descriptor, at, kAnywhere);
  return original.preadv(descriptor, vector, count, at);
}

ssize_t file_preadv2(int descriptor, const iovec* vector, int count, off_t at, int flags) {
  before_read_at(descriptor, 0, kAnywhere);
  return original.preadv2(descriptor, vector, count, at, flags);
}

ssize_t file_write(int descriptor, const void* buffer, size_t bytes) {
  const iovec vector{const_cast<void*>(buffer), bytes};
  return written(
      descriptor, &vector, kAnywhere, bytes, false,
      [&] { return sys(SYS_write, descriptor, buffer, bytes); },
      [&] { return original.write(descriptor, buffer, bytes); });
}

ssize_t file_write_nocancel(int descriptor, const void* buffer, size_t bytes) {
  const iovec vector{const_cast<void*>(buffer), bytes};
  return written<Cancel::never>(
      descriptor, &vector, kAnywhere, bytes, false,
      [&] { return sys(SYS_write, descriptor, buffer, bytes); },
      [&] { return original.write_nocancel(descriptor, buffer, bytes); });
}

ssize_t file_pwrite(int descriptor, const void* buffer, size_t bytes, off_t at) {
  const iovec vector{const_cast<void*>(buffer), bytes};
  return written(
      descriptor, &vector, static_cast<uint64_t>(at), bytes, false,
      [&] { return sys(SYS_pwrite64, descriptor, buffer, bytes, at); },
      [&] { return original.pwrite(descriptor, buffer, bytes, at); });
}

ssize_t file_writev(int descriptor, const iovec* vector, int count) {
  return written(
      descriptor, vector, kAnywhere, kAnywhere, false,
      [&] { return sys(SYS_writev, descriptor, vector, count); },
      [&] { return original.writev(descriptor, vector, count); });
}

ssize_t file_pwritev(int descriptor, const iovec* vector, int count, off_t at) {
  return written(
      descriptor, vector, static_cast<uint64_t>(at), kAnywhere, false,
      [&] { return sys(SYS_pwritev, descriptor, vector, count, at, 0); },
      [&] { return original.pwritev(descriptor, vector, count, at); });
}

ssize_t file_pwritev2(int descriptor, const iovec* vector, int count, off_t at, int flags) {
  const uint64_t where = at == -1 ? kAnywhere : static_cast<uint64_t>(at);
  return written(
      descriptor, vector, where, kAnywhere, (flags & RWF_APPEND) != 0,
      [&] { return sys(SYS_pwritev2, descriptor, vector, count, at, 0, flags); },
      [&] { return original.pwritev2(descriptor, vector, count, at, flags); });
}

ssize_t file_sendfile(int to, int from, off_t* at, size_t count) {
  return copied(
      from, to, nullptr, [&] { return sys(SYS_sendfile, to, from, at, count); },
      [&] { return original.sendfile(to, from, at, count); });
}

ssize_t file_copy_range(int from, off_t* from_at, int to, off_t* to_at, size_t count,
                        unsigned flags) {
  return copied(
      from, to, to_at,
      [&] { return sys(SYS_copy_file_range, from, from_at, to, to_at, count, flags); },
      [&] { return original.copy_file_range(from, from_at, to, to_at, count, flags); });
}

// A pipe can be waited for without end, and a change must not be.
ssize_t file_splice(int from, off_t* from_at, int to, off_t* to_at, size_t count, unsigned flags) {
  const auto as_it_was = [&] { return original.splice(from, from_at, to, to_at, count, flags); };
  const bool waits = (flags & SPLICE_F_NONBLOCK) == 0;
  for (;;) {
    if (waits && anybody_maps() && is_mapped(file_of(to))) {
      pollfd filled{from, POLLIN, 0};
      const long woken = sys(SYS_ppoll, &filled, 1, 0, 0, 0);
      if (failed(woken)) return returned(woken);
    }
    const ssize_t result = copied(
        from, to, to_at,
        [&] {
          return sys(SYS_splice, from, from_at, to, to_at, count, flags | SPLICE_F_NONBLOCK);
        },
        as_it_was);
    if (result >= 0 || errno != EAGAIN || !waits) return result;
  }
}

// To another size. Where it becomes larger nothing has changed that was there.
int file_ftruncate(int descriptor, off_t bytes) {
  const File file = anybody_maps() ? file_of(descriptor) : File{};
  if (!is_mapped(file)) return original.ftruncate(descriptor, bytes);
  return static_cast<int>(returned(changed(
      file, descriptor, kWholeFile, [&] { return sys(SYS_ftruncate, descriptor, bytes); },
      [](long) { return Bytes{}; })));
}

int file_truncate(const char* path, off_t bytes) {
  const File file = anybody_maps() ? file_at(AT_FDCWD, path, 0) : File{};
  if (!is_mapped(file)) return original.truncate(path, bytes);
  return static_cast<int>(returned(changed(
      file, -1, kWholeFile, [&] { return sys(SYS_truncate, path, bytes); },
      [](long) { return Bytes{}; })));
}

int file_fallocate(int descriptor, int mode, off_t from, off_t count) {
  const File file = anybody_maps() ? file_of(descriptor) : File{};
  if (!is_mapped(file)) return original.fallocate(descriptor, mode, from, count);
  pthread_testcancel();
  const auto act = [&] { return sys(SYS_fallocate, descriptor, mode, from, count); };
  if ((mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) != 0) {
    return static_cast<int>(returned(changed_once(file, descriptor, kWholeFile, act, [&](long) {
      return Bytes{static_cast<uint64_t>(from), kAnywhere};
    })));
  }
  return static_cast<int>(returned(changed(file, descriptor, kWholeFile, act, [&](long) {
    return bytes_from(static_cast<uint64_t>(from), static_cast<uint64_t>(count));
  })));
}

// Answers with the error. What it gives room to keeps its content.
template <class AsItWas>
int allocated(int descriptor, off_t from, off_t count, const AsItWas& as_it_was) {
  const File file = anybody_maps() ? file_of(descriptor) : File{};
  if (!is_mapped(file)) return as_it_was(descriptor, from, count);
  const long result = changed(
      file, descriptor, kWholeFile,
      [&] { return sys(SYS_fallocate, descriptor, 0, from, count); },
      [](long) { return Bytes{}; });
  // libc writes then.
  if (result == -EOPNOTSUPP) return as_it_was(descriptor, from, count);
  return static_cast<int>(-result);
}

int file_posix_fallocate(int descriptor, off_t from, off_t count) {
  return allocated(descriptor, from, count, original.posix_fallocate);
}

int file_posix_fallocate64(int descriptor, off_t from, off_t count) {
  return allocated(descriptor, from, count, original.posix_fallocate64);
}

// With O_TRUNC, of a file that is mapped.
template <class AsItWas>
int opened(int directory, const char* path, int flags, const AsItWas& as_it_was) {
  const File file = file_at(directory, path, flags);
  const bool announced = is_mapped(file);
  int descriptor;
  if (announced) {
    Change change(file, kWholeFile);
    descriptor = as_it_was();
    end_once(change, -1, {});
  } else {
    descriptor = as_it_was();
  }
  if (descriptor < 0) return descriptor;
  const File found = file_of(descriptor);
  const bool the_same = found.inode == file.inode && found.device == file.device;
  if (!(announced && the_same) && is_mapped(found)) {
    // Somebody has put another file there, or mapped it in between.
    Change late(found, kWholeFile);
    end_once(late, -1, {});
  }
  return descriptor;
}

int file_open(const char* path, int flags, unsigned mode) {
  if ((flags & O_TRUNC) == 0 || !anybody_maps()) return original.open(path, flags, mode);
  return opened(AT_FDCWD, path, flags, [&] { return original.open(path, flags, mode); });
}

int file_open_nocancel(const char* path, int flags, unsigned mode) {
  if ((flags & O_TRUNC) == 0 || !anybody_maps()) return original.open_nocancel(path, flags, mode);
  return opened(AT_FDCWD, path, flags, [&] { return original.open_nocancel(path, flags, mode); });
}

int file_openat(int directory, const char* path, int flags, unsigned mode) {
  if ((flags & O_TRUNC) == 0 || !anybody_maps()) {
    return original.openat(directory, path, flags, mode);
  }
  return opened(directory, path, flags,
                [&] { return original.openat(directory, path, flags, mode); });
}

int file_creat(const char* path, mode_t mode) {
  if (!anybody_maps()) return original.creat(path, mode);
  return opened(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC,
                [&] { return original.creat(path, mode); });
}

int file_fsync(int descriptor) {
  before_read_at(descriptor, 0, kAnywhere);
  return original.fsync(descriptor);
}

int file_fdatasync(int descriptor) {
  before_read_at(descriptor, 0, kAnywhere);
  return original.fdatasync(descriptor);
}

int file_sync_range(int descriptor, off_t from, off_t count, unsigned flags) {
  before_read_at(descriptor, 0, kAnywhere);
  return original.sync_file_range(descriptor, from, count, flags);
}

void file_sync() {
  before_unlock();
  original.sync();
}

int file_syncfs(int descriptor) {
  before_unlock();
  return original.syncfs(descriptor);
}

// lockf comes here, too.
int file_fcntl(int descriptor, int command, void* argument) {
  switch (command) {
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      break;
    default:
      return original.fcntl(descriptor, command, argument);
  }
  before_unlock();
  const int result = original.fcntl(descriptor, command, argument);
  if (result >= 0 && static_cast<const struct flock*>(argument)->l_type != F_UNLCK) {
    __atomic_store_n(&takes_locks, true, __ATOMIC_RELAXED);
    after_lock();
  }
  return result;
}

int file_flock(int descriptor, int operation) {
  before_unlock();
  const int result = original.flock(descriptor, operation);
  if (result >= 0 && (operation & ~LOCK_NB) != LOCK_UN) {
    __atomic_store_n(&takes_locks, true, __ATOMIC_RELAXED);
    after_lock();
  }
  return result;
}

void before_close(int descriptor) {
  if (!__atomic_load_n(&takes_locks, __ATOMIC_RELAXED) || !stores_into_files()) return;
  if (file_of(descriptor).regular) before_unlock();
}

int file_close(int descriptor) {
  before_close(descriptor);
  return original.close(descriptor);
}

int file_close_nocancel(int descriptor) {
  before_close(descriptor);
  return original.close_nocancel(descriptor);
}

// Whoever waits for the program's end, or is executed by it, finds in the files what it stored.
void file_exit(int status) {
  before_unlock();
  original.exit(status);
}

int file_execve(const char* path, char* const* arguments, char* const* environment) {
  before_unlock();
  return original.execve(path, arguments, environment);
}

int file_execveat(int directory, const char* path, char* const* arguments,
                  char* const* environment, int flags) {
  before_unlock();
  return original.execveat(directory, path, arguments, environment, flags);
}

int file_fexecve(int descriptor, char* const* arguments, char* const* environment) {
  before_unlock();
  return original.fexecve(descriptor, arguments, environment);
}

// The types differ where libc's function takes any number of arguments.
template <class Function, class Original>
Redirection caught(const char* name, Function* target, Original** original_of) {
  return {name, nullptr, 0, reinterpret_cast<const void*>(target), false,
          reinterpret_cast<void**>(original_of)};
}

}  // namespace

void catch_file_calls() {
  const Redirection redirections[] = {
      caught("read", file_read, &original.read),
      caught("pread64", file_pread, &original.pread),
      caught("readv", file_readv, &original.readv),
      caught("preadv64", file_preadv, &original.preadv),
      caught("preadv64v2", file_preadv2, &original.preadv2),
      caught("write", file_write, &original.write),
      caught("pwrite64", file_pwrite, &original.pwrite),
      caught("writev", file_writev, &original.writev),
      caught("pwritev64", file_pwritev, &original.pwritev),
      caught("pwritev64v2", file_pwritev2, &original.pwritev2),
      caught("sendfile64", file_sendfile, &original.sendfile),
      caught("copy_file_range", file_copy_range, &original.copy_file_range),
      caught("splice", file_splice, &original.splice),
      caught("ftruncate64", file_ftruncate, &original.ftruncate),
      caught("truncate64", file_truncate, &original.truncate),
      caught("fallocate64", file_fallocate, &original.fallocate),
      caught("posix_fallocate", file_posix_fallocate, &original.posix_fallocate),
      caught("posix_fallocate64", file_posix_fallocate64, &original.posix_fallocate64),
      caught("open64", file_open, &original.open),
      caught("openat64", file_openat, &original.openat),
      caught("creat64", file_creat, &original.creat),
      caught("fsync", file_fsync, &original.fsync),
      caught("fdatasync", file_fdatasync, &original.fdatasync),
      caught("sync_file_range", file_sync_range, &original.sync_file_range),
      caught("sync", file_sync, &original.sync),
      caught("syncfs", file_syncfs, &original.syncfs),
      caught("fcntl64", file_fcntl, &original.fcntl),
      caught("flock", file_flock, &original.flock),
      caught("close", file_close, &original.close),
      caught("_exit", file_exit, &original.exit),
      caught("execve", file_execve, &original.execve),
      caught("execveat", file_execveat, &original.execveat),
      caught("fexecve", file_fexecve, &original.fexecve),
      caught("__read_nocancel", file_read_nocancel, &original.read_nocancel),
      caught("__pread64_nocancel", file_pread_nocancel, &original.pread_nocancel),
      caught("__write_nocancel", file_write_nocancel, &original.write_nocancel),
      caught("__open64_nocancel", file_open_nocancel, &original.open_nocancel),
      caught("__close_nocancel", file_close_nocancel, &original.close_nocancel),
  };
  redirect_libc(redirections, sizeof(redirections) / sizeof(redirections[0]));
}

bool clone_file(int descriptor, unsigned long request, void* argument, long& result) {
  if (request != FICLONE && request != FICLONERANGE) return false;
  const auto act = [&] { return sys(SYS_ioctl, descriptor, request, argument); };
  const File file = anybody_maps() ? file_of(descriptor) : File{};
  if (anybody_stores()) before_unlock();
  result = is_mapped(file)
               ? changed(file, descriptor, kWholeFile, act, [](long) { return kWholeFile; })
               : act();
  return true;
}

}  // namespace shim
