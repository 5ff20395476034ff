#include "vmserver/client/program_server.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>

#include <boost/asio/post.hpp>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hal/linux/memfd_backing.h"
#include "protocol/linger.h"
#include "vmserver/vm/calls/table.h"

namespace server {

namespace {

// How often address spaces are looked at whose end nothing else tells: children that were never
// heard of, and programs that executed another.
constexpr std::chrono::milliseconds kSweepPeriod{250};
// Once the server ends: how long programs have to go, and a pager to take more of what was written.
constexpr std::chrono::seconds kEndGrace{5};
constexpr std::chrono::seconds kWriteBackGrace{30};

// A program that has had an answer often has the next question at once, and so has one that has got a
// page.
constexpr std::int64_t kLingerMicroseconds = 50;
// For the answer of a pager, so long as a good disk takes.
constexpr std::int64_t kLingerForPagersMicroseconds = 200;

[[noreturn]] void fail_with(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// What there is to do for a thread: events of its own, and, while it has none, answers of pagers.
class Work {
 public:
  /// `pagers`: none, if it leaves their answers to others.
  Work(boost::asio::io_context& context, vm::PagerDirectory* pagers)
      : context_(context), pagers_(pagers) {}
  ~Work() {
    if (watches_) pagers_->leave_answers();
  }
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  /// Does something, and waits for it if there is nothing.
  void do_one() {
    const Answers answers = take_answers();
    if (answers == Answers::taken) return;
    protocol::Linger& linger = answers == Answers::awaited ? for_pagers_ : for_events_;
    const auto look = [this] {
      return context_.poll_one() != 0 || take_answers() == Answers::taken;
    };
    if (linger.can_pay() && linger.look(look)) return;
    if (watches_) pagers_->leave_answers();
    watches_ = false;
    context_.run_one();
  }

 private:
  using Answers = vm::PagerDirectory::Answers;

  Answers take_answers() {
    if (pagers_ == nullptr) return Answers::none_awaited;
    const Answers answers = pagers_->take_answers();
    // Also when others take the last one: nobody is woken for the next before this one leaves.
    if (answers != Answers::none_awaited) watches_ = true;
    return answers;
  }

  boost::asio::io_context& context_;
  vm::PagerDirectory* const pagers_;
  bool watches_ = false;
  protocol::Linger for_events_{kLingerMicroseconds};
  protocol::Linger for_pagers_{kLingerForPagersMicroseconds};
};

// Runs until it is stopped. What somebody forgot to catch costs the one whose turn it was, not all who
// are served.
void run_loop(boost::asio::io_context& context, const std::string& name,
              vm::PagerDirectory* pagers = nullptr) {
  Work work(context, pagers);
  for (;;) {
    try {
      while (!context.stopped()) work.do_one();
      return;
    } catch (const std::exception& error) {
      spdlog::critical("{}: not caught where it belongs: {}", name, error.what());
    }
  }
}

}  // namespace

ProgramServer::ProgramServer() {
  const unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
  for (unsigned i = 0; i < threads; ++i) fault_threads_.push_back(std::make_unique<Thread>());
}

ProgramServer::~ProgramServer() {
  for (const auto& thread : fault_threads_) thread->stop();
  stubs_.stop();
}

void ProgramServer::Thread::start(const std::string& name, vm::PagerDirectory* pagers) {
  thread = std::thread([this, name, pagers] {
    pthread_setname_np(pthread_self(), name.c_str());
    run_loop(context, name, pagers);
  });
}

void ProgramServer::Thread::stop() {
  work.reset();
  context.stop();
  if (thread.joinable()) thread.join();
}

void ProgramServer::use(vm::Machine& machine) {
  machine_ = &machine;
  machine.use_timer([this](std::chrono::milliseconds delay, std::function<void()> call) {
    const auto timer = std::make_shared<boost::asio::steady_timer>(calls_, delay);
    timer->async_wait([timer, call = std::move(call)](const boost::system::error_code& error) {
      if (!error) call();
    });
  });
  machine.when_quiet([this] {
    if (draining_ || ending_) boost::asio::post(calls_, [this] { check_finished(); });
  });
}

void ProgramServer::Unmap::operator()(protocol::FileBoard* page) const {
  munmap(page, hal::kPageSize);
}

void ProgramServer::open_host() {
  // With huge pages in shared memory, filling one page of a memfd makes the whole 2 MiB around it
  // visible, and zero: programs would read zeroes where a file's data belongs.
  constexpr char kShmemPolicy[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
  std::ifstream policy(kShmemPolicy);
  for (std::string word; policy >> word;) {
    if (word == "[always]" || word == "[within_size]" || word == "[force]") {
      errno = ENOTSUP;
      fail_with("huge pages in shared memory are " + word + ": write never or advise to " +
                kShmemPolicy);
    }
  }
  board_ = std::make_unique<hal::MemfdBacking>("file-board", 1);
  void* const page = mmap(nullptr, hal::kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED,
                          board_->descriptor(), 0);
  if (page == MAP_FAILED) fail_with("map of the file board");
  static_assert(sizeof(protocol::FileBoard) <= hal::kPageSize);
  board_page_.reset(static_cast<protocol::FileBoard*>(page));
  machine_->file_board().show_at(*board_page_);

  const int descriptor = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
  if (descriptor < 0) fail_with("open /dev/userfaultfd");
  device_ = hal::SharedDescriptor(descriptor);
}

void ProgramServer::listen(const std::string& path, unsigned mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    errno = ENAMETOOLONG;
    fail_with("socket " + path);
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const auto* const where = reinterpret_cast<const sockaddr*>(&address);

  // From here on there is something to clean up; a signal is kept until run() looks.
  signals_.add(SIGINT);
  signals_.add(SIGTERM);
  const int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) fail_with("socket " + path);
  listener_.assign(descriptor);
  spare_ = hal::SharedDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) {
      errno = EEXIST;
      fail_with("socket " + path + ": something else is there");
    }
    const int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const bool live = connect(probe, where, sizeof(address)) == 0;
    ::close(probe);
    if (live) {
      errno = EADDRINUSE;
      fail_with("socket " + path + ": another server is serving there");
    }
    if (unlink(path.c_str()) != 0) fail_with("remove stale socket " + path);
  }
  // Born with the narrowest mode; widened only once it is the server's.
  const mode_t old = umask(0177);
  const int bound = bind(descriptor, where, sizeof(address));
  const int error = errno;
  umask(old);
  errno = error;
  if (bound != 0) fail_with("bind socket " + path);
  path_ = path;
  if (chmod(path.c_str(), mode) != 0) fail_with("mode of socket " + path);
  if (::listen(descriptor, 128) != 0) fail_with("listen on socket " + path);
}

