// mmap of files and devices: vm_mmap_vnode(), vm_mmap_cdev() and what the descriptor allows.
#include <catch2/catch.hpp>

#include <cerrno>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::FileKind;
using hal::SimResult;

namespace {

struct Fixture {
  TestMachine machine;
  FakeFile& file = machine.make_file(4 * kPage + 100);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);

  CallResult map(std::uint64_t protection, std::uint64_t flags, bool readable, bool writable) {
    return program->mmap(0, kPage, protection, flags, file.open(readable, writable));
  }
};

unsigned byte(const FakeFile& file, std::uint64_t offset) {
  return static_cast<unsigned>(file.at(offset));
}

}  // namespace

TEST_CASE("a descriptor that is not open is EBADF", "[mmap][file]") {
  Fixture f;
  f.program->bad_descriptor = true;
  CHECK(f.program->mmap(0, kPage, bsd::kRead, bsd::kPrivate).error == EBADF);
}

TEST_CASE("no file and no MAP_ANON is EBADF", "[mmap][file]") {
  Fixture f;
  CHECK(f.program->mmap(0, kPage, bsd::kRead, bsd::kPrivate).error == EBADF);
}

TEST_CASE("pipes and sockets are ENODEV, before what their descriptors allow", "[mmap][file]") {
  Fixture f;
  f.file.attributes.kind = FileKind::not_a_file;
  CHECK(f.map(bsd::kRead, bsd::kShared, false, false).error == ENODEV);
}

TEST_CASE("directories and named FIFOs are EINVAL, after what their descriptors allow",
          "[mmap][file]") {
  Fixture f;
  for (FileKind kind : {FileKind::directory, FileKind::fifo}) {
    f.file.attributes.kind = kind;
    CHECK(f.map(bsd::kRead, bsd::kPrivate, true, false).error == EINVAL);
    CHECK(f.map(bsd::kRead, bsd::kPrivate, false, true).error == EACCES);
  }
}

TEST_CASE("reading needs a descriptor that may read", "[mmap][file]") {
  Fixture f;
  CHECK(f.map(bsd::kRead, bsd::kPrivate, false, true).error == EACCES);
  CHECK(f.map(bsd::kRead, bsd::kShared, false, true).error == EACCES);
  const auto none = f.map(bsd::kNone, bsd::kPrivate, false, true);
  REQUIRE(none.ok());
  CHECK(f.program->mprotect(none.value, kPage, bsd::kRead).error == EACCES);
}

TEST_CASE("writing a shared mapping needs a descriptor that may write", "[mmap][file]") {
  Fixture f;
  CHECK(f.map(bsd::kReadWrite, bsd::kShared, true, false).error == EACCES);
  const auto read = f.map(bsd::kRead, bsd::kShared, true, false);
  REQUIRE(read.ok());
  CHECK(f.program->mprotect(read.value, kPage, bsd::kReadWrite).error == EACCES);
  CHECK(f.map(bsd::kReadWrite, bsd::kShared, true, true).ok());
}

TEST_CASE("writing a private mapping needs no right to write", "[mmap][file]") {
  Fixture f;
  const auto mapped = f.map(bsd::kReadWrite, bsd::kPrivate, true, false);
  REQUIRE(mapped.ok());
  const unsigned before = byte(f.file, 3);
  f.program->store(mapped.value + 3, before + 1);
  CHECK(f.program->load(mapped.value + 3) == before + 1);
  CHECK(f.program->munmap(mapped.value, kPage).ok());
  CHECK(byte(f.file, 3) == before);
  CHECK(f.machine.pagers.records(vm::Transfer::Kind::page_out).empty());
}

TEST_CASE("a file system that allows no execution lowers the maximum", "[mmap][file]") {
  Fixture f;
  const auto fine = f.map(bsd::kRead, bsd::kPrivate, true, false);
  CHECK(f.program->mprotect(fine.value, kPage, bsd::kRead | bsd::kExec).ok());
  f.file.attributes.no_execute = true;
  const auto mapped = f.map(bsd::kRead, bsd::kPrivate, true, false);
  CHECK(f.program->mprotect(mapped.value, kPage, bsd::kRead | bsd::kExec).error == EACCES);
}

