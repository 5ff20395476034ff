// All calls on programs that share files, at random, against a model of what they should see.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <string>
#include <sys/mman.h>

#include <fmt/format.h>

#include "tests/vm/core_model.h"
#include "tests/vm/test_machine.h"
#include "tests/vm/test_random.h"

using namespace test;
using hal::SimResult;

namespace {

constexpr std::uint64_t kWindow = 160;  // pages of the server's room that calls are about
constexpr std::size_t kMostPrograms = 4;
constexpr std::uint64_t kMostPages = 24;  // of one mapping

class Driver {
 public:
  explicit Driver(Random& random, std::uint64_t memory_limit_pages = 0)
      : random_(random),
        machine_({.max_wired_pages = 1 << 20, .memory_limit_pages = memory_limit_pages}),
        pages_leave_(memory_limit_pages != 0) {
    for (std::uint64_t pages : {30, 12, 3}) {
      FakeFile& file = machine_.make_file(pages * kPage);
      auto model = std::make_shared<ModelObject>();
      model->pages.resize(pages);
      for (std::uint64_t page = 0; page < pages; ++page) {
        for (std::size_t cell = 0; cell < kCellCount; ++cell) {
          model->pages[page][cell] =
              static_cast<std::uint8_t>(file.at(page * kPage + kCells[cell]));
        }
      }
      files_.push_back({&file, model});
    }
    programs_.push_back({std::make_unique<Program>(machine_), {}});
    programs_.push_back({std::make_unique<Program>(machine_), {}});
  }

  void step() {
    Running& running = programs_[random_.below(programs_.size())];
    program_ = running.program.get();
    model_ = &running.model;
    program_->abi = protocol::kAbiLinux;
    if (pages_leave_) page_out_some();
    switch (random_.below(20)) {
      case 0:
      case 1:
      case 2:
        return map();
      case 3:
        return unmap();
      case 4:
        return protect();
      case 5:
        return sync();
      case 6:
        return advise();
      case 7:
        return core();
      case 8:
        return wire();
      case 9:
        return inherit();
      case 10:
        return remap();
      case 11:
        return random_.one_in(4) ? fork_or_end() : store();
      case 12:
        return random_.one_in(8) ? grow_file() : load();
      case 13:
      case 14:
      case 15:
        return load();
      default:
        return store();
    }
  }

  void check_everything() {
    for (Running& running : programs_) {
      program_ = running.program.get();
      model_ = &running.model;
      for (std::uint64_t page = 0; page < kWindow + kMostPages; ++page) load_page(page);
    }
  }

  // Every program ends; then the files hold what was stored.
  void finish() {
    while (!programs_.empty()) end(programs_.size() - 1);
    machine_.pagers.pump_all();
    for (const auto& [file, model] : files_) check_file(*file, *model);
    expect("objects left", machine_.machine.object_count(), std::uint64_t{0});
  }

  std::string history() const {
    std::string result;
    for (const std::string& line : history_) result += "\n  " + line;
    return result;
  }

 private:
  struct Running {
    std::unique_ptr<Program> program;
    ModelProgram model;
  };
  struct Range {
    std::uint64_t first;
    std::uint64_t count;
    std::uint64_t address() const { return kRoomStart + first * kPage; }
    std::uint64_t bytes() const { return count * kPage; }
  };

  template <class... Arguments>
  void log(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    const auto at = std::find_if(programs_.begin(), programs_.end(), [&](const Running& running) {
      return running.program.get() == program_;
    });
    history_.push_back(fmt::format("program {}: ", at - programs_.begin()) +
                       fmt::format(format, std::forward<Arguments>(arguments)...));
    if (history_.size() > 40) history_.pop_front();
  }
  template <class Seen, class Expected>
  void expect(const char* what, const Seen& seen, const Expected& expected) {
    if (seen == static_cast<Seen>(expected)) return;
    FAIL(what << ": " << static_cast<std::int64_t>(seen) << " instead of "
              << static_cast<std::int64_t>(expected) << " after" << history());
  }

  Range any_range() {
    const std::uint64_t first = random_.below(kWindow);
    return {first, random_.between(1, std::min(kMostPages, kWindow - first))};
  }
  // A range where something is, more often than not.
  Range mapped_range() {
    if (model_->pages().empty() || random_.one_in(8)) return any_range();
    auto it = model_->pages().lower_bound(random_.below(kWindow));
    if (it == model_->pages().end()) it = model_->pages().begin();
    std::uint64_t count = 1;
    const std::uint64_t most = random_.between(1, kMostPages);
    while (count < most && model_->find(it->first + count) != nullptr) ++count;
    return {it->first, count};
  }

