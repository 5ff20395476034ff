// How a session comes to serve a program: Welcome and Begin, a fork, Adopt.
#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include <spdlog/spdlog.h>

#include "vmserver/client/active_call.h"
#include "vmserver/client/program_server.h"
#include "vmserver/client/session.h"

namespace server {

using hal::SharedDescriptor;
using hal::VirtualAddress;
using hal::VirtualRange;
using Descriptor = boost::asio::posix::stream_descriptor;

namespace {

// Where the server puts mappings: far from where the host puts anything by itself, and clear of what
// sanitizers reserve.
constexpr VirtualRange kPlacement(VirtualAddress(0x1100'0000'0000),
                                  VirtualAddress(0x2000'0000'0000));
// Each program's begins somewhere in the first so many bytes, on such a boundary.
constexpr std::uint64_t kPlacementSpread = std::uint64_t{1} << 40;
constexpr std::uint64_t kPlacementBoundary = std::uint64_t{2} << 20;

std::size_t proc_file_count(std::uint64_t which) {
  return ((which & protocol::kProcMaps) != 0 ? 1 : 0) +
         ((which & protocol::kProcPagemap) != 0 ? 1 : 0);
}

VirtualRange choose_placement() {
  std::uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
    throw std::system_error(errno, std::generic_category(), "getrandom for a program's placement");
  }
  const std::uint64_t offset = random % kPlacementSpread & ~(kPlacementBoundary - 1);
  return {kPlacement.start() + offset, kPlacement.end()};
}

// Text and data of the program itself: the first mapping of the file that its program headers are
// in, and the first writable one.
void find_program(hal::Pmap& pmap, VirtualAddress headers, vm::SpaceLayout& layout) {
  const auto mappings = pmap.host_mappings(layout.bounds);
  const hal::HostMapping* own = nullptr;
  for (const hal::HostMapping& mapping : mappings) {
    if (mapping.range.contains(headers)) own = &mapping;
  }
  if (own == nullptr || own->inode == 0) return;
  for (const hal::HostMapping& mapping : mappings) {
    if (mapping.inode != own->inode || mapping.device != own->device) continue;
    if (layout.text == VirtualAddress(0)) layout.text = mapping.range.start();
    if (layout.data == VirtualAddress(0) && mapping.protection.writable()) {
      layout.data = mapping.range.start();
    }
  }
}

}  // namespace

Session::Session(ProgramServer& server, std::uint64_t id, int socket)
    : server_(server),
      id_(id),
      faults_(server.next_fault_context()),
      socket_(server.calls(), socket),
      process_(server.calls()),
      userfaultfd_(faults_) {
  make_secret(secret_);
}

Session::Session(ProgramServer& server, std::uint64_t id, const Session& parent)
    : server_(server),
      id_(id),
      faults_(parent.faults_),
      socket_(server.calls()),
      process_(server.calls()),
      parent_pid_(parent.pid_),
      user_id_(parent.user_id_.load()),
      userfaultfd_(faults_) {
  make_secret(secret_);
}

Session::~Session() = default;

void Session::start() {
  read_peer();
  protocol::Welcome welcome{};
  welcome.magic = protocol::kMagic;
  welcome.version = protocol::kVersion;
  welcome.page_size = hal::kPageSize;
  if (server_.machine().options().policy == nullptr) welcome.flags |= protocol::kWelcomeDone;
  if (server_.machine().memory().limited()) welcome.flags |= protocol::kWelcomePages;
  if (server_.machine().personality().mmap.overcommits) {
    welcome.flags |= protocol::kWelcomeOvercommits;
  }
  if (!send_frame(socket_.native_handle(), std::as_bytes(std::span(&welcome, 1)),
                  server_.userfaultfd_device())) {
    return close("it does not take a greeting");
  }
  watch_process();
  wait_for_frame();
}

void Session::read_peer() {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) {
    pid_ = peer.pid;
    user_id_ = peer.uid;
  }
}

// A program's death shows here even while a child of its still holds a copy of the socket.
void Session::watch_process() {
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid_.load(), 0));
  if (descriptor < 0) return;  // gone already, or of another pid namespace: the sweep finds it
  process_.assign(descriptor);
  name_process();
  process_.async_wait(Descriptor::wait_read,
                      [self = shared_from_this()](const boost::system::error_code& error) {
                        // Another process may share its memory (clone with CLONE_VM); the end of
                        // that the sweep finds.
                        if (!error && !self->alive()) self->close("it has ended");
                      });
}