TEST_CASE("immutable and append-only files share no writing: EPERM", "[mmap][file]") {
  Fixture f;
  f.file.attributes.immutable_or_append = true;
  CHECK(f.map(bsd::kReadWrite, bsd::kShared, true, true).error == EPERM);
  const auto read = f.map(bsd::kRead, bsd::kShared, true, true);
  REQUIRE(read.ok());
  CHECK(f.program->mprotect(read.value, kPage, bsd::kReadWrite).error == EACCES);
  CHECK(f.map(bsd::kReadWrite, bsd::kPrivate, true, true).ok());
}

TEST_CASE("what the host refuses to map keeps the host's error", "[mmap][file]") {
  Fixture f;
  f.file.attributes.host_refusal = ENODEV;
  CHECK(f.map(bsd::kRead, bsd::kPrivate, true, true).error == ENODEV);
}

TEST_CASE("an offset below 0 or behind all pages is EINVAL", "[mmap][file]") {
  Fixture f;
  CHECK(f.program->mmap(0, kPage, bsd::kRead, bsd::kPrivate, f.file.open(), ~std::uint64_t{4095})
            .error == EINVAL);
  CHECK(f.program
            ->mmap(0, 2 * kPage, bsd::kRead, bsd::kPrivate, f.file.open(),
                   (std::uint64_t{1} << 63) - kPage)
            .error == EINVAL);
}

TEST_CASE("a file's pages are seen, and zeroes behind its end in the last page", "[mmap][file]") {
  Fixture f;
  const auto mapped =
      f.program->mmap(0, 5 * kPage, bsd::kRead, bsd::kShared, f.file.open(true, false));
  REQUIRE(mapped.ok());
  for (std::uint64_t offset : {0, 1, 4095, 4096, 12345, 4 * 4096 + 99}) {
    CHECK(f.program->load(mapped.value + offset) == byte(f.file, offset));
  }
  CHECK(f.program->load(mapped.value + 4 * kPage + 100) == 0);
  CHECK(f.program->load(mapped.value + 5 * kPage - 1) == 0);
}

TEST_CASE("pages behind the end of a file are bus errors", "[mmap][file]") {
  Fixture f;
  const auto mapped = f.program->mmap(0, 8 * kPage, bsd::kRead, bsd::kPrivate, f.file.open());
  REQUIRE(mapped.ok());
  CHECK(f.program->try_load(mapped.value + 5 * kPage) == SimResult::bus_error);
  CHECK(f.program->try_load(mapped.value + 4 * kPage) == SimResult::done);
}

TEST_CASE("an offset into the file selects its pages", "[mmap][file]") {
  Fixture f;
  const auto mapped =
      f.program->mmap(0, kPage, bsd::kRead, bsd::kShared, f.file.open(), 2 * kPage);
  CHECK(f.program->load(mapped.value + 7) == byte(f.file, 2 * kPage + 7));
}

TEST_CASE("two programs that map a file share its pages", "[mmap][file]") {
  Fixture f;
  Program other(f.machine);
  const auto mine = f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kShared, f.file.open());
  const auto theirs = other.mmap(0, kPage, bsd::kReadWrite, bsd::kShared, f.file.open());
  f.program->store(mine.value + 5, 77);
  CHECK(other.load(theirs.value + 5) == 77);
  other.store(theirs.value + 6, 78);
  CHECK(f.program->load(mine.value + 6) == 78);
  CHECK(f.machine.machine.object_count() == 1);
}

TEST_CASE("rights are each program's own, though the pages are shared", "[mmap][file]") {
  Fixture f;
  Program other(f.machine);
  const auto read = f.map(bsd::kRead, bsd::kShared, true, false);
  const auto write = other.mmap(0, kPage, bsd::kReadWrite, bsd::kShared, f.file.open(true, true));
  REQUIRE(write.ok());
  other.store(write.value, 42);
  CHECK(f.program->load(read.value) == 42);
  CHECK(f.program->mprotect(read.value, kPage, bsd::kReadWrite).error == EACCES);
  // The pager was handed the descriptor that may write.
  CHECK(f.file.grants == 1);
}

