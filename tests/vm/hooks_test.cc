// Where calls ask the policy and tell the exec trace.
#include <catch2/catch.hpp>

#include <cerrno>
#include <sstream>

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "tests/vm/test_machine.h"

using namespace test;
using hal::SimResult;

namespace {

constexpr std::uint64_t kAnonPrivate = bsd::kAnon | bsd::kPrivate;
constexpr std::uint64_t kAll = bsd::kReadWrite | bsd::kExec;
constexpr std::uint64_t kReadExec = bsd::kRead | bsd::kExec;

class Log {
 public:
  Log() {
    const auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text_);
    sink->set_pattern("%v");
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

struct Fixture {
  explicit Fixture(std::string policy = {}) : machine({.policy = std::move(policy)}) {
    file.attributes.path = "/lib/code";
  }
  TestMachine machine;
  FakeFile& file = machine.make_file(4 * kPage);
  std::unique_ptr<Program> program = std::make_unique<Program>(machine);
};

class Listener final : public vm::ExecObserver {
 public:
  explicit Listener(TestMachine& machine) : machine_(machine) {
    machine_.machine.exec_trace().add(*this);
  }
  ~Listener() { machine_.machine.exec_trace().remove(*this); }
  void exec_event(const vm::ExecEvent& event) override {
    std::ostringstream line;
    line << (event.kind == vm::ExecEvent::Kind::mapped ? "mapped " : "unmapped ") << event.pid
         << ' ' << std::hex << event.address.value() << std::dec << ' ' << event.bytes / kPage
         << ' ' << event.path;
    events_.push_back(line.str());
  }
  std::vector<std::string> take() { return std::exchange(events_, {}); }

 private:
  TestMachine& machine_;
  std::vector<std::string> events_;
};

using Lines = std::vector<std::string>;

std::string line(const char* kind, std::uint64_t address, unsigned pages, const char* path) {
  std::ostringstream text;
  text << kind << " 42 " << std::hex << address << std::dec << ' ' << pages << ' ' << path;
  return text.str();
}

}  // namespace

TEST_CASE("memory that the policy denies is EACCES, and nothing is mapped", "[policy]") {
  Fixture f("deny prot wx");
  const std::size_t before = f.program->entries().size();
  for (std::uint64_t flags : {kAnonPrivate, bsd::kAnon | bsd::kShared}) {
    CHECK(f.program->mmap(0, kPage, kAll, flags).error == EACCES);
  }
  CHECK(f.program->mmap(0, kPage, kAll, bsd::kPrivate, f.file.open()).error == EACCES);
  CHECK(f.program->mmap(0, kPage, kAll, bsd::kShared, f.file.open()).error == EACCES);
  CHECK(f.program->entries().size() == before);
  CHECK(f.machine.nothing_left());
  CHECK(f.program->mmap(0, kPage, bsd::kReadWrite, kAnonPrivate).ok());
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).ok());
}

TEST_CASE("without a policy everything is allowed", "[policy]") {
  Fixture f;
  CHECK(f.program->mmap(0, kPage, kAll, kAnonPrivate).ok());
}

TEST_CASE("a rule with a path is for files and devices there", "[policy]") {
  Fixture f("deny path /lib prot x");
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).error == EACCES);
  CHECK(f.program->mmap(0, kPage, bsd::kRead, bsd::kPrivate, f.file.open()).ok());
  CHECK(f.program->mmap(0, kPage, kReadExec, kAnonPrivate).ok());
  f.file.attributes.path = "/library/code";
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).ok());
  f.file.attributes.kind = hal::FileKind::character_device;
  f.file.attributes.path = "/lib/device";
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kShared, f.file.open()).error == EACCES);
}

TEST_CASE("a device that maps as memory is asked for as memory", "[policy]") {
  Fixture f("deny path /dev\ndeny prot wx");
  f.file.attributes.kind = hal::FileKind::anonymous_device;
  f.file.attributes.path = "/dev/zero";
  CHECK(f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kPrivate, f.file.open()).ok());
  CHECK(f.program->mmap(0, kPage, kAll, bsd::kPrivate, f.file.open()).error == EACCES);
}

TEST_CASE("the caller's user is the one at the time of the call", "[policy]") {
  Fixture f("deny user 1000 path /lib prot x");
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).ok());
  f.program->user = 1000;
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).error == EACCES);
  f.program->user = 1001;
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).ok());
}

