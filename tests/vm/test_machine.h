// The fixture of the core's tests: a Machine on simulated memory, fake pagers, and programs that
// make calls and touch memory.
//
//   TestMachine   memory, pagers, and the vm::Machine on them
//   Program       a VmSpace on a SimPmap: calls by name, loads and stores, fork, kill
//   CallResult    what a call gave, and its errno
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "hal/sim/sim_backing.h"
#include "hal/sim/sim_cpu.h"
#include "hal/sim/sim_pmap.h"
#include "protocol/trap_frame.h"
#include "tests/vm/fake_pager.h"
#include "vmserver/vm/machine.h"
#include "vmserver/vm/pageout.h"
#include "vmserver/vm/vm_space.h"

namespace test {

inline constexpr std::uint64_t kPage = hal::kPageSize;

/// FreeBSD's numbers, as its programs have them from sys/mman.h. The host's are its own headers'.
namespace bsd {
inline constexpr std::uint64_t kShared = 0x0001, kPrivate = 0x0002, kFixed = 0x0010,
                               kStack = 0x0400, kNoSync = 0x0800, kAnon = 0x1000,
                               kNoCore = 0x20000;
inline constexpr std::uint64_t kNone = 0, kRead = 1, kWrite = 2, kExec = 4, kReadWrite = 3;
inline constexpr std::uint64_t kSync = 0, kAsync = 1, kInvalidate = 2;
inline constexpr std::uint64_t kInheritShare = 0, kInheritCopy = 1, kInheritNone = 2,
                               kInheritZero = 3;
inline constexpr std::uint64_t kNormal = 0, kRandom = 1, kSequential = 2, kWillNeed = 3,
                               kDontNeed = 4, kFree = 5, kNoSyncAdvice = 6, kAutoSync = 7,
                               kNoCoreAdvice = 8, kCore = 9, kProtect = 10;
}  // namespace bsd

inline constexpr std::uint64_t kRoomStart = 0x10'0000'0000;  // behind the largest heap
inline constexpr std::uint64_t kRoomBytes = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kText = 0x40'0000;
inline constexpr std::uint64_t kData = 0x60'0000;
inline constexpr std::uint64_t kHostStack = 0x7fff'ffe0'0000;
inline constexpr std::uint64_t kLowest = 0x1'0000;
inline constexpr std::uint64_t kHighest = 0x7fff'ffff'f000;
inline constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};
/// Far from where the server puts mappings and from everything the host has.
inline constexpr std::uint64_t kElsewhere = 0x5000'0000'0000;

struct CallResult {
  int error = 0;  ///< errno
  std::uint64_t value = 0;
  bool value_from_host = false;
  std::vector<std::uint8_t> data;
  bool ok() const { return error == 0; }
};

struct MachineChoices {
  const char* personality = "freebsd-7";
  std::uint64_t max_wired_pages = 1024;
  std::uint64_t max_entries = 0;
  std::string policy = {};  ///< its text; "": none
  std::vector<std::string> host_files = {};
  bool usual_host_files = true;
  std::uint64_t memory_limit_pages = 0;
};

class Program;

class TestMachine {
 public:
  explicit TestMachine(const MachineChoices& choices = {});
  /// Fails the test when the core broke a rule towards a pager, or left objects behind.
  ~TestMachine();

  FakeFile& make_file(std::uint64_t bytes) { return pagers.make_file(bytes); }
  /// Every object has gone, at the pagers as well.
  bool nothing_left() const;
  /// Does the next bit of work of those that work beside the programs: pagers, the threads that take
  /// pages out of programs, the page-out daemon. False when there is none.
  bool pump();
  bool machine_has_swap() const;

  std::shared_ptr<hal::SimMemory> memory;
  hal::SimBackingFactory backings;
  FakePagerDirectory pagers;
  vm::Machine machine;
  vm::PageoutDaemon daemon;
  std::mutex programs_lock;
  std::list<Program*> programs;  // those that there are. Changed with the lock; gone through without threads
  vm::PageoutDaemon::Clock::time_point time{};  // the daemon's; passes with every pass

  // Pending calls that other threads end.
  std::mutex calls_lock;
  std::condition_variable call_ended;

 private:
  vm::PageoutDaemon::Clock::time_point look_at_time();

  unsigned looks_ = 0;
};

struct ProgramLayout {
  /// The pagers run on a thread of their own: wait for them instead of doing their work.
  bool threads = false;
};

/// A call that is under way, and what came of it.
class PendingCall;

