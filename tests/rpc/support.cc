#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "hal/linux/describe_file.h"

namespace test {
namespace {

std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> log_sink;

std::string read_to_end(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    pollfd poll{fd, POLLIN, 0};
    if (::poll(&poll, 1, static_cast<int>(kPatience.count()) * 1000) <= 0) break;
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return text;
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::string path = (std::filesystem::temp_directory_path() / "vm-rpc-XXXXXX").string();
  REQUIRE(::mkdtemp(path.data()) != nullptr);
  path_ = path;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<vm::SpaceReport> FakeInspector::spaces() {
  vm::SpaceReport first;
  first.pid = 41;
  first.command = "first";
  vm::SpaceReport second;
  second.pid = 42;
  second.parent = 41;
  second.bytes = 8192;
  second.personality = "linux";
  return {first, second};
}

bool FakeInspector::map(std::int32_t pid, std::vector<vm::EntryReport>& entries) {
  if (pid != 42) return false;
  vm::EntryReport entry;
  entry.range = hal::VirtualRange(hal::VirtualAddress(0x1000), hal::VirtualAddress(0x3000));
  entry.protection = hal::Protection::read();
  entry.maximum = hal::Protection::all();
  entry.flags = {"shared", "wired"};
  entry.type = "file";
  entry.path = "/some/file";
  entry.offset = 4096;
  entries.push_back(entry);
  return true;
}

vm::Statistics FakeInspector::statistics() {
  vm::Statistics counts;
  counts.faults = 7;
  counts.calls = {{"mmap", 3}, {"munmap", 2}};
  return counts;
}

Child::Child(const std::vector<std::string>& arguments, int keep_fd) {
  int output[2];
  int errors[2];
  REQUIRE(::pipe2(output, O_CLOEXEC) == 0);
  REQUIRE(::pipe2(errors, O_CLOEXEC) == 0);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ == 0) {
    ::dup2(output[1], STDOUT_FILENO);
    ::dup2(errors[1], STDERR_FILENO);
    if (keep_fd >= 0) ::fcntl(keep_fd, F_SETFD, 0);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(output[1]);
  ::close(errors[1]);
  output_fd_ = output[0];
  error_fd_ = errors[0];
}

Child::~Child() {
  if (status_ < 0) kill();
}

void Child::signal(int number) const { REQUIRE(::kill(pid_, number) == 0); }

void Child::freeze() const {
  signal(SIGSTOP);
  int status = 0;
  REQUIRE(::waitpid(pid_, &status, WUNTRACED) == pid_);
  REQUIRE(WIFSTOPPED(status));
}

int Child::wait() {
  output_ = read_to_end(output_fd_);
  errors_ = read_to_end(error_fd_);
  ::close(output_fd_);
  ::close(error_fd_);
  int status = 0;
  REQUIRE(::waitpid(pid_, &status, 0) == pid_);
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return status_;
}

void Child::kill() {
  signal(SIGKILL);
  wait();
}

Transfer::Transfer(Kind what, hal::PageRange range) {
  kind = what;
  pages = range;
}

vm::Error Transfer::wait() {
  REQUIRE(future_.wait_for(kPatience) == std::future_status::ready);
  return future_.get();
}

vm::Error Transfer::wait_on_thread() {
  if (future_.wait_for(kPatience) != std::future_status::ready)
    return vm::error_from_errno(ETIMEDOUT);
  return future_.get();
}

bool Transfer::ended() const {
  return future_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

vm::Error Object::page_in(std::uint64_t first, std::uint64_t count) {
  Transfer transfer(Transfer::Kind::page_in, hal::PageRange(hal::PageIndex(first), count));
  pager->submit(transfer);
  return transfer.wait();
}

vm::Error Object::page_out(std::uint64_t first, std::uint64_t count) {
  Transfer transfer(Transfer::Kind::page_out, hal::PageRange(hal::PageIndex(first), count));
  pager->submit(transfer);
  return transfer.wait();
}

vm::Error Object::sync() {
  Transfer transfer(Transfer::Kind::sync, {});
  pager->submit(transfer);
  return transfer.wait();
}

std::string Object::read(std::uint64_t offset, std::size_t bytes) const {
  std::string data(bytes, '\0');
  REQUIRE(::pread(memory->descriptor(), data.data(), bytes, static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(bytes));
  return data;
}

void Object::write(std::uint64_t offset, const std::string& data) const {
  REQUIRE(::pwrite(memory->descriptor(), data.data(), data.size(), static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(data.size()));
}

Server::Server() {
  capture_log();
  service_ = std::make_unique<server::RpcService>(rpc_socket(), inspector_);
  service_->start();
}

Server::~Server() { service_->stop(); }

std::unique_ptr<Child> Server::start_pager(const std::string& program,
                                           std::vector<std::string> arguments) {
  int ready[2];
  REQUIRE(::pipe2(ready, O_CLOEXEC) == 0);
  std::vector<std::string> command{program, "--server", socket(), "--ready-fd",
                                   std::to_string(ready[1])};
  command.insert(command.end(), arguments.begin(), arguments.end());
  auto child = std::make_unique<Child>(command, ready[1]);
  ::close(ready[1]);
  const std::string said = read_to_end(ready[0]);
  ::close(ready[0]);
  REQUIRE(said == "ready\n");
  return child;
}

void Server::await_pagers(std::uint64_t count) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (service_->registered_pagers() != count) {
    REQUIRE(std::chrono::steady_clock::now() < deadline);
    std::this_thread::yield();
  }
}

vm::Result<Object> Server::open(vm::PagerKind kind, const std::string& path, int flags) {
  const hal::HostFile file = host_file(path, flags);
  return open_file(kind, file, file.attributes.bytes);
}

vm::Result<Object> Server::open_anonymous(std::uint64_t pages) {
  return open_file(vm::PagerKind::anonymous, {}, hal::bytes_from_pages(pages));
}

vm::Result<Object> Server::open_file(vm::PagerKind kind, const hal::HostFile& file,
                                     std::uint64_t bytes) {
  hal::MemfdFactory factory;
  Object object;
  object.memory = factory.create("test", hal::pages_for_bytes(bytes));
  auto promise = std::make_shared<std::promise<vm::Result<vm::OpenedObject>>>();
  auto future = promise->get_future();
  service_->pagers().open(
      kind, file, bytes, object.memory,
      [promise](vm::Result<vm::OpenedObject> result) { promise->set_value(std::move(result)); });
  REQUIRE(future.wait_for(kPatience) == std::future_status::ready);
  vm::Result<vm::OpenedObject> result = future.get();
  if (!result) return result.error();
  object.answer = std::move(result.value());
  object.pager = std::move(object.answer.object);
  if (object.answer.own_memory) object.memory = object.answer.own_memory;
  return object;
}

hal::HostFile host_file(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  REQUIRE(fd >= 0);
  hal::HostFile file = hal::describe_file(hal::SharedDescriptor(fd));
  file.attributes.path = path;
  return file;
}

void write_file(const std::string& path, const std::string& data) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << data;
  file.close();
  REQUIRE(file.good());
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream data;
  data << file.rdbuf();
  return data.str();
}

std::string pattern(std::size_t bytes, unsigned seed) {
  std::string data(bytes, '\0');
  std::uint32_t state = seed * 2654435761u + 1;
  for (char& c : data) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(1 + (state >> 24) % 255);
  }
  return data;
}

void capture_log() {
  log_sink = std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(1000);
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", log_sink));
}

std::string captured_log() {
  std::string text;
  for (const std::string& line : log_sink->last_formatted()) text += line;
  return text;
}

}  // namespace test