TEST_CASE("the policy is asked after what the file itself forbids, and before its flags",
          "[policy]") {
  Fixture f("deny prot w");
  f.file.attributes.immutable_or_append = true;
  CHECK(f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kShared, f.file.open()).error == EACCES);
  f.file.attributes.host_refusal = ENODEV;
  CHECK(f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kShared, f.file.open()).error == ENODEV);
  f.file.attributes.kind = hal::FileKind::directory;
  CHECK(f.program->mmap(0, kPage, bsd::kReadWrite, bsd::kShared, f.file.open()).error == EINVAL);
}

TEST_CASE("MAP_FIXED takes away what was there, also when the policy then denies", "[policy]") {
  Fixture f("deny prot x");
  const auto at = f.program->mmap(0, 2 * kPage, bsd::kReadWrite, kAnonPrivate).value;
  CHECK(f.program->mmap(at, kPage, kReadExec, kAnonPrivate | bsd::kFixed).error == EACCES);
  CHECK(f.program->try_load(at) == SimResult::segmentation_fault);
  CHECK(f.program->try_load(at + kPage) == SimResult::done);
}

TEST_CASE("what the host maps itself is asked for, too", "[policy]") {
  Fixture f("deny prot wx");
  f.program->abi = protocol::kAbiLinux;
  constexpr std::uint64_t kAnonPrivateHuge = 0x20 | 0x02 | 0x40000;
  CHECK(f.program->mmap(0, kPage, kAll, kAnonPrivateHuge).error == EACCES);
  CHECK(f.program->pmap().host_calls().empty());
  CHECK(f.program->mmap(0, kPage, bsd::kReadWrite, kAnonPrivateHuge).ok());
  CHECK(f.program->pmap().host_calls().size() == 1);
}

TEST_CASE("mprotect to what the policy denies is EACCES, and nothing changes", "[policy]") {
  Fixture f("deny prot wx\ndeny path /lib prot x");
  const auto at = f.program->mmap(0, 2 * kPage, bsd::kReadWrite, kAnonPrivate).value;
  const auto mapped =
      f.program->mmap(at + 2 * kPage, kPage, bsd::kRead, bsd::kPrivate, f.file.open());
  REQUIRE(mapped.value == at + 2 * kPage);
  f.program->store(at, 7);
  const auto entries = f.program->entries().size();
  CHECK(f.program->mprotect(at, kPage, kAll).error == EACCES);
  CHECK(f.program->mprotect(at, 3 * kPage, kReadExec).error == EACCES);
  f.program->store(at + kPage, 8);
  CHECK(f.program->entries().size() == entries);
  REQUIRE(f.program->mprotect(at, 2 * kPage, kReadExec).ok());
  CHECK(f.program->load(at) == 7);
  CHECK(f.program->mprotect(at, 2 * kPage, kAll).error == EACCES);
  CHECK(f.program->try_store(at) == SimResult::segmentation_fault);
}

TEST_CASE("mprotect of the host's own mappings is asked for by their paths", "[policy]") {
  Fixture f("deny path /bin prot w\ndeny prot wx");
  CHECK(f.program->mprotect(kText, kPage, bsd::kReadWrite).error == EACCES);
  CHECK(f.program->mprotect(kHostStack, kPage, kAll).error == EACCES);
  CHECK(f.program->pmap().host_calls().empty());
  CHECK(f.program->mprotect(kHostStack, kPage, bsd::kReadWrite).ok());
  CHECK(f.program->pmap().host_calls().size() == 1);
}

TEST_CASE("a denial is one line in the log that names the rule", "[policy]") {
  const Log log;
  Fixture f("# nobody\ndeny prot wx\ndeny user 7 path /lib prot x");
  f.program->user = 7;
  f.file.attributes.path = "/lib/two\nlines";
  CHECK_FALSE(f.program->mmap(0, kPage, kAll, kAnonPrivate).ok());
  CHECK_FALSE(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).ok());
  CHECK_FALSE(f.program->mprotect(kText, kPage, kAll).ok());
  CHECK(log.text() ==
        "policy policy:2 denies program 42 of user 7: mmap of memory with rwx\n"
        "policy policy:3 denies program 42 of user 7: mmap of /lib/two\\012lines with r-x\n"
        "policy policy:2 denies program 42 of user 7: mprotect of /bin/program with rwx\n");
}