  void map() {
    ModelPage page;
    const std::uint64_t protections[] = {0, 1, 3, 3, 3, 5};
    page.protection = protections[random_.below(std::size(protections))];
    page.shared = random_.one_in(2);
    Range range = any_range();
    std::uint64_t flags = page.shared ? MAP_SHARED : MAP_PRIVATE;
    std::optional<hal::HostFile> file;
    if (random_.one_in(2)) {
      const auto& chosen = files_[random_.below(files_.size())];
      const bool writable = !page.shared || (page.protection & 2) != 0 || random_.one_in(2);
      page.maximum = writable ? 7 : 5;
      page.object = chosen.second;
      page.index = random_.below(chosen.second->pages.size());
      file = chosen.first->open(true, writable && page.shared);
    } else {
      flags |= MAP_ANONYMOUS;
      if (page.shared) {
        page.object = std::make_shared<ModelObject>();
        page.object->pages.resize(range.count);
      }
    }
    const bool fixed = random_.one_in(3);
    if (fixed) flags |= MAP_FIXED;
    const std::uint64_t expected = fixed ? range.first : model_->first_fit(range.count);
    log("mmap {}+{} protection {} flags {:#x} page {} of {}", expected, range.count,
        page.protection, flags, page.index, file ? file->attributes.path : "nothing");
    const auto result = program_->mmap(fixed ? range.address() : 0, range.bytes(),
                                       page.protection, flags, file, page.index * kPage);
    expect("mmap's error", result.error, 0);
    expect("mmap's address", result.value, kRoomStart + expected * kPage);
    model_->map(expected, range.count, page);
  }

  void unmap() {
    const Range range = mapped_range();
    log("munmap {}+{}", range.first, range.count);
    const bool covered = model_->covers(range.first, range.count);
    expect("munmap's error", program_->munmap(range.address(), range.bytes()).error,
           covered ? 0 : EINVAL);
    if (covered) model_->unmap(range.first, range.count);
  }

  void protect() {
    const Range range = mapped_range();
    const std::uint64_t protections[] = {0, 1, 3, 7};
    const std::uint64_t protection = protections[random_.below(4)];
    log("mprotect {}+{} {}", range.first, range.count, protection);
    bool allowed = true;
    model_->for_each(range.first, range.count, [&](ModelPage& page) {
      allowed = allowed && (protection & ~page.maximum) == 0;
    });
    expect("mprotect's error",
           program_->mprotect(range.address(), range.bytes(), protection).error,
           allowed ? 0 : EACCES);
    if (!allowed) return;
    model_->for_each(range.first, range.count,
                     [&](ModelPage& page) { page.protection = protection; });
  }

  void sync() {
    const Range range = mapped_range();
    const bool covered = model_->covers(range.first, range.count);
    const bool fails = random_.one_in(4);
    const bool asynchronous = !fails && random_.one_in(3);
    log("msync {}+{}{}{}", range.first, range.count, fails ? ", the pager fails" : "",
        asynchronous ? ", asynchronously" : "");
    // What earlier calls left to be written must not meet the failure.
    machine_.pagers.pump_all();
    if (fails) machine_.pagers.fail_next(vm::Transfer::Kind::page_out, vm::Error::io);
    const int error =
        program_->msync(range.address(), range.bytes(), asynchronous ? MS_ASYNC : MS_SYNC).error;
    machine_.pagers.fail_no_more();
    if (fails && error == EIO) return;
    expect("msync's error", error, covered ? 0 : EINVAL);
    if (!covered || asynchronous) return;
    model_->for_each(range.first, range.count, [&](ModelPage& page) {
      if (!page.shared) return;
      for (const auto& [file, object] : files_) {
        if (object == page.object && !page.beyond()) check_page(*file, *object, page.index);
      }
    });
  }

  void advise() {
    const Range range = mapped_range();
    const int advice[] = {MADV_DONTNEED, MADV_WILLNEED, MADV_NORMAL, MADV_RANDOM,
                          MADV_SEQUENTIAL, MADV_FREE};
    const int chosen = advice[random_.below(std::size(advice))];
    log("madvise {}+{} {}", range.first, range.count, chosen);
    expect("madvise's error",
           program_->madvise(range.address(), range.bytes(), static_cast<std::uint64_t>(chosen))
               .error,
           0);
    // Where pages leave, what is free goes at once: the host does not know when memory is short.
    const bool gone = chosen == MADV_FREE && pages_leave_;
    if (chosen != MADV_DONTNEED && !gone) return;
    model_->for_each(range.first, range.count, [&](ModelPage& page) {
      if (!gone || !page.object) page.own.reset();
    });
  }