// A new session knows its process before it has page tables, a forked child the other way round.
void Session::name_process() {
  if (pmap_ == nullptr || !process_.is_open()) return;
  pmap_->set_process(SharedDescriptor(fcntl(process_.native_handle(), F_DUPFD_CLOEXEC, 0)), pid_);
}

void Session::cannot_begin(hal::Pmap& pmap, const std::string& why) {
  // Nothing is wrong with a program that is killed while it begins.
  if (pmap.alive()) return reject(why);
  close("it ended while it began");
}

void Session::begin(const ReceivedFrame& frame) {
  protocol::Begin request{};
  std::memcpy(&request, buffer_.data(), sizeof(request));
  if (request.version != protocol::kVersion ||
      frame.descriptors.size() != 1 + proc_file_count(request.proc_files)) {
    return reject("its shim is of another version");
  }
  vm::SpaceLayout layout;
  layout.bounds =
      VirtualRange(VirtualAddress(request.map_minimum), VirtualAddress(request.map_maximum));
  layout.nameplate = VirtualRange(VirtualAddress(request.nameplate),
                                  VirtualAddress(request.nameplate) + hal::kPageSize);
  layout.placement = choose_placement().intersect(layout.bounds);
  if (!layout.nameplate.start().is_page_aligned() || !layout.bounds.contains(layout.nameplate)) {
    return reject("its nameplate is not where memory can be");
  }

  const ProcFiles files =
      proc_files(std::span(frame.descriptors).subspan(1), request.proc_files);
  auto pmap =
      std::make_unique<hal::UffdPmap>(frame.descriptors.front(), files.maps, files.pagemap);
  try {
    pmap->enable();
    pmap->register_missing(layout.nameplate);
    find_program(*pmap, VirtualAddress(request.program_headers), layout);
    userfaultfd_.assign(fcntl(pmap->userfaultfd().get(), F_DUPFD_CLOEXEC, 0));
  } catch (const std::system_error& error) {
    return cannot_begin(*pmap, error.what());
  }
  pmap_ = pmap.get();
  name_process();
  space_ = vm::VmSpace::make(server_.machine(), std::move(pmap), layout);
  if (!write_nameplate()) return cannot_begin(*pmap_, "its nameplate cannot be written");
  serving_ = true;
  spdlog::info("program {}: served as space {}", pid_.load(), id_);
  serve_faults();
  protocol::TrapRequest to{};
  const hal::SharedDescriptor board = server_.file_board();
  if (!send_reply(to, 0, 0, id_, nullptr, {}, board.get()) ||
      !offer_notes(protocol::kReplyFinal)) {
    close("it does not take answers");
  }
}

// Where pages are taken out of programs, nothing may be noted that is found out later.
bool Session::offer_notes(std::uint32_t flags) {
  hal::SharedDescriptor file;
  vm::Machine& machine = server_.machine();
  if (!own_notes_ && machine.options().policy == nullptr && !machine.memory().limited()) {
    try {
      own_notes_ = std::make_unique<NoteReader>();
      file = own_notes_->take_file();
      notes_.store(own_notes_.get(), std::memory_order_release);
    } catch (const std::system_error& error) {
      // It tells with a message each.
      spdlog::debug("program {}: {}", pid_.load(), error.what());
    }
  }
  return send_reply({}, flags, 0, id_, nullptr, {}, file.get());
}

void Session::make_secret(std::array<std::uint64_t, 2>& secret) {
  if (getrandom(secret.data(), sizeof(secret), 0) != sizeof(secret)) {
    throw std::system_error(errno, std::generic_category(), "getrandom for a session's secret");
  }
}

bool Session::write_nameplate() {
  alignas(8) std::array<std::byte, hal::kPageSize> page{};
  protocol::Nameplate nameplate{};
  nameplate.magic = protocol::kMagic;
  nameplate.space = id_;
  nameplate.secret[0] = secret_[0];
  nameplate.secret[1] = secret_[1];
  std::memcpy(page.data(), &nameplate, sizeof(nameplate));
  return pmap_->enter_page(space_->layout().nameplate.start(), page.data());
}

