// One view of a file, in the manner of fsx: two served processes and one that is not read, write,
// map, truncate and punch one file, a step at a time, and a model knows what each must find.
//
// Between served processes everything shows at once. Between them and the one that is not, what
// programs stored shows from msync on, and what that one changed from the next lock or new mapping
// on: those are among the steps.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <iostream>
#include <random>

#include "tests/programs/file_steps.h"
#include "tests/support/numbers.h"
#include "tests/support/server.h"

using support::Process;
using support::ServerUnderTest;

namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kMost = FILE_STEPS_PAGES * kPage;

class Worker {
 public:
  Worker(support::Command command, const std::string& path) {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    socket_ = tools::UniqueFd(ends[0]);
    const tools::UniqueFd theirs(ends[1]);
    command.arguments = {support::program_path("file_steps"), path, std::to_string(ends[1])};
    command.descriptors = {ends[1]};
    process_ = Process(command);
  }

  const file_step_outcome& take(const file_step& step) {
    if (send(socket_.get(), &step, sizeof(step), MSG_NOSIGNAL) != sizeof(step)) fail();
    const ssize_t got = recv(socket_.get(), &outcome_, sizeof(outcome_), 0);
    if (got < 8 || got != static_cast<ssize_t>(8 + outcome_.bytes)) fail();
    return outcome_;
  }

  std::string end() {
    const file_step last{.kind = STEP_END, .bytes = 0, .offset = 0, .other = 0, .seed = 0};
    if (send(socket_.get(), &last, sizeof(last), MSG_NOSIGNAL) != sizeof(last)) fail();
    return process_.wait().text();
  }

 private:
  void fail() { FAIL("a worker has ended: " << process_.wait().text()); }

  tools::UniqueFd socket_;
  Process process_;
  file_step_outcome outcome_{};
};

const char* name_of(std::uint32_t kind) {
  constexpr const char* kNames[] = {
      "read",   "read here",  "readv",    "fread",        "read direct",    "sendfile",
      "splice", "load",       "load private", "write",    "write here",     "writev",
      "fwrite", "append",     "write direct", "splice in", "store",         "copy",
      "ftruncate", "truncate", "open truncated", "punch", "zero",           "allocate",
      "msync",  "fsync",      "lock",     "map anew",     "unmap"};
  static_assert(std::size(kNames) == STEP_END);
  return kNames[kind];
}

/// What the file holds, and who may not know it yet.
class Model {
 public:
  explicit Model(std::uint64_t bytes) : content_(bytes, 0) {}

  std::uint64_t bytes() const { return content_.size(); }
  void write(std::uint64_t at, std::uint64_t bytes, std::uint64_t seed) {
    if (content_.size() < at + bytes) content_.resize(at + bytes, 0);
    for (std::uint64_t i = 0; i < bytes; ++i) content_[at + i] = step_byte(seed, i);
  }
  void copy(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    const std::vector<std::uint8_t> piece(content_.begin() + static_cast<std::ptrdiff_t>(from),
                                          content_.begin() + static_cast<std::ptrdiff_t>(from + bytes));
    if (content_.size() < to + bytes) content_.resize(to + bytes, 0);
    std::copy(piece.begin(), piece.end(), content_.begin() + static_cast<std::ptrdiff_t>(to));
  }
  void resize(std::uint64_t bytes) { content_.resize(bytes, 0); }
  void zero(std::uint64_t at, std::uint64_t bytes) {
    for (std::uint64_t i = at; i < std::min(at + bytes, this->bytes()); ++i) content_[i] = 0;
  }
  /// The first byte in which they differ, or -1.
  std::int64_t difference(std::uint64_t at, const std::uint8_t* data, std::uint64_t bytes) const {
    for (std::uint64_t i = 0; i < bytes; ++i) {
      if (content_[at + i] != data[i]) return static_cast<std::int64_t>(at + i);
    }
    return -1;
  }
  unsigned byte(std::uint64_t at) const { return content_[at]; }

 private:
  std::vector<std::uint8_t> content_;
};

class Fsx {
 public:
  Fsx(ServerUnderTest& server, const std::string& path, std::uint64_t seed)
      : random_(seed), model_(kStart) {
    for (int i = 0; i < 2; ++i) workers_.emplace_back(server.command({"file_steps"}), path);
    workers_.emplace_back(support::Command{}, path);
  }

  static constexpr std::uint64_t kStart = 5 * kPage + 700;

  void run(std::uint64_t steps) {
    for (done_ = 0; done_ < steps; ++done_) one();
    for (Worker& worker : workers_) CHECK(worker.end() == "status 0");
  }

  std::string log() const {
    std::string text;
    for (const std::string& line : last_) text += line + "\n";
    return text;
  }