  void core() {
    const Range range = mapped_range();
    log("mincore {}+{}", range.first, range.count);
    const bool covered = model_->covers(range.first, range.count);
    const auto result = program_->mincore(range.address(), range.bytes());
    expect("mincore's error", result.error, covered ? 0 : ENOMEM);
    if (!covered) return;
    expect("mincore's length", result.data.size(), range.count);
    for (std::uint64_t i = 0; i < range.count; ++i) {
      const ModelPage& page = *model_->find(range.first + i);
      if (page.own && *page.own != Cells{} && !pages_leave_) {
        expect("mincore's bit", result.data[i] & 1, 1);
      }
      if (page.beyond()) expect("mincore's bit", result.data[i], 0);
    }
  }

  // Whoever works beside the programs gets on by a bit, and perhaps half a bit.
  void page_out_some() {
    switch (random_.below(6)) {
      case 0:
        program_->space().start_leaving();
        return;
      case 1:
        program_->pmap().take_ordered();
        return;
      case 2:
        program_->pmap().answer_taken();
        return;
      case 3:
        machine_.machine.swap().launder(random_.below(64));
        return;
      case 4:
        machine_.machine.swap().reclaim(random_.below(64));
        return;
      default:
        machine_.pump();
    }
  }

  void wire() {
    if (pages_leave_) return;  // more than there is could be wired
    const Range range = mapped_range();
    const bool on = random_.one_in(2);
    log("{} {}+{}", on ? "mlock" : "munlock", range.first, range.count);
    const bool covered = model_->covers(range.first, range.count);
    const auto result = on ? program_->mlock(range.address(), range.bytes())
                           : program_->munlock(range.address(), range.bytes());
    const bool done = covered && (!on || model_->wire(range.first, range.count));
    expect("mlock's error", result.error, done ? 0 : ENOMEM);
  }

  void inherit() {
    using Inherited = ModelPage::Inherited;
    const Range range = mapped_range();
    const std::uint64_t how = random_.below(3);
    constexpr const char* kNames[] = {"share", "copy", "none"};
    log("minherit {}+{} {}", range.first, range.count, kNames[how]);
    const auto result = program_->minherit(range.address(), range.bytes(), how);
    expect("minherit's error", result.error, 0);
    model_->for_each(range.first, range.count, [&](ModelPage& page) {
      page.inherited = how == bsd::kInheritNone ? Inherited::not_at_all : Inherited::as_it_is;
      if (how == bsd::kInheritCopy && page.shared_writable()) page.inherited = Inherited::as_a_copy;
      if (how == bsd::kInheritShare && !page.shared) {
        page.give_object();
        page.shared = true;
      }
    });
  }

  void remap() {
    const Range range = mapped_range();
    const std::uint64_t new_count = random_.between(1, kMostPages);
    const bool fixed = random_.one_in(3);
    const Range target = any_range();
    // What would show behind them is not known here.
    bool alone = false;
    model_->for_each(range.first, range.count, [&](ModelPage& page) { alone |= page.alone; });
    if (alone && new_count > range.count) return;
    std::uint64_t flags = random_.one_in(4) ? 0 : MREMAP_MAYMOVE;
    if (fixed) flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    log("mremap {}+{} to {} pages, flags {}, target {}", range.first, range.count, new_count,
        flags, target.first);
    const auto result = program_->mremap(range.address(), range.bytes(), new_count * kPage, flags,
                                         target.address());
    if (fixed && target.first < range.first + range.count &&
        range.first < target.first + new_count) {
      return expect("mremap's error", result.error, EINVAL);
    }
    if (!fixed && new_count <= range.count && model_->find(range.first) != nullptr) {
      // What goes is only unmapped, whatever is there.
      expect("mremap's error", result.error, 0);
      return model_->unmap(range.first + new_count, range.count - new_count);
    }
    if (!model_->covers(range.first, range.count)) {
      return expect("mremap's error", result.error, EFAULT);
    }
    // Whether it is one mapping is the map's to know; whether there is room, nearly so.
    if (result.error == EFAULT) return;
    if (result.error == ENOMEM && flags == 0 && new_count > range.count) return;
    expect("mremap's error", result.error, 0);
    const std::uint64_t went = (result.value - kRoomStart) / kPage;
    if (fixed) expect("mremap's target", went, target.first);
    model_->remap(range.first, range.count, went, new_count);
  }

  void fork_or_end() {
    if (programs_.size() < kMostPrograms && random_.one_in(2)) {
      log("fork");
      programs_.push_back({program_->fork(), model_->fork()});
    } else if (programs_.size() > 2) {
      end(random_.below(programs_.size()));
    }
  }

  void end(std::size_t which) {
    Running gone = std::move(programs_[which]);
    // What it took out and never said is lost to its children, which the model does not know.
    while (gone.program->pmap().answer_taken()) continue;
    const std::uint64_t how = random_.below(3);
    history_.push_back(fmt::format("program {} ends, {}", which, how));
    programs_.erase(programs_.begin() + static_cast<std::ptrdiff_t>(which));
    if (how == 0) expect("exit's error", gone.program->exit().error, 0);
    if (how != 1) gone.program->kill();
  }