void Session::adopt(ReceivedFrame& frame) {
  protocol::Adopt request{};
  std::memcpy(&request, buffer_.data(), sizeof(request));
  // Over the parent's socket the child hands in one of its own; over a new connection it is that.
  const bool own_connection = !serving_;
  if (request.version != protocol::kVersion ||
      frame.descriptors.size() !=
          (own_connection ? 0 : 1) + proc_file_count(request.proc_files)) {
    return reject("it cannot be adopted: its shim is of another version");
  }
  const std::shared_ptr<Session> child = server_.find(request.who.space);
  if (!child || !child->serving_ || child->secret_[0] != request.who.secret[0] ||
      child->secret_[1] != request.who.secret[1] ||
      (child->socket_.is_open() && !(own_connection && child->pid_ == pid_))) {
    if (own_connection) return reject("it cannot be adopted: no such child");
    spdlog::warn("program {}: a child that nobody knows asked to be served", pid_.load());
    return;
  }
  int socket = -1;
  if (own_connection) {
    socket = socket_.release();
    closed_ = true;
    if (process_.is_open()) process_.close();
    server_.remove(*this);
  } else {
    socket = fcntl(frame.descriptors.front().get(), F_DUPFD_CLOEXEC, 0);
    frame.descriptors.erase(frame.descriptors.begin());
  }
  if ((request.flags & protocol::kAdoptUnheard) != 0) child->unheard_ = true;
  child->adopted(socket, frame.descriptors, request.proc_files);
}

Session::ProcFiles Session::proc_files(std::span<const SharedDescriptor> passed,
                                       std::uint64_t which) const {
  const auto take = [&](std::uint64_t bit, const char* name) {
    if ((which & bit) != 0) {
      const SharedDescriptor file = passed.front();
      passed = passed.subspan(1);
      return file;
    }
    const std::string path = "/proc/" + std::to_string(pid_.load()) + name;
    const SharedDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
      spdlog::warn("open {}: {}: pages that it stores into files all count as written", path,
                   std::strerror(errno));
    }
    return file;
  };
  ProcFiles files;
  files.maps = take(protocol::kProcMaps, "/maps");
  files.pagemap = take(protocol::kProcPagemap, "/pagemap");
  return files;
}

void Session::adopted(int socket, const std::vector<SharedDescriptor>& passed,
                      std::uint64_t proc_files) {
  if (socket < 0) return;
  const bool again = socket_.is_open() || !retired_.empty();
  if (socket_.is_open()) retired_.emplace_back(socket_.release());
  boost::system::error_code ignored;
  if (closed_ || socket_.assign(socket, ignored)) {
    ::close(socket);
    return;
  }
  read_peer();
  const ProcFiles files = this->proc_files(passed, proc_files);
  pmap_->set_proc_files(files.maps, files.pagemap);
  if (again) {
    spdlog::info("program {}: has a new connection", pid_.load());
  } else {
    spdlog::info("program {}: forked from {}, served as space {}", pid_.load(), parent_pid_, id_);
  }
  catch_up();
  space_->settle_lease(std::exchange(unheard_, false));
  // Its userfaultfd first: what comes next may need it.
  const protocol::TrapRequest to{};
  if (!send_reply(to, 0, 0, id_, nullptr, {}, pmap_->userfaultfd().get()) || !offer_notes(0)) {
    return close("it does not take answers");
  }
  if (!again) watch_process();
  wait_for_frame();
  call_ = std::make_shared<ActiveCall>(shared_from_this(), to);
  const std::shared_ptr<ActiveCall> call = call_;
  call->hold();
  call->space = space_.get();
  space_->settle(call->plan);
  vm::Answer answer;
  answer.value = id_;
  call->finish(answer);
}

void Session::on_fork(int userfaultfd) {
  auto child = std::make_shared<Session>(server_, server_.next_id(), *this);
  auto pmap = std::make_unique<hal::UffdPmap>(SharedDescriptor(userfaultfd), SharedDescriptor(),
                                              SharedDescriptor());
  child->pmap_ = pmap.get();
  child->space_ = space_->fork(std::move(pmap));
  boost::system::error_code error;
  if (child->userfaultfd_.assign(fcntl(userfaultfd, F_DUPFD_CLOEXEC, 0), error)) {
    spdlog::error("a child of program {}: its faults cannot be read: {}", pid_.load(),
                  error.message());
    return;
  }
  child->serving_ = true;
  server_.add(child);
  // From here on the child can find out who it is; it waits in a fault until then if need be.
  if (!child->write_nameplate()) {
    spdlog::debug("a child of program {} ended before it was heard of", pid_.load());
  }
  child->serve_faults();
}

}  // namespace server