 private:
  static constexpr std::size_t kUnserved = 2;

  std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : random_() % limit; }

  // Who is not served sees stores from msync on; the mappings of those who are see what it does from
  // a lock or a new mapping on.
  void settle_before(std::size_t who, bool through_mapping) {
    if (who == kUnserved && stored_) {
      take(below(2), {.kind = STEP_SYNC, .bytes = 0, .offset = 0, .other = 0, .seed = 0});
      stored_ = false;
    }
    if (who != kUnserved && changed_ && through_mapping) {
      const std::uint32_t how = below(4) == 0 ? STEP_MAP_ANEW : STEP_LOCK;
      take(below(2), {.kind = how, .bytes = 0, .offset = 0, .other = 0, .seed = 0});
      changed_ = false;
    }
  }

  file_step piece(std::uint32_t kind, std::uint64_t room) {
    file_step step{};
    step.kind = kind;
    step.seed = random_();
    const std::uint64_t longest = below(4) == 0 ? FILE_STEPS_MOST : 600;
    step.offset = below(room);
    step.bytes = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(1 + below(longest), room - step.offset));
    return step;
  }

  void one() {
    const std::size_t who = below(8) == 0 ? kUnserved : below(2);
    const auto kind = static_cast<std::uint32_t>(below(STEP_UNMAP));
    switch (kind) {
      case STEP_READ:
      case STEP_READ_HERE:
      case STEP_READV:
      case STEP_FREAD:
      case STEP_SENDFILE:
      case STEP_SPLICE_OUT:
      case STEP_READ_DIRECT:
      case STEP_LOAD:
      case STEP_LOAD_PRIVATE: {
        const bool mapped = kind == STEP_LOAD || kind == STEP_LOAD_PRIVATE;
        if (mapped && below(16) == 0) return beyond(who, kind);
        if (model_.bytes() == 0) return;
        file_step step = piece(kind, model_.bytes());
        if (kind == STEP_READ_DIRECT) {
          step.offset = step.offset / kPage * kPage;
          step.bytes = FILE_STEPS_MOST / 2;
        }
        settle_before(who, mapped);
        return expect(who, step);
      }
      case STEP_WRITE:
      case STEP_WRITE_HERE:
      case STEP_WRITEV:
      case STEP_FWRITE:
      case STEP_SPLICE_IN:
      case STEP_WRITE_DIRECT: {
        file_step step = piece(kind, kMost);
        // Files that grow all the time are large all the time.
        if (below(3) != 0 && model_.bytes() != 0) step = piece(kind, model_.bytes());
        if (kind == STEP_WRITE_DIRECT) {
          step.offset = step.offset / kPage * kPage;
          step.bytes = static_cast<std::uint32_t>((1 + below(2)) * kPage);
          if (step.offset + step.bytes > kMost) return;
        }
        return change(who, step, [&] { model_.write(step.offset, step.bytes, step.seed); });
      }
      case STEP_APPEND: {
        file_step step = piece(kind, kMost);
        if (model_.bytes() + step.bytes > kMost) return;
        return change(who, step, [&] { model_.write(model_.bytes(), step.bytes, step.seed); });
      }
      case STEP_STORE: {
        if (model_.bytes() == 0) return;
        const file_step step = piece(kind, model_.bytes());
        settle_before(who, true);
        if (who == kUnserved) return change(who, step, [&] { model_.write(step.offset, step.bytes, step.seed); });
        take(who, step);
        model_.write(step.offset, step.bytes, step.seed);
        stored_ = true;
        return;
      }
      case STEP_COPY: {
        if (model_.bytes() < 2) return;
        file_step step = piece(kind, model_.bytes() / 2);
        // The two may not overlap.
        const std::uint64_t end = step.offset + step.bytes;
        step.other = end + below(std::min(model_.bytes(), kMost - step.bytes) - std::min(end, std::min(model_.bytes(), kMost - step.bytes)) + 1);
        if (step.other + step.bytes > kMost) return;
        return change(who, step, [&] { model_.copy(step.offset, step.other, step.bytes); });
      }
      case STEP_FTRUNCATE:
      case STEP_TRUNCATE: {
        file_step step{};
        step.kind = kind;
        step.offset = below(kMost);
        return change(who, step, [&] { model_.resize(step.offset); });
      }
      case STEP_OPEN_TRUNCATED: {
        if (below(8) != 0) return;
        return change(who, {.kind = kind, .bytes = 0, .offset = 0, .other = 0, .seed = 0},
                      [&] { model_.resize(0); });
      }
      case STEP_PUNCH: {
        const file_step step = piece(kind, kMost);
        return change(who, step, [&] { model_.zero(step.offset, step.bytes); });
      }
      case STEP_ZERO:
      case STEP_ALLOCATE: {
        const file_step step = piece(kind, kMost);
        return change(who, step, [&] {
          if (kind == STEP_ZERO) model_.zero(step.offset, step.bytes);
          if (step.offset + step.bytes > model_.bytes()) model_.resize(step.offset + step.bytes);
        });
      }
      case STEP_SYNC:
      case STEP_FSYNC:
      case STEP_LOCK:
      case STEP_MAP_ANEW:
        if (kind == STEP_FSYNC && below(8) != 0) return;
        take(who, {.kind = kind, .bytes = 0, .offset = 0, .other = 0, .seed = 0});
        return;
      default:
        FAIL("a step of no kind");
    }
  }

  template <class Apply>
  void change(std::size_t who, const file_step& step, const Apply& apply) {
    // A change by who is not served goes into the file as that is.
    settle_before(who, false);
    if (who != kUnserved && changed_) settle_before(who, true);
    if (!take(who, step)) return;
    apply();
    if (who == kUnserved) changed_ = true;
  }

  // A whole page behind the end: a bus error.
  void beyond(std::size_t who, std::uint32_t kind) {
    const std::uint64_t end = (model_.bytes() + kPage - 1) / kPage * kPage;
    if (end >= kMost) return;
    file_step step{};
    step.kind = kind;
    step.offset = end + below(kMost - end);
    step.bytes = 1;
    settle_before(who, true);
    const file_step_outcome& outcome = ask(who, step);
    if (outcome.error != -SIGBUS) {
      FAIL("step " << done_ << ": no bus error behind the end, but " << outcome.error << "\n" << log());
    }
  }

  void expect(std::size_t who, const file_step& step) {
    const file_step_outcome& outcome = ask(who, step);
    const std::uint64_t there = std::min<std::uint64_t>(step.bytes, model_.bytes() - step.offset);
    const std::int64_t at = outcome.error != 0 || outcome.bytes != there
                                ? 0
                                : model_.difference(step.offset, outcome.data, there);
    if (outcome.error == 0 && outcome.bytes == there && at < 0) return;
    std::string text = "error " + std::to_string(outcome.error) + ", " +
                       std::to_string(outcome.bytes) + " bytes of " + std::to_string(there);
    if (outcome.error == 0 && outcome.bytes == there) {
      const auto byte = static_cast<std::uint64_t>(at);
      text = "byte " + std::to_string(at) + " is " +
             std::to_string(outcome.data[byte - step.offset]) + " instead of " +
             std::to_string(model_.byte(byte));
    }
    FAIL("step " << done_ << ": " << text << "\n" << log());
  }

  /// False where the file system has no such thing.
  bool take(std::size_t who, const file_step& step) {
    const file_step_outcome& outcome = ask(who, step);
    if (outcome.error == EOPNOTSUPP && step.kind == STEP_ZERO) return false;
    if (outcome.error != 0) {
      FAIL("step " << done_ << " fails: " << std::strerror(outcome.error) << "\n" << log());
    }
    return true;
  }

  const file_step_outcome& ask(std::size_t who, const file_step& step) {
    last_.push_back(std::to_string(done_) + " " + std::string(1, static_cast<char>('a' + who)) +
                    " " + name_of(step.kind) + " " + std::to_string(step.bytes) + " at " +
                    std::to_string(step.offset) + " (" + std::to_string(step.other) + ") of " +
                    std::to_string(model_.bytes()));
    if (last_.size() > 40) last_.pop_front();
    return workers_[who].take(step);
  }

  std::mt19937_64 random_;
  std::deque<Worker> workers_;
  Model model_;
  bool stored_ = false;   // through a mapping, and not synced since
  bool changed_ = false;  // by who is not served, and nobody has taken a lock since
  std::uint64_t done_ = 0;
  std::deque<std::string> last_;
};

}  // namespace

TEST_CASE("two served processes and one that is not see one file") {
  const std::uint64_t seed = support::chosen_seed();
  const std::uint64_t steps = support::number_from("FSX_STEPS", 20'000);
  std::cout << "seed " << seed << ", " << steps << " steps (TEST_SEED and FSX_STEPS set them)\n";
  const bool on_disk = GENERATE(true, false);
  INFO("TEST_SEED=" << seed << (on_disk ? ", in a directory for temporary files" : ", on tmpfs"));
  ServerUnderTest server;
  const support::TemporaryDirectory memory("/dev/shm");
  const std::string path = (on_disk ? server.directory() : memory) / "f";
  support::write_file(path, std::string(Fsx::kStart, '\0'));
  Fsx fsx(server, path, seed);
  fsx.run(steps);
  const std::string log = server.log();
  CHECK(log.find("warning") == std::string::npos);
  CHECK(log.find("error") == std::string::npos);
}
