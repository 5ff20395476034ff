// One view of a file: what the server has to hear when a program reads or changes a file otherwise
// than through a mapping.
//
// The server's file board (protocol/file_board.h) says which files that concerns; nobody else pays
// more than a look there. A read first has what programs stored into mappings brought to the file. A
// change is announced and ended: in between nothing that was stored goes to the pages that change,
// and afterwards the mappings show what the file has. Everything about the change itself stays the
// kernel's: errors, positions, limits.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "libshim/lock.h"
#include "protocol/file_board.h"

namespace shim {

/// The server's page, or one of zeroes where there is no server.
extern const protocol::FileBoard* file_board;

/// Whether anybody maps a file, or stores into one.
inline bool anybody_maps() {
  return __atomic_load_n(&file_board->mapped.files, __ATOMIC_ACQUIRE) != 0;
}
inline bool anybody_stores() {
  return __atomic_load_n(&file_board->stored.files, __ATOMIC_ACQUIRE) != 0;
}

/// A regular file; `regular` is false for everything else.
struct File {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t bytes = 0;
  bool regular = false;
};
File file_of(int descriptor);
/// As openat(2) with these flags would find it.
File file_at(int directory, const char* path, int flags);

bool is_mapped(const File& file);
bool is_stored_to(const File& file);

/// Bytes of a file; empty when nothing is known to have changed.
struct Bytes {
  uint64_t from = 0;
  uint64_t to = 0;
};
inline constexpr Bytes kWholeFile{0, ~uint64_t{0}};
/// `count` bytes from `from` on, or up to the end of all files.
inline Bytes bytes_from(uint64_t from, uint64_t count) {
  return {from, count > ~from ? ~uint64_t{0} : from + count};
}

/// Before a read: what was stored into mappings is in the file afterwards.
void before_read(int descriptor, Bytes bytes);
void before_read(const File& file, Bytes bytes);

/// A change of a file that is mapped. As long as it lives no signal is delivered: a handler could
/// wait for the very change that it has interrupted.
class Change {
 public:
  Change(const File& file, Bytes at_most);
  /// One that was not ended was not made.
  ~Change() { give_up(); }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

  /// What has another content now, with a descriptor that may write; without one only the size is
  /// looked at. False when the change took so long that stored pages went ahead of it, or when nobody
  /// had to be told when it began but now somebody has: it has to be made once more, and has begun
  /// again.
  bool end(int descriptor, Bytes changed);
  /// The same without a range, and for good.
  void give_up();

 private:
  void begin();
  /// Whether pages went ahead.
  bool say_changed(int descriptor, Bytes changed);

  const SignalsBlocked blocked_;
  const File file_;
  const Bytes at_most_;
  uint64_t number_ = 0;
};

/// The program has taken a lock, or is about to give one up: what it maps is as the files are, what
/// it stored is in the files.
void after_lock();
void before_unlock();

}  // namespace shim
