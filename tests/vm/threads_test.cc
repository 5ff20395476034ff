// Programs and pagers on threads of their own: what a sanitizer watches.
#include <catch2/catch.hpp>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/vm/test_machine.h"
#include "tests/vm/test_random.h"

using namespace test;
using hal::SimResult;

namespace {

constexpr std::uint64_t kPages = 64;
constexpr unsigned kPrograms = 3;
constexpr int kSteps = 1500;

class PagerThread {
 public:
  explicit PagerThread(FakePagerDirectory& pagers)
      : pagers_(pagers), thread_([&pagers] { pagers.run(); }) {}
  ~PagerThread() {
    pagers_.stop();
    thread_.join();
  }
  PagerThread(const PagerThread&) = delete;
  PagerThread& operator=(const PagerThread&) = delete;

 private:
  FakePagerDirectory& pagers_;
  std::thread thread_;
};

// One program that stores into its own byte of each page of a file that others use as well.
class Writer {
 public:
  Writer(TestMachine& machine, const FakeFile& file, unsigned number, std::uint64_t seed)
      : file_(file), number_(number), engine_(seed), program_(machine, {.threads = true}) {
    for (std::uint64_t page = 0; page < kPages; ++page) {
      bytes_[page] = static_cast<unsigned>(file.at(page * kPage + number));
    }
    map();
  }

  void run() {
    for (int i = 0; i < kSteps && mistakes_ == 0; ++i) step();
    if (number_ == 0) {
      program_.exit();
    }
    program_.kill();
  }

  int mistakes() const { return mistakes_; }
  const std::array<unsigned, kPages>& bytes() const { return bytes_; }

 private:
  void step() {
    const std::uint64_t page = engine_() % kPages;
    const std::uint64_t address = at_ + page * kPage + number_;
    std::byte byte{};
    switch (engine_() % 24) {
      case 0:
        expect(program_.msync(at_, kPages * kPage, bsd::kSync).ok());
        break;
      case 1:
        expect(program_.munmap(at_, kPages * kPage).ok());
        map();
        break;
      case 2:
        expect(program_.madvise(at_, kPages * kPage, bsd::kWillNeed).ok());
        break;
      case 3:
        expect(program_.mincore(at_, kPages * kPage).ok());
        break;
      case 4: {
        // A second view of the file, read-only at first.
        const auto view = program_.mmap(0, kPages * kPage, bsd::kRead, bsd::kShared, file_.open());
        expect(view.ok());
        expect(program_.mprotect(view.value, kPages * kPage, bsd::kReadWrite).ok());
        expect(program_.munmap(view.value, kPages * kPage).ok());
        break;
      }
      case 5: {
        const auto child = program_.fork();
        expect(child->read(address, std::span(&byte, 1)) ==
               SimResult::done);
        expect(static_cast<unsigned>(byte) == bytes_[page]);
        child->kill();
        break;
      }
      case 6:
      case 7:
      case 8:
      case 9:
      case 10:
      case 11:
      case 12:
        expect(program_.read(address, std::span(&byte, 1)) == SimResult::done);
        expect(static_cast<unsigned>(byte) == bytes_[page]);
        break;
      default:
        bytes_[page] = static_cast<unsigned>(engine_() % 256);
        expect(program_.try_store(address, bytes_[page]) == SimResult::done);
    }
  }

  void map() {
    const auto mapped =
        program_.mmap(0, kPages * kPage, bsd::kReadWrite, bsd::kShared, file_.open());
    expect(mapped.ok());
    at_ = mapped.value;
  }
  void expect(bool good) {
    if (!good) ++mistakes_;
  }

  const FakeFile& file_;
  const unsigned number_;
  std::mt19937_64 engine_;
  Program program_;
  std::array<unsigned, kPages> bytes_{};
  std::uint64_t at_ = 0;
  int mistakes_ = 0;
};

}  // namespace

TEST_CASE("programs on their own threads lose no store to a file they share", "[threads][random]") {
  Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  TestMachine machine;
  FakeFile& file = machine.make_file(kPages * kPage);
  {
    std::vector<std::unique_ptr<Writer>> writers;
    for (unsigned i = 0; i < kPrograms; ++i) {
      writers.push_back(std::make_unique<Writer>(machine, file, i, random.seed() + i));
    }
    {
      const PagerThread pager(machine.pagers);
      std::vector<std::thread> threads;
      for (auto& writer : writers) threads.emplace_back([&writer] { writer->run(); });
      for (std::thread& thread : threads) thread.join();
    }
    machine.pagers.pump_all();
    for (unsigned i = 0; i < kPrograms; ++i) {
      CHECK(writers[i]->mistakes() == 0);
      for (std::uint64_t page = 0; page < kPages; ++page) {
        if (static_cast<unsigned>(file.at(page * kPage + i)) != writers[i]->bytes()[page]) {
          FAIL_CHECK("program " << i << " lost its store to page " << page);
        }
      }
    }
  }
}

TEST_CASE("threads of one program fault and fork at the same time", "[threads]") {
  TestMachine machine;
  Program program(machine, {.threads = true});
  FakeFile& file = machine.make_file(kPages * kPage);
  constexpr std::uint64_t kMany = 2000;
  const std::uint64_t anonymous =
      program.mmap(0, kMany * kPage, bsd::kReadWrite, bsd::kAnon | bsd::kPrivate).value;
  const std::uint64_t shared =
      program.mmap(0, kPages * kPage, bsd::kReadWrite, bsd::kShared, file.open()).value;
  std::atomic<int> mistakes = 0;
  {
    const PagerThread pager(machine.pagers);
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 2; ++number) {
      threads.emplace_back([&, number] {
        for (std::uint64_t page = number; page < kMany; page += 2) {
          if (program.try_store(anonymous + page * kPage, 5) != SimResult::done) ++mistakes;
          if (program.try_load(shared + page % kPages * kPage) != SimResult::done) ++mistakes;
        }
      });
    }
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const auto child = program.fork();
        if (child->try_store(anonymous + 7 * kPage, 9) != SimResult::done) ++mistakes;
        if (child->try_load(shared) != SimResult::done) ++mistakes;
        child->kill();
      }
    });
    for (std::thread& thread : threads) thread.join();
  }
  CHECK(mistakes == 0);
  for (std::uint64_t page = 0; page < kMany; ++page) {
    if (program.load(anonymous + page * kPage) != 5) FAIL_CHECK("page " << page);
  }
  machine.pagers.pump_all();
}
