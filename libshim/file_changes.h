// How a change of a file is made that others map: announced, made by the kernel, ended, and made again
// where pages went ahead of it (file_view.h). What libc's functions have in common; each of them is in
// file_calls.cc.
//
// `as_it_was` calls libc's own function, for files that nobody maps; `act` has the kernel do it, and
// gives its result.
#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "libshim/file_view.h"
#include "libshim/syscall.h"

extern "C" void pthread_testcancel();

namespace shim {

/// No place that the caller names: the descriptor's position, or as many bytes as there are.
inline constexpr uint64_t kAnywhere = ~uint64_t{0};

/// The kernel's result as libc returns it.
inline long returned(long result) {
  if (!failed(result)) return result;
  errno = static_cast<int>(-result);
  return -1;
}

uint64_t position_of(int descriptor);
bool appends(int descriptor);

/// Where something was written. Threads and processes share positions and ends of files, and move them
/// at the same time.
struct Place {
  Bytes bytes;         ///< all of it; empty when it is not known
  bool exact = false;  ///< and nothing else
};

/// `count` bytes, at a position that was `before`.
Place written_here(int descriptor, uint64_t before, uint64_t count);
/// At the end of a file that was as `file` says.
Place appended_to(int descriptor, const File& file, uint64_t count);
/// Where a copy of `count` bytes went: `at` is the caller's, and has been moved by the kernel.
Bytes copied_to(int descriptor, const off_t* at, uint64_t before, uint64_t count);

/// The same bytes once more, in pieces that take no time: what `bytes` of the file were written from
/// `vector`.
void write_again(int descriptor, const File& file, const iovec* vector, Bytes bytes);
/// Ends what cannot be done twice.
void end_once(Change& change, int descriptor, Bytes bytes);
/// Ends a write, and makes it again if need be.
void end_write(Change& change, int descriptor, const File& file, const iovec* vector,
               const Place& place);

/// Whether a thread may be cancelled there. (Where libc's own function is called, that sees to it.)
enum class Cancel { point, never };

/// A write. `at`: where, or kAnywhere; of at most so many bytes.
template <Cancel cancel = Cancel::point, class Act, class AsItWas>
ssize_t written(int descriptor, const iovec* vector, uint64_t at, uint64_t at_most, bool append,
                const Act& act, const AsItWas& as_it_was) {
  File file;
  bool looked = false;
  if (anybody_maps()) {
    file = file_of(descriptor);
    looked = true;
    if (is_mapped(file)) {
      if (cancel == Cancel::point) pthread_testcancel();
      append |= appends(descriptor);
      const uint64_t before = position_of(descriptor);
      Change change(file, append            ? Bytes{file.bytes, kAnywhere}
                          : at != kAnywhere ? bytes_from(at, at_most)
                                            : Bytes{before, kAnywhere});
      const long result = act();
      if (!failed(result) && result != 0) {
        const auto count = static_cast<uint64_t>(result);
        const Place place = append            ? appended_to(descriptor, file, count)
                            : at != kAnywhere ? Place{bytes_from(at, count), true}
                                              : written_here(descriptor, before, count);
        end_write(change, descriptor, file, vector, place);
      }
      return returned(result);
    }
  }
  const ssize_t result = as_it_was();
  if (result <= 0 || !anybody_maps()) return result;
  if (!looked) file = file_of(descriptor);
  if (!is_mapped(file)) return result;
  // Somebody mapped it in between, and may have stored into it.
  const auto count = static_cast<uint64_t>(result);
  if (at != kAnywhere && !append && !appends(descriptor)) {
    write_again(descriptor, file, vector, bytes_from(at, count));
  } else {
    const uint64_t end = at != kAnywhere ? file_of(descriptor).bytes : position_of(descriptor);
    const Bytes bytes{end > count ? end - count : 0, end};
    Change change(file, bytes);
    end_once(change, descriptor, bytes);
  }
  return result;
}

/// Everything else that changes a file that is mapped: `act` can be done twice; `where` tells what has
/// changed, given its result.
template <class Act, class Where>
long changed(const File& file, int descriptor, Bytes at_most, const Act& act, const Where& where) {
  Change change(file, at_most);
  long result = act();
  if (failed(result)) return result;
  const Bytes bytes = where(result);
  while (!change.end(descriptor, bytes)) {
    if (failed(act())) break;
  }
  return result;
}

/// The same where a second time would do something else.
template <class Act, class Where>
long changed_once(const File& file, int descriptor, Bytes at_most, const Act& act,
                  const Where& where) {
  Change change(file, at_most);
  const long result = act();
  if (failed(result)) return result;
  end_once(change, descriptor, where(result));
  return result;
}

/// A copy into a file. `at`: where, if the caller says so.
template <class Act, class AsItWas>
ssize_t copied(int from, int to, const off_t* at, const Act& act, const AsItWas& as_it_was) {
  if (anybody_stores()) before_read(from, kWholeFile);
  const File file = anybody_maps() ? file_of(to) : File{};
  if (is_mapped(file)) {
    pthread_testcancel();
    const uint64_t before = position_of(to);
    return returned(changed_once(file, to, kWholeFile, act, [&](long count) {
      return copied_to(to, at, before, static_cast<uint64_t>(count));
    }));
  }
  const ssize_t result = as_it_was();
  if (result <= 0 || !anybody_maps()) return result;
  const File now = file_of(to);
  if (!is_mapped(now)) return result;
  const uint64_t count = static_cast<uint64_t>(result);
  const Bytes bytes = copied_to(to, at, position_of(to) - count, count);
  Change change(now, bytes);
  end_once(change, to, bytes);
  return result;
}

}  // namespace shim