TEST_CASE("a private mapping sees the file until it stores", "[mmap][file]") {
  Fixture f;
  Program other(f.machine);
  const auto shared = other.mmap(0, 2 * kPage, bsd::kReadWrite, bsd::kShared, f.file.open());
  const auto mine = f.program->mmap(0, 2 * kPage, bsd::kReadWrite, bsd::kPrivate, f.file.open());
  CHECK(f.program->load(mine.value) == byte(f.file, 0));
  other.store(shared.value, 11);
  CHECK(f.program->load(mine.value) == 11);
  f.program->store(mine.value + 1, 12);
  other.store(shared.value, 13);
  CHECK(f.program->load(mine.value) == 11);
  CHECK(other.load(shared.value + 1) == byte(f.file, 1));
}

TEST_CASE("a file without a pager is ENOMEM, a device EINVAL", "[mmap][file]") {
  Fixture f;
  f.file.no_pager = true;
  CHECK(f.map(bsd::kRead, bsd::kShared, true, true).error == ENOMEM);
  f.file.attributes.kind = FileKind::character_device;
  CHECK(f.map(bsd::kRead, bsd::kShared, true, true).error == EINVAL);
}

TEST_CASE("no memory for an object's pages is ENOMEM", "[mmap][file]") {
  Fixture f;
  f.machine.backings.fail_next(EMFILE);
  CHECK(f.map(bsd::kRead, bsd::kShared, true, true).error == ENOMEM);
}

TEST_CASE("a device that maps as anonymous memory is anonymous memory", "[mmap][device]") {
  Fixture f;
  f.file.attributes.kind = FileKind::anonymous_device;
  const auto mapped = f.map(bsd::kReadWrite, bsd::kPrivate, true, true);
  REQUIRE(mapped.ok());
  CHECK(f.program->load(mapped.value) == 0);
  f.program->store(mapped.value, 1);
  CHECK(f.machine.machine.object_count() == 0);
  // Its maximum is everything, whatever the descriptor allows.
  const auto read = f.map(bsd::kRead, bsd::kPrivate, true, false);
  CHECK(f.program->mprotect(read.value, kPage, bsd::kReadWrite | bsd::kExec).ok());
}

TEST_CASE("devices are shared only; MAP_PRIVATE is EINVAL", "[mmap][device]") {
  Fixture f;
  f.file.attributes.kind = FileKind::character_device;
  CHECK(f.map(bsd::kRead, bsd::kPrivate, true, true).error == EINVAL);
  CHECK(f.map(bsd::kRead, bsd::kShared, true, true).ok());
  // Neither flag: made shared.
  CHECK(f.map(bsd::kRead, 0, true, true).ok());
}

TEST_CASE("writing a device without the right to write is EACCES, even privately",
          "[mmap][device]") {
  Fixture f;
  f.file.attributes.kind = FileKind::character_device;
  CHECK(f.map(bsd::kReadWrite, bsd::kShared, true, false).error == EACCES);
  CHECK(f.map(bsd::kReadWrite, bsd::kPrivate, true, false).error == EACCES);
}

TEST_CASE("a regular file that a device pager claims is a device", "[mmap][device]") {
  Fixture f;
  f.file.claimed = true;
  CHECK(f.map(bsd::kRead, bsd::kPrivate, true, true).error == EINVAL);
  const auto mapped = f.map(bsd::kReadWrite, bsd::kShared, true, true);
  REQUIRE(mapped.ok());
  CHECK(f.program->load(mapped.value + 9) == byte(f.file, 9));
}

TEST_CASE("files that are left to the host are mapped by the program itself", "[mmap][file]") {
  TestMachine machine({.host_files = {"*/file1", "/other"}});
  FakeFile& first = machine.make_file(kPage);
  FakeFile& second = machine.make_file(kPage);
  Program program(machine);
  REQUIRE(program.mmap(0, kPage, bsd::kRead, bsd::kShared, first.open()).ok());
  CHECK(machine.machine.object_count() == 0);
  REQUIRE(program.mmap(0, kPage, bsd::kRead, bsd::kShared, second.open()).ok());
  CHECK(machine.machine.object_count() == 1);
  // The rules are the same.
  CHECK(program.mmap(0, kPage, bsd::kRead, bsd::kShared, first.open(false, true)).error == EACCES);
}

