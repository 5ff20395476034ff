#include "libshim/file_view.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "libshim/session.h"
#include "libshim/syscall.h"

namespace shim {
namespace {

constexpr protocol::FileBoard kNobody{};

bool is_in(const protocol::FileFilter& filter, const File& file) {
  if (!file.regular || __atomic_load_n(&filter.files, __ATOMIC_ACQUIRE) == 0) return false;
  const uint32_t bit = protocol::board_bit(file.device, file.inode);
  return (__atomic_load_n(&filter.bits[bit / 64], __ATOMIC_ACQUIRE) >> bit % 64 & 1) != 0;
}

// Not with its times: a file whose times were asked for takes new ones at the next write, which that
// write pays for (Documentation/filesystems/multigrain-ts.rst).
File file_by(int directory, const char* path, int flags) {
  struct statx status;
  constexpr unsigned kAsked = STATX_TYPE | STATX_INO | STATX_SIZE;
  if (failed(sys(SYS_statx, directory, path, flags, kAsked, &status)) ||
      !S_ISREG(status.stx_mode)) {
    return {};
  }
  return {makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino, status.stx_size,
          true};
}

}  // namespace

const protocol::FileBoard* file_board = &kNobody;

File file_of(int descriptor) { return file_by(descriptor, "", AT_EMPTY_PATH); }

File file_at(int directory, const char* path, int flags) {
  return file_by(directory, path, (flags & O_NOFOLLOW) != 0 ? AT_SYMLINK_NOFOLLOW : 0);
}

bool is_mapped(const File& file) { return is_in(file_board->mapped, file); }
bool is_stored_to(const File& file) { return is_in(file_board->stored, file); }

void before_read(int descriptor, Bytes bytes) { before_read(file_of(descriptor), bytes); }

void before_read(const File& file, Bytes bytes) {
  if (!is_stored_to(file) || !ensure_session()) return;
  const uint64_t args[6] = {file.device, file.inode, bytes.from, bytes.to};
  call(protocol::kCallFileRead, args);
}

Change::Change(const File& file, Bytes at_most) : file_(file), at_most_(at_most) { begin(); }

void Change::begin() {
  number_ = 0;
  if (!is_mapped(file_) || !ensure_session()) return;
  begin_changing();
  const uint64_t args[6] = {file_.device, file_.inode, at_most_.from, at_most_.to};
  const Result result = call(protocol::kCallFileChange, args);
  if (result.error == 0) number_ = static_cast<uint64_t>(result.value);
  if (number_ == 0) end_changing();
}

bool Change::end(int descriptor, Bytes changed) {
  if (number_ == 0) {
    // Nobody had mapped it when this began. Who has since may show the file as it was.
    begin();
    return number_ == 0;
  }
  if (!say_changed(descriptor, changed)) return true;
  begin();
  return false;
}

void Change::give_up() {
  if (number_ != 0) say_changed(-1, {});
}

bool Change::say_changed(int descriptor, Bytes changed) {
  if (changed.from >= changed.to) descriptor = -1;
  const uint64_t args[6] = {number_, changed.from, changed.to};
  number_ = 0;
  const Result result = call(protocol::kCallFileChanged, args, descriptor);
  end_changing();
  return result.error == 0 && result.value != 0;
}

void after_lock() {
  if (!maps_files() || !ensure_session()) return;
  const uint64_t none[6] = {};
  call(protocol::kCallLocked, none);
}

void before_unlock() {
  if (!stores_into_files() || !ensure_session()) return;
  const uint64_t none[6] = {};
  call(protocol::kCallUnlock, none);
}

}  // namespace shim
