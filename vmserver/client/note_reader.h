// NoteReader: the server's end of a program's ring of notes (protocol/note_ring.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

#include "hal/host_file.h"
#include "protocol/note_ring.h"

namespace server {

class NoteReader {
 public:
  /// Throws std::system_error with what was tried.
  NoteReader();
  ~NoteReader();
  NoteReader(const NoteReader&) = delete;
  NoteReader& operator=(const NoteReader&) = delete;

  /// The file for the program to map, once.
  hal::SharedDescriptor take_file();

  /// Hands what the program has written to `sink`, in its order. When this returns, all that was
  /// written before the call has been handed out, by whichever thread. False from the first time on
  /// that the sink says no, or that the ring holds more than fits. Any thread.
  bool read(const std::function<bool(const protocol::Note&)>& sink);

  /// Around the handling of a fault, before it reads. Any thread.
  class Fault {
   public:
    Fault(NoteReader& reader, std::uint64_t page);
    ~Fault();
    Fault(const Fault&) = delete;
    Fault& operator=(const Fault&) = delete;

   private:
    protocol::NoteRing& ring_;
  };

 private:
  hal::SharedDescriptor file_;
  protocol::NoteRing* const ring_;
  std::mutex lock_;
  std::atomic<std::uint32_t> handed_out_{0};
  std::atomic<bool> broken_{false};
};

}  // namespace server