TEST_CASE("databases that programs synchronise by stores are left to the host", "[mmap][file]") {
  const bool usual = GENERATE(true, false);
  TestMachine machine({.usual_host_files = usual});
  Program program(machine);
  const auto is_hosts = [&](std::string beginning) {
    FakeFile& file = machine.make_file(kPage);
    auto& bytes = file.attributes.beginning;
    beginning.resize(bytes.size());
    std::copy(beginning.begin(), beginning.end(), bytes.begin());
    const std::size_t before = machine.machine.object_count();
    REQUIRE(program.mmap(0, kPage, bsd::kRead, bsd::kShared, file.open()).ok());
    return machine.machine.object_count() == before;
  };
  using namespace std::string_literals;
  const std::string sqlite = "SQLite format 3\0\x10\0"s;
  CHECK(is_hosts(sqlite + "\2\2") == usual);
  CHECK_FALSE(is_hosts(sqlite + "\1\1"));  // with a rollback journal: whoever reads holds a lock
  CHECK(is_hosts("\0\0\0\0\0\0\0\0\0\0\x8\0\0\0\0\0\xde\xc0\xef\xbe"s) == usual);
  CHECK_FALSE(is_hosts("\0\0\0\0\0\0\0\0\0\0\x2\0\0\0\0\0\xde\xc0\xef\xbe"s));
  CHECK_FALSE(is_hosts(""));
}

TEST_CASE("a device whose memory is the pager's own is shown as it is", "[mmap][device]") {
  Fixture f;
  f.file.claimed = true;
  auto memory = std::make_shared<hal::SimBacking>(f.machine.memory, "framebuffer", 4);
  memory->zero_fill(memory->next_absent({hal::PageIndex(0), 4}));
  f.file.own_memory = memory;
  const auto mapped = f.map(bsd::kReadWrite, bsd::kShared, true, true);
  REQUIRE(mapped.ok());
  f.program->store(mapped.value + 5, 66);
  std::byte page[kPage];
  REQUIRE(memory->read(hal::PageIndex(0), page));
  CHECK(static_cast<unsigned>(page[5]) == 66);
  CHECK(f.machine.pagers.records(vm::Transfer::Kind::page_in).empty());
}

TEST_CASE("a device whose memory is the host's is mapped by the program itself",
          "[mmap][device]") {
  Fixture f;
  f.file.attributes.kind = FileKind::character_device;
  f.file.host_memory = true;
  const auto mapped = f.map(bsd::kReadWrite, bsd::kShared, true, true);
  REQUIRE(mapped.ok());
  f.program->store(mapped.value, 5);
  CHECK(f.program->space().fault_count() == 0);
  const auto entries = f.program->entries();
  const auto device = std::find_if(entries.begin(), entries.end(),
                                   [](const auto& entry) { return entry.type == "device"; });
  REQUIRE(device != entries.end());
  CHECK(f.program->munmap(mapped.value, kPage).ok());
}

TEST_CASE("a device's pager may answer late, and may know the size better", "[mmap][device]") {
  Fixture f;
  f.file.attributes.kind = FileKind::block_device;
  f.file.open_later = true;
  f.file.opened_bytes = 2 * kPage;
  f.machine.pagers.hold(true);
  const auto call = f.program->start(
      f.program->request(protocol::kCallMmap, {0, 4 * kPage, bsd::kRead, bsd::kShared, 3, 0}),
      f.file.open());
  CHECK_FALSE(call->finished());
  f.machine.pagers.hold(false);
  f.machine.pagers.pump_all();
  REQUIRE(call->finished());
  REQUIRE(call->result().ok());
  CHECK(f.program->load(call->result().value + kPage) == byte(f.file, kPage));
  CHECK(f.program->try_load(call->result().value + 2 * kPage) == SimResult::bus_error);
}