  void grow_file() {
    const auto& [file, object] = files_[random_.below(files_.size())];
    if (object->pages.size() > 60) return;
    const std::uint64_t pages = object->pages.size() + random_.between(1, 5);
    log("{} grows to {} pages", file->attributes.path, pages);
    // What is on its way to the pager was submitted before.
    machine_.pagers.pump_all();
    file->resize(pages * kPage);
    object->pages.resize(pages);
    // The next mapping of it tells everybody.
    const auto mapped = program_->mmap(0, kPage, PROT_READ, MAP_SHARED, file->open(true, false));
    expect("mmap's error", mapped.error, 0);
    expect("munmap's error", program_->munmap(mapped.value, kPage).error, 0);
  }

  void load() { load_page(random_.below(kWindow)); }

  void load_page(std::uint64_t number) {
    const std::size_t cell = random_.below(kCellCount);
    std::byte byte{};
    const SimResult result =
        program_->read(kRoomStart + number * kPage + kCells[cell], std::span(&byte, 1));
    const Touch touch = model_->check(number, false);
    if (!agree(result, touch)) log("load of {}.{}: {}", number, cell, static_cast<int>(result));
    expect("a load's result", agree(result, touch), true);
    if (touch != Touch::done) return;
    ModelPage& page = *model_->find(number);
    const std::uint8_t expected = page.own ? (*page.own)[cell]
                                  : page.object ? page.object->pages[page.index][cell]
                                                : std::uint8_t{0};
    if (static_cast<std::uint8_t>(byte) != expected) log("load of {}.{}", number, cell);
    expect("a loaded byte", static_cast<std::uint8_t>(byte), expected);
  }

  void store() {
    const std::uint64_t number = random_.below(kWindow);
    const std::size_t cell = random_.below(kCellCount);
    const auto value = static_cast<std::uint8_t>(random_.below(256));
    const std::byte byte{value};
    const Touch touch = model_->check(number, true);
    log("store of {} to {}.{}", value, number, cell);
    const SimResult result =
        program_->write(kRoomStart + number * kPage + kCells[cell], std::span(&byte, 1));
    expect("a store's result", agree(result, touch), true);
    if (touch != Touch::done) return;
    ModelPage& page = *model_->find(number);
    page.copy_on_write();
    page.content()[cell] = value;
  }

  static bool agree(SimResult result, Touch touch) {
    switch (touch) {
      case Touch::done:
        return result == SimResult::done;
      case Touch::segmentation_fault:
        return result == SimResult::segmentation_fault;
      case Touch::bus_error:
        return result == SimResult::bus_error;
    }
    return false;
  }

  void check_page(const FakeFile& file, const ModelObject& object, std::uint64_t page) {
    for (std::size_t cell = 0; cell < kCellCount; ++cell) {
      const std::uint64_t offset = page * kPage + kCells[cell];
      const auto seen = static_cast<std::uint8_t>(file.at(offset));
      if (seen != object.pages[page][cell]) {
        history_.push_back(fmt::format("{} at {}.{}", file.attributes.path, page, cell));
      }
      expect("a byte of a file", seen, object.pages[page][cell]);
    }
  }
  void check_file(const FakeFile& file, const ModelObject& object) {
    for (std::uint64_t page = 0; page < object.pages.size(); ++page) {
      check_page(file, object, page);
    }
  }

  Random& random_;
  TestMachine machine_;
  const bool pages_leave_;
  std::vector<std::pair<FakeFile*, std::shared_ptr<ModelObject>>> files_;
  std::vector<Running> programs_;
  Program* program_ = nullptr;
  ModelProgram* model_ = nullptr;
  std::deque<std::string> history_;
};

}  // namespace

namespace {

// Rounds of new programs and files each, until there are as many steps as that.
void take_steps(std::uint64_t steps, std::uint64_t memory_limit_pages) {
  constexpr std::uint64_t kSteps = 2000;  // of a round
  Random random;
  INFO("VM_TEST_SEED=" << random.seed());
  for (std::uint64_t taken = 0; taken < steps; taken += kSteps) {
    Driver driver(random, memory_limit_pages);
    for (std::uint64_t i = 0; i < kSteps; ++i) {
      driver.step();
      if (i % 100 == 99) driver.check_everything();
    }
    driver.finish();
  }
}

std::uint64_t steps_with_little_memory() {
  const char* given = std::getenv("VM_TEST_STEPS");
  return given != nullptr ? std::strtoull(given, nullptr, 0) : 1'000'000;
}

}  // namespace

TEST_CASE("programs see what a model of all calls says they should", "[whole_core][random]") {
  take_steps(20'000, 0);
}

TEST_CASE("programs see the same with next to no memory", "[whole_core][paging][random]") {
  take_steps(steps_with_little_memory(), 64);
}
