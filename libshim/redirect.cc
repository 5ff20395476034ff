#include "libshim/redirect.h"

#include <stdint.h>
#include <string.h>

#include "libshim/libc_image.h"
#include "libshim/machine_code.h"
#include "libshim/report.h"
#include "libshim/syscall.h"

namespace shim {
namespace {

constexpr size_t kMost = 8;
constexpr long kReadExecute = 1 | 4;
constexpr long kReadWriteExecute = 1 | 2 | 4;

struct Place {
  Body body;
  Patch patch;
};

// Whether the function is there and looks as expected, and what to write then.
bool prepare(const LibcImage& libc, const Redirection& redirection, Place& place) {
  LibcImage::Function function;
  if (!libc.function(redirection.name, function)) return false;
  if (function.address < libc.text_start() || function.bytes > libc.text_end() - function.address) {
    return false;
  }
  place.body = {reinterpret_cast<const uint8_t*>(function.address), function.bytes,
                function.address};
  if (redirection.caller_of != nullptr) {
    LibcImage::Function callee;
    if (!libc.function(redirection.caller_of, callee)) return false;
    if (!calls_function(kThisMachine, place.body, callee.address)) return false;
  } else if (!makes_system_call(kThisMachine, place.body, redirection.system_call)) {
    return false;
  }
  place.patch = jump_to(kThisMachine, place.body, reinterpret_cast<uint64_t>(redirection.target));
  return place.patch.size != 0;
}

// In one store where a jump fits into an aligned word, so that whoever comes by finds the old bytes
// or the new ones. What follows the jump stays: a thread that waits in the body's system call
// returns to it.
void write(const Place& place) {
  const Patch& patch = place.patch;
  auto* const code = reinterpret_cast<uint8_t*>(place.body.address);
  uint64_t word;
  if (place.body.address % sizeof(word) == 0 && patch.size <= sizeof(word)) {
    memcpy(&word, code, sizeof(word));
    memcpy(&word, patch.bytes, patch.size);
    __atomic_store_n(reinterpret_cast<uint64_t*>(code), word, __ATOMIC_RELEASE);
  } else {
    memcpy(code, patch.bytes, patch.size);
  }
  __builtin___clear_cache(reinterpret_cast<char*>(code),
                          reinterpret_cast<char*>(code + patch.size));
}

}  // namespace

unsigned redirect_libc(const Redirection* redirections, size_t count) {
  LibcImage libc;
  if (!libc.find()) {
    say_debug("libc is not found, and its own calls are not caught");
    return 0;
  }
  // All are looked at before the first is changed.
  Place places[kMost];
  size_t ready = 0;
  for (size_t i = 0; i < count && ready < kMost; ++i) {
    Place& place = places[ready];
    if (!prepare(libc, redirections[i], place)) {
      say_debug("libc's ", redirections[i].name, " is not as expected and left alone");
      if (redirections[i].required) {
        say_debug("libc's own calls are not caught");
        return 0;
      }
      continue;
    }
    ++ready;
  }
  if (ready == 0) return 0;
  // All of the text at once: a part would stay a mapping of its own for ever, because the kernel
  // has accounted for its copies.
  const uint64_t bytes = libc.text_end() - libc.text_start();
  const long opened = sys(SYS_mprotect, libc.text_start(), bytes, kReadWriteExecute);
  if (failed(opened)) {
    say_debug("libc's own calls are not caught: ", error_text(-opened));
    return 0;
  }
  for (size_t i = 0; i < ready; ++i) write(places[i]);
  sys(SYS_mprotect, libc.text_start(), bytes, kReadExecute);
  return static_cast<unsigned>(ready);
}

}  // namespace shim
