// NoteRing: what a program does by itself, written down where the server looks before it uses the
// program's map.
//
// A message for each such call (trap_frame.h, kRequestDone) costs more than the call. So the server
// shares some pages with each program that may do calls by itself. Whoever holds the lock of the program's
// shim writes; the server reads before it handles a request or a fault of the program's, and before it
// shows its map to anybody. A program that has filled half of it says so, and goes on
// (kCallNotes with kRequestDone); one that finds no room asks for some (kCallNotes).
//
// The server makes the pages' file and seals it, so that it stays as large as it is, and believes
// nothing that it reads there. A forked child has no copy of them (MADV_DONTFORK): it gets its own.
#pragma once

#include <stdint.h>

#include <atomic>

namespace protocol {

struct Note {
  uint16_t call;  ///< CallNumber
  uint16_t reserved[3];
  uint64_t args[3];  ///< the call's first ones, as with kRequestDone
};

struct NoteRing {
  static constexpr uint32_t kNotes = 256;

  alignas(64) std::atomic<uint32_t> written;  ///< notes so far, modulo 2^32; the program's
  alignas(64) std::atomic<uint32_t> read;     ///< of these; the server's
  /// The program's page faults that the server has begun to deal with, modulo 2^32: counted before it reads
  /// the notes and puts any page anywhere. The server's.
  alignas(64) std::atomic<uint32_t> faults_begun;
  std::atomic<uint32_t> faults_ended;  ///< of these: nothing more comes of them
  std::atomic<uint64_t> last_fault;    ///< the page of the one that began last, or of one of the last
  alignas(64) Note notes[kNotes];
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);
static_assert((NoteRing::kNotes & (NoteRing::kNotes - 1)) == 0, "so that numbers may wrap");

}  // namespace protocol