bool ProgramServer::run() {
  for (std::size_t i = 0; i < fault_threads_.size(); ++i) {
    fault_threads_[i]->start("vm-fault-" + std::to_string(i), &machine_->pagers());
  }
  stubs_.start("vm-stubs");
  signals_.async_wait([this](const boost::system::error_code& error, int) {
    if (!error) end();
  });
  accept();
  sweep();
  run_loop(calls_, "vm-calls");
  for (const auto& thread : fault_threads_) thread->stop();
  stubs_.stop();
  unlink(path_.c_str());
  const std::lock_guard guard(lock_);
  sessions_.clear();
  return clean_;
}

void ProgramServer::accept() {
  listener_.async_wait(
      boost::asio::posix::stream_descriptor::wait_read,
      [this](const boost::system::error_code& error) {
        if (error) return;
        const int socket =
            accept4(listener_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket >= 0) {
          auto session = std::make_shared<Session>(*this, next_id(), socket);
          add(session);
          session->start();
        } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
          spdlog::error("accept a program: {}", std::strerror(errno));
          if (errno == EMFILE || errno == ENFILE) turn_away();
        }
        accept();
      });
}

// The program that waits would be reported again and again; it is let in and out with the spare.
void ProgramServer::turn_away() {
  spare_ = {};
  const int socket = accept4(listener_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC);
  if (socket >= 0) close(socket);
  spare_ = hal::SharedDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

boost::asio::io_context& ProgramServer::next_fault_context() {
  return fault_threads_[next_fault_++ % fault_threads_.size()]->context;
}

void ProgramServer::add(std::shared_ptr<Session> session) {
  const std::lock_guard guard(lock_);
  sessions_.emplace(session->id(), std::move(session));
}

void ProgramServer::remove(Session& session) {
  {
    const std::lock_guard guard(lock_);
    sessions_.erase(session.id());
    if (sessions_.empty()) boost::asio::post(calls_, [this] { give_memory_back(); });
  }
  check_finished();
}

// What malloc keeps of a crowd that has gone.
void ProgramServer::give_memory_back() {
  if (all().empty()) malloc_trim(0);
}

std::shared_ptr<Session> ProgramServer::find(std::uint64_t id) {
  const std::lock_guard guard(lock_);
  const auto it = sessions_.find(id);
  return it == sessions_.end() ? nullptr : it->second;
}

std::vector<std::shared_ptr<Session>> ProgramServer::all() {
  std::vector<std::shared_ptr<Session>> result;
  const std::lock_guard guard(lock_);
  for (const auto& [id, session] : sessions_) result.push_back(session);
  return result;
}

void ProgramServer::sweep() {
  sweep_timer_.expires_after(kSweepPeriod);
  sweep_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    for (const std::shared_ptr<Session>& session : all()) {
      if (!session->alive()) {
        session->close("its address space is gone");
      } else {
        // For those who listen to what is unmapped.
        session->catch_up();
      }
    }
    sweep();
  });
}

