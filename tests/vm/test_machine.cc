#include "tests/vm/test_machine.h"

#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <string>

#include <catch2/catch.hpp>

namespace test {

using hal::Protection;
using hal::SimResult;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

VirtualRange range_of(std::uint64_t start, std::uint64_t end) {
  return {VirtualAddress(start), VirtualAddress(end)};
}

vm::SpaceLayout make_layout() {
  vm::SpaceLayout layout;
  layout.bounds = range_of(kLowest, kHighest);
  layout.placement = range_of(kRoomStart, kRoomStart + kRoomBytes);
  layout.nameplate = range_of(kHighest - 16 * kPage, kHighest - 15 * kPage);
  layout.text = VirtualAddress(kText);
  layout.data = VirtualAddress(kData);
  return layout;
}

// How long the daemon takes to count pages, now and then; and after how long it counts again even so.
constexpr std::chrono::milliseconds kSlowCount{100};
constexpr std::chrono::milliseconds kUntilCounted{2000};

vm::MachineOptions options_of(const MachineChoices& choices) {
  vm::MachineOptions options;
  options.personality = vm::find_personality(choices.personality);
  options.max_wired_pages = choices.max_wired_pages;
  options.max_entries = choices.max_entries;
  options.host_files = choices.host_files;
  options.usual_host_files = choices.usual_host_files;
  options.memory_limit_pages = choices.memory_limit_pages;
  if (!choices.policy.empty()) {
    options.policy = std::make_shared<const vm::Policy>(
        vm::Policy::parse(choices.policy, "policy").value());
  }
  return options;
}

}  // namespace

TestMachine::TestMachine(const MachineChoices& choices)
    : memory(std::make_shared<hal::SimMemory>()),
      backings(memory),
      machine(options_of(choices), backings, pagers),
      daemon(machine, [this] { return look_at_time(); }) {}

TestMachine::~TestMachine() {
  pagers.hold(false);
  pagers.pump_all();
  for (const std::string& violation : pagers.violations()) FAIL_CHECK(violation);
  CHECK(nothing_left());
}

bool TestMachine::nothing_left() const {
  // Of the swap space nothing is in use; it goes with the machine.
  const std::size_t swap = machine_has_swap() ? 1 : 0;
  return machine.object_count() == 0 && pagers.open_objects() == swap && pagers.queued() == 0 &&
         machine.quiet();
}

bool TestMachine::machine_has_swap() const { return machine.swap().is_open(); }

// Where nobody gets on, the daemon may find more free when it counts the next time.
bool TestMachine::pump() {
  if (pagers.pump()) return true;
  for (Program* program : programs) {
    if (program->pmap().carry_out_taking()) return true;
  }
  if (!machine.memory().limited()) return false;
  // What a pass begins others may have to go on with.
  for (const auto later : {std::chrono::milliseconds(10), kUntilCounted}) {
    time += later;
    if (daemon.pass() || pagers.pump()) return true;
  }
  return false;
}

// Counting is slow at times.
vm::PageoutDaemon::Clock::time_point TestMachine::look_at_time() {
  if (++looks_ % 50 == 0) time += kSlowCount;
  return time;
}

Program::Program(TestMachine& machine, ProgramLayout layout)
    : machine_(machine), threads_(layout.threads) {
  auto pmap = std::make_unique<hal::SimPmap>(machine.memory);
  pmap_ = pmap.get();
  pmap->add_host_mapping(range_of(kText, kText + 4 * kPage),
                         Protection::read() | Protection::execute(), "/bin/program");
  pmap->add_host_mapping(range_of(kData, kData + 4 * kPage),
                         Protection::read() | Protection::write(), "/bin/program");
  pmap->add_host_mapping(range_of(kHostStack, kHostStack + 16 * kPage),
                         Protection::read() | Protection::write(), "[stack]");
  pmap->add_host_mapping(range_of(kHighest - 64 * kPage, kHighest - 62 * kPage),
                         Protection::read() | Protection::execute(), "[vdso]");
  space_ = vm::VmSpace::make(machine.machine, std::move(pmap), make_layout());
  connect();
}

Program::Program(TestMachine& machine, bool threads, std::shared_ptr<vm::VmSpace> space,
                 hal::SimPmap& pmap)
    : machine_(machine), threads_(threads), pmap_(&pmap), space_(std::move(space)) {
  connect();
}

Program::~Program() {
  {
    const std::lock_guard guard(machine_.programs_lock);
    machine_.programs.remove(this);
  }
  pmap_->abandon_orders();
  space_->close();
}

