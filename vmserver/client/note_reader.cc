#include "vmserver/client/note_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

namespace server {
namespace {

using protocol::NoteRing;

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

hal::SharedDescriptor make_file() {
  const int made = memfd_create("notes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (made < 0) fail("memfd_create for a program's notes");
  hal::SharedDescriptor file(made);
  // The program has it, too: were it to become smaller, a look at it would be a bus error.
  if (ftruncate(made, sizeof(NoteRing)) != 0 ||
      fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    fail("ftruncate and seals of a program's notes");
  }
  return file;
}

NoteRing* map(const hal::SharedDescriptor& file) {
  void* const at =
      mmap(nullptr, sizeof(NoteRing), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (at == MAP_FAILED) fail("mmap of a program's notes");
  return new (at) NoteRing;  // it is zero already
}

}  // namespace

NoteReader::NoteReader() : file_(make_file()), ring_(map(file_)) {}

NoteReader::~NoteReader() { munmap(ring_, sizeof(NoteRing)); }

hal::SharedDescriptor NoteReader::take_file() { return std::exchange(file_, {}); }

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
