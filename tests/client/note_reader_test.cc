// A program's ring of notes, from the server's side: nothing is lost, nothing is read twice, and
// nothing that the program writes harms the server (protocol/note_ring.h).
#include "vmserver/client/note_reader.h"

#include <catch2/catch.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <limits>
#include <thread>
#include <vector>

using protocol::Note;
using protocol::NoteRing;

namespace {

/// Writes as a program does.
class Writer {
 public:
  explicit Writer(server::NoteReader& reader)
      : file_(reader.take_file()),
        ring_(static_cast<NoteRing*>(mmap(nullptr, sizeof(NoteRing), PROT_READ | PROT_WRITE, MAP_SHARED,
                                          file_.get(), 0))) {
    REQUIRE(ring_ != MAP_FAILED);
  }
  ~Writer() { munmap(ring_, sizeof(NoteRing)); }

  bool has_room() const { return ring_->written - ring_->read < NoteRing::kNotes; }
  void write(std::uint64_t value) {
    const std::uint32_t written = ring_->written.load(std::memory_order_relaxed);
    Note& note = ring_->notes[written % NoteRing::kNotes];
    note.call = 2;
    note.args[0] = value;
    ring_->written.store(written + 1, std::memory_order_release);
  }
  int file() const { return file_.get(); }
  NoteRing& ring() { return *ring_; }

 private:
  hal::SharedDescriptor file_;
  NoteRing* ring_;
};

using Seen = std::vector<std::uint64_t>;

Seen read(server::NoteReader& reader) {
  Seen seen;
  CHECK(reader.read([&](const Note& note) {
    CHECK(note.call == 2);
    seen.push_back(note.args[0]);
    return true;
  }));
  return seen;
}

}  // namespace

TEST_CASE("notes are read once, in their order", "[notes]") {
  server::NoteReader reader;
  Writer writer(reader);
  CHECK(read(reader).empty());
  writer.write(5);
  writer.write(6);
  CHECK(read(reader) == Seen{5, 6});
  CHECK(read(reader).empty());
  writer.write(7);
  CHECK(read(reader) == Seen{7});
}

TEST_CASE("there is room for as many notes as a ring has, and again once they are read", "[notes]") {
  server::NoteReader reader;
  Writer writer(reader);
  for (unsigned round = 0; round < 5; ++round) {
    Seen written;
    for (std::uint64_t i = 0; writer.has_room(); ++i) {
      written.push_back(i);
      writer.write(i);
    }
    CHECK(written.size() == NoteRing::kNotes);
    CHECK(read(reader) == written);
  }
}

TEST_CASE("the file of notes goes to the program and keeps its size", "[notes]") {
  server::NoteReader reader;
  Writer writer(reader);
  CHECK_FALSE(reader.take_file());
  CHECK(ftruncate(writer.file(), 0) != 0);
  CHECK(ftruncate(writer.file(), 1 << 20) != 0);
}

TEST_CASE("more notes than there is room for are none", "[notes]") {
  server::NoteReader reader;
  Writer writer(reader);
  const auto none = [](const Note&) -> bool { FAIL("a note was read"); return true; };
  const std::uint32_t far = GENERATE(NoteRing::kNotes + 1, std::numeric_limits<std::uint32_t>::max());
  writer.ring().written = far;
  CHECK_FALSE(reader.read(none));
  writer.ring().written = 1;
  CHECK_FALSE(reader.read(none));
}

TEST_CASE("what comes after a note that cannot be is not read", "[notes]") {
  server::NoteReader reader;
  Writer writer(reader);
  for (std::uint64_t i = 0; i < 4; ++i) writer.write(i);
  Seen seen;
  const auto refuse_second = [&](const Note& note) {
    seen.push_back(note.args[0]);
    return note.args[0] != 1;
  };
  CHECK_FALSE(reader.read(refuse_second));
  CHECK(seen == Seen{0, 1});
  CHECK_FALSE(reader.read(refuse_second));
  CHECK(seen == Seen{0, 1});
}

TEST_CASE("whoever reads has everything before it handed out, by whichever thread", "[notes]") {
  constexpr std::uint64_t kCount = 200'000;
  server::NoteReader reader;
  Writer writer(reader);
  std::atomic<std::uint64_t> announced{0};
  std::atomic<std::uint64_t> handed_out{0};  // and the next one to come
  std::atomic<bool> in_order{true};
  std::atomic<bool> late{false};
  const auto look = [&] {
    const std::uint64_t before = announced;
    reader.read([&](const Note& note) {
      if (note.args[0] != handed_out) in_order = false;
      ++handed_out;
      return true;
    });
    if (handed_out < before) late = true;
  };
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      while (handed_out < kCount && in_order) look();
    });
  }
  for (std::uint64_t i = 0; i < kCount; ++i) {
    while (!writer.has_room() && in_order) std::this_thread::yield();
    writer.write(i);
    announced = i + 1;
  }
  for (std::thread& one : readers) one.join();
  CHECK(in_order);
  CHECK_FALSE(late);
  CHECK(handed_out == kCount);
}

TEST_CASE("a fault is counted when it begins and when it is over, with its page") {
  server::NoteReader reader;
  Writer writer(reader);
  NoteRing& ring = writer.ring();
  {
    const server::NoteReader::Fault first(reader, 0x1000);
    CHECK(ring.last_fault == 0x1000);
    const server::NoteReader::Fault second(reader, 0x7000);
    CHECK(ring.faults_begun == 2);
    CHECK(ring.faults_ended == 0);
    CHECK(ring.last_fault == 0x7000);
  }
  CHECK(ring.faults_begun == 2);
  CHECK(ring.faults_ended == 2);
}

// What the shim relies on where it leaves memory behind guards (libshim/kept_memory.h).
TEST_CASE("either a fault reads a note, or who wrote the note sees that the fault has begun") {
  server::NoteReader reader;
  Writer writer(reader);
  constexpr unsigned kRounds = 20000;
  std::barrier both(2);
  bool seen = false;   // the fault, by the program
  bool heard = false;  // the note, by the server
  unsigned missed = 0;
  std::thread faults([&] {
    for (unsigned round = 0; round < kRounds; ++round) {
      both.arrive_and_wait();
      const server::NoteReader::Fault fault(reader, 0);
      heard = false;
      reader.read([&](const Note&) { return heard = true; });
      both.arrive_and_wait();
    }
  });
  for (unsigned round = 0; round < kRounds; ++round) {
    both.arrive_and_wait();
    writer.write(round);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    seen = writer.ring().faults_begun.load(std::memory_order_acquire) != round;
    both.arrive_and_wait();
    if (!seen && !heard) ++missed;
    if (!heard) reader.read([](const Note&) { return true; });
  }
  faults.join();
  CHECK(missed == 0);
}