// Programs go first, so that nothing is stored after their pages were written back.
void ProgramServer::end() {
  if (ending_.exchange(true)) return;
  boost::system::error_code ignored;
  listener_.close(ignored);
  for (const std::shared_ptr<Session>& session : all()) session->dismiss();
  end_timer_.expires_after(kEndGrace);
  end_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    const auto left = all();
    for (const std::shared_ptr<Session>& session : left) {
      spdlog::warn("program {} has not ended in time", session->pid());
      session->close("the server ends");
    }
    await_write_backs(machine_->counters().pageouts);
  });
  check_finished();
}

void ProgramServer::await_write_backs(std::uint64_t given) {
  end_timer_.expires_after(kWriteBackGrace);
  end_timer_.async_wait([this, given](const boost::system::error_code& error) {
    if (error) return;
    const std::uint64_t now = machine_->counters().pageouts;
    if (now != given) return await_write_backs(now);
    spdlog::error("written pages could not be given to their pagers in time and are lost");
    clean_ = false;
    calls_.stop();
  });
}

void ProgramServer::check_finished() {
  if (!draining_ && !ending_) return;
  {
    const std::lock_guard guard(lock_);
    if (!sessions_.empty()) return;
  }
  if (!machine_->quiet()) return;
  boost::system::error_code ignored;
  listener_.close(ignored);
  calls_.stop();
}

std::vector<vm::SpaceReport> ProgramServer::spaces() {
  std::vector<vm::SpaceReport> result;
  for (const std::shared_ptr<Session>& session : all()) {
    if (session->space() == nullptr) continue;
    session->report(result.emplace_back());
  }
  return result;
}

bool ProgramServer::map(std::int32_t pid, std::vector<vm::EntryReport>& entries) {
  for (const std::shared_ptr<Session>& session : all()) {
    if (session->pid() != pid || session->space() == nullptr) continue;
    session->catch_up();
    entries = session->space()->entries();
    return true;
  }
  return false;
}

vm::Statistics ProgramServer::statistics() {
  const vm::Counters& counters = machine_->counters();
  vm::Statistics result;
  for (const std::shared_ptr<Session>& session : all()) session->catch_up();
  result.faults = counters.faults;
  result.zero_fills = counters.zero_fills;
  result.pageins = counters.pageins;
  result.pageouts = counters.pageouts;
  result.forks = counters.forks;
  result.failed_faults = counters.failed_faults;
  result.sessions_rejected = counters.sessions_rejected;
  result.memory_limit_pages = machine_->options().memory_limit_pages;
  result.objects = machine_->object_count();
  const vm::Memory& memory = machine_->memory();
  const vm::SwapSpace::Figures swap = machine_->swap().figures();
  result.paging = {.free_pages = memory.free(),
                   .private_pages = memory.private_pages(),
                   .object_pages = memory.object_pages(),
                   .inactive_pages = swap.filled,
                   .laundry_pages = swap.laundering,
                   .clean_pages = swap.clean,
                   .swapped_pages = swap.away,
                   .lost_pages = swap.lost,
                   .wired_pages = machine_->wired_pages(),
                   .deactivations = counters.deactivated,
                   .reactivations = counters.reactivations,
                   .copies = counters.copied};
  for (unsigned number = 0; number < counters.calls.size(); ++number) {
    if (const char* name = vm::calls::name(number)) {
      result.calls.emplace_back(name, counters.calls[number].load());
    }
  }
  // Private pages are counted where they are, in the programs; pages of objects once, however many
  // programs map them.
  for (const std::shared_ptr<Session>& session : all()) {
    // Of a program that has ended just now the call thread may not have heard.
    if (session->space() == nullptr || !session->alive()) continue;
    ++result.spaces;
    result.resident_pages += session->space()->private_pages();
  }
  for (const auto& object : machine_->objects().all()) {
    result.resident_pages += object->resident_pages();
  }
  return result;
}

vm::LimitSet ProgramServer::set_limit(std::int32_t pid, std::uint64_t pages) {
  if (!machine_->memory().limited()) return vm::LimitSet::unlimited_server;
  for (const std::shared_ptr<Session>& session : all()) {
    if (session->pid() != pid || session->space() == nullptr) continue;
    session->space()->set_limit(pages);
    return vm::LimitSet::done;
  }
  return vm::LimitSet::not_served;
}

std::uint32_t ProgramServer::drain() {
  draining_ = true;
  boost::asio::post(calls_, [this] { check_finished(); });
  const std::lock_guard guard(lock_);
  return static_cast<std::uint32_t>(sessions_.size());
}

}  // namespace server
