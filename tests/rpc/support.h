// What the tests of the RPC side share: a server without a VM core, real pagers as children, and
// Transfers that can be waited for. Every wait gives up after kPatience.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "hal/linux/memfd_backing.h"
#include "vmserver/rpc/rpc_service.h"
#include "vmserver/vm/pager.h"
#include "vmserver/vm/report.h"

namespace test {

inline constexpr std::chrono::seconds kPatience{30};

/// A directory that goes with everything in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class FakeInspector final : public vm::Inspector {
 public:
  std::vector<vm::SpaceReport> spaces() override;
  bool map(std::int32_t pid, std::vector<vm::EntryReport>& entries) override;
  vm::Statistics statistics() override;
  vm::LimitSet set_limit(std::int32_t pid, std::uint64_t pages) override {
    limit = pages;
    return pid == 42 ? vm::LimitSet::done : vm::LimitSet::not_served;
  }
  std::uint32_t drain() override { return 2; }
  vm::ExecTrace& exec_trace() override { return exec_trace_; }

  std::uint64_t limit = 0;  ///< the last one set

 private:
  vm::ExecTrace exec_trace_;
};

/// A program that was started by a test; killed at the end if it still runs.
class Child {
 public:
  explicit Child(const std::vector<std::string>& arguments, int keep_fd = -1);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void signal(int number) const;
  /// SIGSTOP, and it has stopped when this returns.
  void freeze() const;
  /// Exit status; 128 + signal when it was killed by one.
  int wait();
  void kill();
  /// What it wrote; valid after wait().
  std::string output() const { return output_; }
  std::string errors() const { return errors_; }

 private:
  pid_t pid_ = -1;
  int status_ = -1;
  int output_fd_ = -1;
  int error_fd_ = -1;
  std::string output_;
  std::string errors_;
};

class Transfer final : public vm::Transfer {
 public:
  Transfer(Kind what, hal::PageRange range);
  void done(vm::Error error) override { promise_.set_value(error); }
  /// Fails the test when it does not end.
  vm::Error wait();
  /// The same for other threads than the test's own, without Catch: an error when it does not end.
  vm::Error wait_on_thread();
  bool ended() const;

 private:
  std::promise<vm::Error> promise_;
  std::future<vm::Error> future_ = promise_.get_future();
};

/// An object at a pager, with its memory.
struct Object {
  std::unique_ptr<vm::PagedObject> pager;
  std::shared_ptr<hal::Backing> memory;
  vm::OpenedObject answer;  ///< what else the open said

  vm::Error page_in(std::uint64_t first, std::uint64_t count);
  vm::Error page_out(std::uint64_t first, std::uint64_t count);
  vm::Error sync();
  std::string read(std::uint64_t offset, std::size_t bytes) const;
  void write(std::uint64_t offset, const std::string& data) const;
};

class Server {
 public:
  Server();
  ~Server();

  std::string socket() const { return directory_ / "s"; }
  std::string rpc_socket() const { return socket() + ".rpc"; }
  TemporaryDirectory& directory() { return directory_; }
  server::RpcService& service() { return *service_; }
  FakeInspector& inspector() { return inspector_; }

  /// A pager that has registered when this returns.
  std::unique_ptr<Child> start_pager(const std::string& program,
                                     std::vector<std::string> arguments = {});
  vm::Result<Object> open(vm::PagerKind kind, const std::string& path, int flags);
  vm::Result<Object> open_file(vm::PagerKind kind, const hal::HostFile& file, std::uint64_t bytes);
  vm::Result<Object> open_anonymous(std::uint64_t pages);
  /// Waits until so many pagers are registered.
  void await_pagers(std::uint64_t count);

 private:
  TemporaryDirectory directory_;
  FakeInspector inspector_;
  std::unique_ptr<server::RpcService> service_;
};

hal::HostFile host_file(const std::string& path, int flags);
void write_file(const std::string& path, const std::string& data);
std::string read_file(const std::string& path);
/// `bytes` bytes in which no two pages are alike and none holds a zero.
std::string pattern(std::size_t bytes, unsigned seed = 1);
/// Collects the log of this process from here on, and gives what came.
void capture_log();
std::string captured_log();

}  // namespace test