TEST_CASE("an mmap of a file with the right to execute is told, with its pages and path",
          "[exec]") {
  Fixture f;
  Listener listener(f.machine);
  const auto whole = f.program->mmap(0, 3 * kPage, kReadExec, bsd::kPrivate, f.file.open());
  CHECK(listener.take() == Lines{line("mapped", whole.value, 3, "/lib/code")});
  const auto part = f.program->mmap(0, 10, kReadExec, bsd::kShared, f.file.open(), kPage + 5);
  CHECK(part.value % kPage == 5);
  CHECK(listener.take() == Lines{line("mapped", part.value - 5, 1, "/lib/code")});
}

TEST_CASE("what is not executable, has no file, or fails is not told", "[exec]") {
  Fixture f("deny path /lib prot wx");
  Listener listener(f.machine);
  CHECK(f.program->mmap(0, kPage, bsd::kRead, bsd::kPrivate, f.file.open()).ok());
  CHECK(f.program->mmap(0, kPage, kAll, kAnonPrivate).ok());
  CHECK_FALSE(f.program->mmap(0, kPage, kAll, bsd::kPrivate, f.file.open()).ok());
  CHECK_FALSE(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open(false)).ok());
  const auto at = f.program->mmap(0, kPage, bsd::kRead, bsd::kPrivate, f.file.open());
  CHECK(f.program->mprotect(at.value, kPage, kReadExec).ok());
  CHECK(listener.take().empty());
}

TEST_CASE("a device that maps as memory is told: it came by a descriptor", "[exec]") {
  Fixture f;
  Listener listener(f.machine);
  f.file.attributes.kind = hal::FileKind::anonymous_device;
  f.file.attributes.path = "/dev/zero";
  const auto mapped = f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open());
  CHECK(listener.take() == Lines{line("mapped", mapped.value, 1, "/dev/zero")});
}

TEST_CASE("a munmap with something executable in it is told once, as rounded", "[exec]") {
  Fixture f;
  const auto at = f.program->mmap(0, 5 * kPage, bsd::kRead, kAnonPrivate).value;
  const auto fixed = bsd::kPrivate | bsd::kFixed;
  REQUIRE(f.program->mmap(at + kPage, kPage, kReadExec, fixed, f.file.open()).ok());
  REQUIRE(f.program->mmap(at + 3 * kPage, kPage, kReadExec, fixed, f.file.open()).ok());
  Listener listener(f.machine);
  CHECK(f.program->munmap(at + 10, 5 * kPage - 20).ok());
  CHECK(listener.take() == Lines{line("unmapped", at, 5, "/lib/code")});
}

TEST_CASE("a munmap tells of executable memory without a file, and of the host's", "[exec]") {
  Fixture f;
  const auto memory = f.program->mmap(0, 2 * kPage, kAll, kAnonPrivate).value;
  const auto data = f.program->mmap(0, kPage, bsd::kReadWrite, kAnonPrivate).value;
  Listener listener(f.machine);
  CHECK(f.program->munmap(memory, kPage).ok());
  CHECK(f.program->munmap(kText, kPage).ok());
  CHECK(f.program->munmap(data, kPage).ok());
  CHECK_FALSE(f.program->munmap(memory, 0).ok());
  CHECK_FALSE(f.program->munmap(kElsewhere, kPage).ok());
  CHECK(listener.take() ==
        Lines{line("unmapped", memory, 1, ""), line("unmapped", kText, 1, "/bin/program")});
}

TEST_CASE("an mmap that its program could not carry out is taken back in the trace", "[exec]") {
  Fixture f;
  Listener listener(f.machine);
  f.program->pmap().fail_next(hal::Step::Kind::map_backing, ENOMEM);
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).error == ENOMEM);
  const Lines lines = listener.take();
  REQUIRE(lines.size() == 2);
  CHECK(lines[1] == "un" + lines[0]);
}

TEST_CASE("who stopped to listen is told nothing", "[exec]") {
  Fixture f;
  { Listener listener(f.machine); }
  CHECK_FALSE(f.machine.machine.exec_trace().wanted());
  CHECK(f.program->mmap(0, kPage, kReadExec, bsd::kPrivate, f.file.open()).ok());
}
