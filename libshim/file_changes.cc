#include "libshim/file_changes.h"

#include <fcntl.h>
#include <unistd.h>

#include "libshim/report.h"

#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif

namespace shim {

uint64_t position_of(int descriptor) {
  const long at = sys(SYS_lseek, descriptor, 0, SEEK_CUR);
  return failed(at) ? 0 : static_cast<uint64_t>(at);
}

bool appends(int descriptor) {
  const long flags = sys(SYS_fcntl, descriptor, F_GETFL);
  return !failed(flags) && (flags & O_APPEND) != 0;
}

// `vector` is the program's, and only the kernel can tell safely whether it can be read: a write that
// succeeded has shown that.
void write_again(int descriptor, const File& file, const iovec* vector, Bytes bytes) {
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  const int flags = appends(descriptor) ? RWF_NOAPPEND : 0;  // Linux 6.9
  for (uint64_t at = bytes.from; at < bytes.to; ++vector) {
    iovec part = *vector;
    while (part.iov_len != 0 && at < bytes.to) {
      iovec piece = part;
      if (piece.iov_len > kPiece) piece.iov_len = kPiece;
      if (piece.iov_len > bytes.to - at) piece.iov_len = bytes.to - at;
      Change change(file, bytes_from(at, piece.iov_len));
      long wrote;
      do {
        wrote = sys(SYS_pwritev2, descriptor, &piece, 1, at, 0, flags);
        if (failed(wrote) || wrote == 0) return say_debug("a late write is not sure to stay");
      } while (!change.end(descriptor, bytes_from(at, static_cast<uint64_t>(wrote))));
      part.iov_base = static_cast<char*>(part.iov_base) + wrote;
      part.iov_len -= static_cast<size_t>(wrote);
      at += static_cast<uint64_t>(wrote);
    }
  }
}

Place written_here(int descriptor, uint64_t before, uint64_t count) {
  const uint64_t after = position_of(descriptor);
  if (after == before + count) return {{before, after}, true};
  // Others wrote as well, one behind the other, or somebody went elsewhere.
  constexpr uint64_t kMostOfOthers = uint64_t{1} << 20;
  if (after < before + count || after - before - count > kMostOfOthers) return {};
  return {{before, after}, false};
}

Place appended_to(int descriptor, const File& file, uint64_t count) {
  const uint64_t end = file_of(descriptor).bytes;
  return {{file.bytes, end}, end == file.bytes + count};
}

void end_once(Change& change, int descriptor, Bytes bytes) {
  while (!change.end(descriptor, bytes)) say_debug("a change that took long is not sure to stay");
}

// To write elsewhere what was written would overwrite what others wrote there: only what is exact is
// done twice.
void end_write(Change& change, int descriptor, const File& file, const iovec* vector,
               const Place& place) {
  if (place.bytes.from >= place.bytes.to) {
    change.give_up();
    after_lock();  // all mappings of this program's look at their files
  } else if (!place.exact) {
    end_once(change, descriptor, place.bytes);
  } else if (!change.end(descriptor, place.bytes)) {
    change.give_up();
    write_again(descriptor, file, vector, place.bytes);
  }
}

Bytes copied_to(int descriptor, const off_t* at, uint64_t before, uint64_t count) {
  if (at != nullptr) return {static_cast<uint64_t>(*at) - count, static_cast<uint64_t>(*at)};
  return written_here(descriptor, before, count).bytes;
}

}  // namespace shim
