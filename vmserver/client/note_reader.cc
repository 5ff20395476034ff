#include "vmserver/client/note_reader.h"

#include <sys/mman.h>

#include <new>
#include <utility>

#include "hal/linux/sealed_memory.h"

namespace server {

using protocol::NoteRing;

// The ring is zero already.
NoteReader::NoteReader()
    : file_(hal::make_sealed_memory("notes", sizeof(NoteRing))),
      ring_(new (hal::map_sealed_memory(file_, sizeof(NoteRing))) NoteRing) {}

NoteReader::~NoteReader() { munmap(ring_, sizeof(NoteRing)); }

hal::SharedDescriptor NoteReader::take_file() { return std::exchange(file_, {}); }

// Either the program sees that the fault has begun, or its notes from before are read.
NoteReader::Fault::Fault(NoteReader& reader, std::uint64_t page) : ring_(*reader.ring_) {
  ring_.last_fault.store(page, std::memory_order_relaxed);
  ring_.faults_begun.fetch_add(1, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

NoteReader::Fault::~Fault() { ring_.faults_ended.fetch_add(1, std::memory_order_release); }

bool NoteReader::read(const std::function<bool(const protocol::Note&)>& sink) {
  if (ring_->written.load(std::memory_order_acquire) == handed_out_ && !broken_) return true;
  const std::lock_guard guard(lock_);
  const std::uint32_t written = ring_->written.load(std::memory_order_acquire);
  std::uint32_t next = handed_out_;
  if (written - next > NoteRing::kNotes) broken_ = true;
  while (!broken_ && next != written) {
    const protocol::Note note = ring_->notes[next % NoteRing::kNotes];
    if (!sink(note)) broken_ = true;
    handed_out_ = ++next;
  }
  ring_->read.store(next, std::memory_order_release);
  return !broken_;
}

}  // namespace server