void Program::connect() {
  {
    const std::lock_guard guard(machine_.programs_lock);
    machine_.programs.push_back(this);
  }
  cpu_ = std::make_unique<hal::SimCpu>(
      *pmap_, [this](VirtualAddress page, bool write) { space_->fault(page, write); },
      threads_ ? hal::SimCpu::Pump() : [this] { return machine_.pump(); });
  pmap_->set_prefault([this](VirtualRange range, bool write) {
    return cpu_->touch(range, write) == SimResult::done ? 0 : ENOMEM;
  });
}

protocol::TrapRequest Program::request(protocol::CallNumber number,
                                       std::initializer_list<std::uint64_t> arguments) const {
  protocol::TrapRequest request{};
  request.magic = protocol::kMagic;
  request.call = number;
  request.abi = abi;
  std::copy(arguments.begin(), arguments.end(), request.args);
  switch (number) {
    case protocol::kCallMlock:
    case protocol::kCallMlock2:
    case protocol::kCallMlockall:
      request.limits[0] = memlock_limit;
      break;
    default:
      request.limits[0] = address_space_limit;
      request.limits[1] = data_limit;
      request.limits[2] = stack_limit;
  }
  if (bad_descriptor) request.flags = protocol::kRequestBadDescriptor;
  return request;
}

std::unique_ptr<PendingCall> Program::start(const protocol::TrapRequest& request,
                                            const std::optional<hal::HostFile>& file) {
  auto call = std::make_unique<PendingCall>(*this, request, file);
  space_->handle(*call);
  return call;
}

CallResult Program::call(const protocol::TrapRequest& request,
                         const std::optional<hal::HostFile>& file) {
  const auto call = start(request, file);
  if (threads_) {
    (void)call->wait();
  } else {
    while (!call->finished() && machine_.pump()) continue;
  }
  return call->result();
}

CallResult Program::mmap(std::uint64_t address, std::uint64_t bytes, std::uint64_t protection,
                         std::uint64_t flags, const std::optional<hal::HostFile>& file,
                         std::uint64_t offset) {
  const std::uint64_t descriptor = file || bad_descriptor ? 3 : ~std::uint64_t{0};
  return call(request(protocol::kCallMmap, {address, bytes, protection, flags, descriptor, offset}),
              file);
}

CallResult Program::munmap(std::uint64_t address, std::uint64_t bytes) {
  return call(request(protocol::kCallMunmap, {address, bytes}));
}

CallResult Program::mremap(std::uint64_t address, std::uint64_t bytes, std::uint64_t new_bytes,
                           std::uint64_t flags, std::uint64_t target,
                           const std::optional<hal::HostFile>& file) {
  return call(request(protocol::kCallMremap, {address, bytes, new_bytes, flags, target}), file);
}

CallResult Program::mprotect(std::uint64_t address, std::uint64_t bytes,
                             std::uint64_t protection) {
  return call(request(protocol::kCallMprotect, {address, bytes, protection}));
}

CallResult Program::msync(std::uint64_t address, std::uint64_t bytes, std::uint64_t flags) {
  return call(request(protocol::kCallMsync, {address, bytes, flags}));
}

CallResult Program::minherit(std::uint64_t address, std::uint64_t bytes, std::uint64_t inherit) {
  return call(request(protocol::kCallMinherit, {address, bytes, inherit}));
}

CallResult Program::madvise(std::uint64_t address, std::uint64_t bytes, std::uint64_t advice) {
  return call(request(protocol::kCallMadvise, {address, bytes, advice}));
}

CallResult Program::posix_madvise(std::uint64_t address, std::uint64_t bytes,
                                  std::uint64_t advice) {
  return call(request(protocol::kCallPosixMadvise, {address, bytes, advice}));
}

CallResult Program::mincore(std::uint64_t address, std::uint64_t bytes) {
  CallResult whole;
  const std::uint64_t pages = hal::pages_for_bytes(bytes);
  do {
    const CallResult part =
        call(request(protocol::kCallMincore, {address, bytes, 0, whole.data.size()}));
    whole.error = part.error;
    whole.data.insert(whole.data.end(), part.data.begin(), part.data.end());
    if (!part.ok() || part.value == 0) break;
  } while (whole.data.size() < pages);
  return whole;
}

CallResult Program::mlock(std::uint64_t address, std::uint64_t bytes) {
  return call(request(protocol::kCallMlock, {address, bytes}));
}

CallResult Program::munlock(std::uint64_t address, std::uint64_t bytes) {
  return call(request(protocol::kCallMunlock, {address, bytes}));
}

CallResult Program::mlockall(std::uint64_t how) {
  return call(request(protocol::kCallMlockall, {how}));
}

CallResult Program::munlockall() { return call(request(protocol::kCallMunlockall)); }

CallResult Program::exit() { return call(request(protocol::kCallExit)); }

SimResult Program::read(std::uint64_t address, std::span<std::byte> bytes) {
  return cpu_->read(VirtualAddress(address), bytes);
}