class Program {
 public:
  explicit Program(TestMachine& machine, ProgramLayout layout = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Calls. Each takes its pagers along until it has ended.
  CallResult mmap(std::uint64_t address, std::uint64_t bytes, std::uint64_t protection,
                  std::uint64_t flags, const std::optional<hal::HostFile>& file = std::nullopt,
                  std::uint64_t offset = 0);
  CallResult munmap(std::uint64_t address, std::uint64_t bytes);
  CallResult mremap(std::uint64_t address, std::uint64_t bytes, std::uint64_t new_bytes,
                    std::uint64_t flags = 0, std::uint64_t target = 0,
                    const std::optional<hal::HostFile>& file = std::nullopt);
  CallResult mprotect(std::uint64_t address, std::uint64_t bytes, std::uint64_t protection);
  CallResult msync(std::uint64_t address, std::uint64_t bytes, std::uint64_t flags);
  CallResult minherit(std::uint64_t address, std::uint64_t bytes, std::uint64_t inherit);
  CallResult madvise(std::uint64_t address, std::uint64_t bytes, std::uint64_t advice);
  CallResult posix_madvise(std::uint64_t address, std::uint64_t bytes, std::uint64_t advice);
  /// Asks again until all is answered, as the shim does; `data` holds a byte for each page.
  CallResult mincore(std::uint64_t address, std::uint64_t bytes);
  CallResult mlock(std::uint64_t address, std::uint64_t bytes);
  CallResult munlock(std::uint64_t address, std::uint64_t bytes);
  CallResult mlockall(std::uint64_t how);
  CallResult munlockall();
  CallResult exit();
  CallResult call(const protocol::TrapRequest& request,
                  const std::optional<hal::HostFile>& file = std::nullopt);
  protocol::TrapRequest request(protocol::CallNumber number,
                                std::initializer_list<std::uint64_t> arguments = {}) const;
  /// The same, but left alone: for pagers that are held back.
  std::unique_ptr<PendingCall> start(const protocol::TrapRequest& request,
                                     const std::optional<hal::HostFile>& file = std::nullopt);

  // Loads and stores.
  hal::SimResult read(std::uint64_t address, std::span<std::byte> bytes);
  hal::SimResult write(std::uint64_t address, std::span<const std::byte> bytes);
  hal::SimResult touch(std::uint64_t address, std::uint64_t pages = 1, bool write = false);
  /// One byte; fails the test when it is not there.
  unsigned load(std::uint64_t address);
  void store(std::uint64_t address, unsigned value);
  hal::SimResult try_load(std::uint64_t address);
  hal::SimResult try_store(std::uint64_t address, unsigned value = 1);

  /// A child; it has settled, as after its first call.
  std::unique_ptr<Program> fork();
  /// Without kCallFork before it, as by a raw clone.
  std::unique_ptr<Program> fork_unannounced();
  /// Without settling: tests look at what its first call brings.
  std::unique_ptr<Program> fork_unsettled();
  /// Without either. The server hears of it late: other threads of the program's do something before.
  std::unique_ptr<Program> fork_now(const std::function<void()>& before_heard = {});
  /// Ends without a word: page tables first, then the session.
  void kill();

  vm::VmSpace& space() { return *space_; }
  hal::SimPmap& pmap() { return *pmap_; }
  TestMachine& machine() { return machine_; }
  std::uint64_t room() const { return kRoomStart; }
  std::vector<vm::EntryReport> entries() { return space_->entries(); }

  // Whose numbers the calls are in, and who calls.
  std::uint16_t abi = protocol::kAbiFreebsd;
  bool superuser = true;
  std::uint32_t user = 0;
  std::int32_t pid = 42;
  bool bad_descriptor = false;
  std::uint64_t address_space_limit = kNoLimit;
  std::uint64_t data_limit = kNoLimit;
  std::uint64_t memlock_limit = kNoLimit;
  std::uint64_t stack_limit = std::uint64_t{8} << 20;
  /// Happens when the program is told what to do in the middle of a call, and when it has done that and
  /// nobody has heard of it.
  std::function<void()> before_plan, after_plan;
  bool holds_plans = false;  ///< calls that end leave their plans to PendingCall::carry_out()

 private:
  Program(TestMachine& machine, bool threads, std::shared_ptr<vm::VmSpace> space,
          hal::SimPmap& pmap);
  void connect();
  void settle();

  TestMachine& machine_;
  const bool threads_;
  hal::SimPmap* pmap_ = nullptr;
  std::shared_ptr<vm::VmSpace> space_;
  std::unique_ptr<hal::SimCpu> cpu_;
};

class PendingCall final : public vm::Call {
 public:
  PendingCall(Program& program, const protocol::TrapRequest& what,
              const std::optional<hal::HostFile>& with);

  bool superuser() override { return superuser_; }
  std::uint32_t user_id() override { return user_; }
  std::int32_t pid() const override { return pid_; }

  /// The program does what it held back, and its call has ended.
  void carry_out();
  bool finished() const;
  /// Waits for another thread to end it; false when none did for a long time.
  bool wait() const;
  /// Fails the test unless the call has ended exactly once.
  CallResult result() const;

 private:
  Program& program_;
  const bool superuser_;
  const std::uint32_t user_;
  const std::int32_t pid_;
  void send_plan(Next next) override;
  void send_answer(const vm::Answer& answer) override;

  int finished_ = 0;   // machine's calls_lock; how often
  bool undone_ = false;
  std::optional<vm::Answer> held_back_;
  vm::Answer answer_;  // machine's calls_lock
};

}  // namespace test
