// ProgramServer: accepts programs, holds their sessions, and ends them.
//
// It runs one call thread (sockets, timers, signals), a few fault threads (userfaultfds) and one for
// the programs' stubs (pages that leave). Each of them is an io_context of its own with a single
// thread, so that a fault is handled by whoever was woken for it, without handing work from thread
// to thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include "hal/backing.h"
#include "protocol/file_board.h"
#include "vmserver/client/session.h"
#include "vmserver/vm/machine.h"
#include "vmserver/vm/report.h"

namespace server {

class ProgramServer final : public vm::Inspector {
 public:
  ProgramServer();
  ~ProgramServer() override;

  /// Binds the program socket with the given mode; a stale socket is replaced. Throws
  /// std::system_error with what was tried: EADDRINUSE when a server is alive there.
  void listen(const std::string& path, unsigned mode);
  /// Opens /dev/userfaultfd, which every program's userfaultfd is made from, and checks that the
  /// host gives shared memory out page by page. Throws std::system_error.
  void open_host();

  /// What the programs run on; before listen(), and alive until run() has returned.
  void use(vm::Machine& machine);

  /// Serves until SIGINT, SIGTERM or, after drain(), until the last program has gone. Returns when
  /// every session is closed and what was written is with the pagers. False when some of that could
  /// not be done in time.
  bool run();

  // vm::Inspector; any thread.
  std::vector<vm::SpaceReport> spaces() override;
  bool map(std::int32_t pid, std::vector<vm::EntryReport>& entries) override;
  vm::Statistics statistics() override;
  vm::LimitSet set_limit(std::int32_t pid, std::uint64_t pages) override;
  std::uint32_t drain() override;
  vm::ExecTrace& exec_trace() override { return machine_->exec_trace(); }

  // For sessions.
  vm::Machine& machine() { return *machine_; }
  boost::asio::io_context& calls() { return calls_; }
  boost::asio::io_context& next_fault_context();
  /// Where what programs took out of their address spaces is read.
  boost::asio::io_context& stubs() { return stubs_.context; }
  int userfaultfd_device() const { return device_.get(); }
  /// The file board, for a program to map.
  hal::SharedDescriptor file_board() const { return board_->reopen(false); }
  bool ending() const { return ending_; }
  std::uint64_t next_id() { return ++last_id_; }
  void add(std::shared_ptr<Session> session);
  void remove(Session& session);
  std::shared_ptr<Session> find(std::uint64_t id);

 private:
  void accept();
  void turn_away();
  void sweep();
  void end();
  /// Until everything is written back, or pagers have taken nothing for a while since the server had
  /// given out so many pages.
  void await_write_backs(std::uint64_t given);
  void check_finished();
  void give_memory_back();
  std::vector<std::shared_ptr<Session>> all();

  struct Thread {
    /// `pagers`: whose answers it takes while it has nothing else to do.
    void start(const std::string& name, vm::PagerDirectory* pagers = nullptr);
    void stop();

    boost::asio::io_context context{1};
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{
        context.get_executor()};
    std::thread thread;
  };

  vm::Machine* machine_ = nullptr;
  hal::SharedDescriptor device_;
  std::unique_ptr<hal::Backing> board_;  ///< set before the first program
  struct Unmap {
    void operator()(protocol::FileBoard* page) const;
  };
  std::unique_ptr<protocol::FileBoard, Unmap> board_page_;
  hal::SharedDescriptor spare_;  ///< given up to take a program in and send it away. Call thread
  std::string path_;
  std::atomic<bool> draining_{false};
  std::atomic<bool> ending_{false};
  std::atomic<std::uint64_t> last_id_{0};
  std::atomic<std::size_t> next_fault_{0};
  bool clean_ = true;  // call thread

  boost::asio::io_context calls_{1};
  boost::asio::posix::stream_descriptor listener_{calls_};
  boost::asio::signal_set signals_{calls_};
  boost::asio::steady_timer sweep_timer_{calls_};
  boost::asio::steady_timer end_timer_{calls_};
  std::vector<std::unique_ptr<Thread>> fault_threads_;
  Thread stubs_;

  std::mutex lock_;
  std::map<std::uint64_t, std::shared_ptr<Session>> sessions_;  // lock_
};

}  // namespace server