SimResult Program::write(std::uint64_t address, std::span<const std::byte> bytes) {
  return cpu_->write(VirtualAddress(address), bytes);
}

SimResult Program::touch(std::uint64_t address, std::uint64_t pages, bool write) {
  return cpu_->touch(range_of(address, address + pages * kPage), write);
}

unsigned Program::load(std::uint64_t address) {
  std::byte byte{};
  REQUIRE(read(address, std::span(&byte, 1)) == SimResult::done);
  return static_cast<unsigned>(byte);
}

void Program::store(std::uint64_t address, unsigned value) {
  REQUIRE(try_store(address, value) == SimResult::done);
}

SimResult Program::try_load(std::uint64_t address) {
  std::byte byte{};
  return read(address, std::span(&byte, 1));
}

SimResult Program::try_store(std::uint64_t address, unsigned value) {
  const std::byte byte{static_cast<unsigned char>(value)};
  return write(address, std::span(&byte, 1));
}

std::unique_ptr<Program> Program::fork_unsettled() {
  if (const CallResult announced = call(request(protocol::kCallFork)); !announced.ok()) {
    FAIL("a fork could not be announced");
  }
  auto child = fork_now();
  if (!call(request(protocol::kCallForked)).ok()) FAIL("a fork could not be ended");
  return child;
}

std::unique_ptr<Program> Program::fork_unannounced() {
  auto child = fork_now();
  child->settle();
  return child;
}

std::unique_ptr<Program> Program::fork_now(const std::function<void()>& before_heard) {
  auto pmap = pmap_->fork();
  if (before_heard) before_heard();
  hal::SimPmap& childs = *pmap;
  auto child = std::unique_ptr<Program>(
      new Program(machine_, threads_, space_->fork(std::move(pmap)), childs));
  child->abi = abi;
  return child;
}

std::unique_ptr<Program> Program::fork() {
  auto child = fork_unsettled();
  child->settle();
  return child;
}

void Program::settle() {
  hal::Plan plan;
  space_->settle(plan);
  bool settled = false;
  space_->before_plan(plan, [&] {
    settled = true;
    if (pmap_->apply(plan) != 0) FAIL("a child could not settle");
  });
  while (!settled && machine_.pump()) continue;
  space_->plan_done();
}

void Program::kill() {
  pmap_->kill();
  space_->close();
}

PendingCall::PendingCall(Program& program, const protocol::TrapRequest& what,
                         const std::optional<hal::HostFile>& with)
    : program_(program), superuser_(program.superuser), user_(program.user), pid_(program.pid) {
  request = what;
  rules = &program.machine().machine.personality();
  abi = vm::find_abi(what.abi, rules->freebsd_numbers);
  file = with;
}

void PendingCall::send_plan(Next next) {
  if (program_.before_plan) program_.before_plan();
  const int error = program_.pmap().apply(plan);
  plan.clear();
  if (program_.after_plan) program_.after_plan();
  next(vm::error_from_errno(error));
}

void PendingCall::carry_out() {
  REQUIRE(held_back_);
  program_.holds_plans = false;
  send_answer(*std::exchange(held_back_, std::nullopt));
}

void PendingCall::send_answer(const vm::Answer& answer) {
  if (program_.holds_plans) {
    held_back_ = answer;
    return;
  }
  const int error = program_.pmap().apply(plan);
  plan.clear();
  if (error != 0 && !undone_) {
    undone_ = true;
    program_.space().undo(*this, answer, vm::error_from_errno(error));
    return;
  }
  if (answer.again) {
    undone_ = false;
    program_.space().handle(*this);
    return;
  }
  if (answer.acknowledged) program_.space().plan_done();
  const std::lock_guard guard(program_.machine().calls_lock);
  answer_ = answer;
  ++finished_;
  program_.machine().call_ended.notify_all();
}

bool PendingCall::finished() const {
  const std::lock_guard guard(program_.machine().calls_lock);
  return finished_ != 0;
}

bool PendingCall::wait() const {
  constexpr std::chrono::seconds kMost{20};
  std::unique_lock guard(program_.machine().calls_lock);
  return program_.machine().call_ended.wait_for(guard, kMost, [&] { return finished_ != 0; });
}

CallResult PendingCall::result() const {
  const std::lock_guard guard(program_.machine().calls_lock);
  // Catch2's assertions belong to one thread; these end the test from any.
  if (finished_ != 1) throw std::logic_error("a call ended " + std::to_string(finished_) + " times");
  CallResult result;
  result.error = vm::to_errno(answer_.error);
  result.value = answer_.value;
  result.value_from_host = answer_.value_from_host;
  result.data = data;
  return result;
}

}  // namespace test
