#include "libshim/redirect.h"

#include <stdint.h>
#include <string.h>

#include "libshim/libc_image.h"
#include "libshim/machine_code.h"
#include "libshim/report.h"
#include "libshim/syscall.h"

// Room for trampolines, near libc as everything that the loader maps is: a page of our own text.
asm(R"(
  .text
  .balign 4096
  .hidden vmshim_trampolines
  .globl vmshim_trampolines
vmshim_trampolines:
  .zero 4096
  .previous
)");
extern "C" uint8_t vmshim_trampolines[];

namespace shim {
namespace {

constexpr size_t kMost = 64;
constexpr size_t kTrampolinePage = 4096;
constexpr long kReadExecute = 1 | 4;
constexpr long kReadWriteExecute = 1 | 2 | 4;

struct Place {
  Body body;
  Patch patch;
  Trampoline around;
  void** original = nullptr;
};

size_t used_slots = 0;

// Whether the function is there and looks as expected, and what to write then: its original into
// that slot.
bool prepare(const LibcImage& libc, const Redirection& redirection, size_t slot, Place& place) {
  LibcImage::Function function;
  if (!libc.function(redirection.name, function)) return false;
  if (function.address < libc.text_start() || function.bytes > libc.text_end() - function.address) {
    return false;
  }
  place.body = {reinterpret_cast<const uint8_t*>(function.address), function.bytes,
                function.address};
  place.original = redirection.original;
  place.patch = jump_to(kThisMachine, place.body, reinterpret_cast<uint64_t>(redirection.target));
  if (place.patch.size == 0) return false;
  if (redirection.original != nullptr) {
    const uint64_t at = reinterpret_cast<uint64_t>(vmshim_trampolines) + slot * kTrampolineBytes;
    place.around = go_around(kThisMachine, place.body, place.patch.size, at);
    return place.around.size != 0;
  }
  if (redirection.caller_of != nullptr) {
    LibcImage::Function callee;
    if (!libc.function(redirection.caller_of, callee)) return false;
    if (!calls_function(kThisMachine, place.body, callee.address)) return false;
  } else if (!makes_system_call(kThisMachine, place.body, redirection.system_call)) {
    return false;
  }
  return true;
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

// Slot by slot. They are used from the moment the first body jumps.
bool write_trampolines(const Place* places, size_t count) {
  uint8_t* const page = vmshim_trampolines;
  if (failed(sys(SYS_mprotect, page, kTrampolinePage, kReadWriteExecute))) return false;
  uint8_t* at = page + used_slots * kTrampolineBytes;
  for (size_t i = 0; i < count; ++i) {
    if (places[i].original == nullptr) continue;
    memcpy(at, places[i].around.bytes, places[i].around.size);
    *places[i].original = at;
    at += kTrampolineBytes;
  }
  used_slots = static_cast<size_t>(at - page) / kTrampolineBytes;
  __builtin___clear_cache(reinterpret_cast<char*>(page),
                          reinterpret_cast<char*>(page + kTrampolinePage));
  return !failed(sys(SYS_mprotect, page, kTrampolinePage, kReadExecute));
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
  size_t slot = used_slots;
  for (size_t i = 0; i < count && ready < kMost; ++i) {
    Place& place = places[ready];
    place = Place{};
    if (redirections[i].original != nullptr && slot == kTrampolinePage / kTrampolineBytes) {
      say_debug("libc's ", redirections[i].name, " is left alone: no room for what it was");
      continue;
    }
    if (!prepare(libc, redirections[i], slot, place)) {
      say_debug("libc's ", redirections[i].name, " is not as expected and left alone");
      if (redirections[i].required) {
        say_debug("libc's own calls are not caught");
        return 0;
      }
      continue;
    }
    // Two names for one body: it jumps already.
    bool twice = false;
    for (size_t j = 0; j < ready; ++j) twice |= places[j].body.address == place.body.address;
    if (twice) continue;
    if (place.original != nullptr) ++slot;
    ++ready;
  }
  if (ready == 0) return 0;
  if (slot != used_slots && !write_trampolines(places, ready)) {
    say_debug("libc's functions are left alone: no room for what they were");
    return 0;
  }
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
