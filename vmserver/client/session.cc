#include "vmserver/client/session.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

#include <boost/asio/post.hpp>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hal/linux/describe_file.h"
#include "vmserver/client/active_call.h"
#include "vmserver/client/program_server.h"

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

template <class Frame>
bool is_frame(const ReceivedFrame& received, std::span<const std::byte> buffer, Frame& frame,
              std::uint32_t magic) {
  if (received.truncated || received.bytes != sizeof(Frame)) return false;
  std::memcpy(&frame, buffer.data(), sizeof(Frame));
  return frame.magic == magic;
}

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

// Where a program's stub has pages land that it takes out.
std::optional<VirtualRange> hold_at(std::uint64_t address) {
  const VirtualAddress start(address);
  if (!start.is_page_aligned()) return std::nullopt;
  return VirtualRange::of_length(start, protocol::kMaxOrderPages * hal::kPageSize);
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

void Session::wait_for_frame() {
  socket_.async_wait(Descriptor::wait_read,
                     [self = shared_from_this()](const boost::system::error_code& error) {
                       if (error || self->closed_) return;
                       ReceivedFrame frame;
                       switch (receive_frame(self->socket_.native_handle(), self->buffer_, frame)) {
                         case Receive::nothing_yet:
                           break;
                         case Receive::failed:
                           return self->close("its connection broke");
                         case Receive::frame:
                           self->on_frame(frame);
                           break;
                       }
                       if (self->socket_.is_open()) self->wait_for_frame();
                     });
}

void Session::on_frame(ReceivedFrame& frame) {
  if (frame.bytes == 0) {
    if (dismissed_) {
      // Its stores count until it has really ended, which process_ tells.
      socket_.close();
      return;
    }
    if (!retired_.empty()) {
      // It closed this one, too. Its stub holds the first one, and the next call brings another.
      socket_.close();
      return;
    }
    return close("its connection ended");
  }
  protocol::Begin begin_frame{};
  protocol::Adopt adopt_frame{};
  protocol::StubHello stub_frame{};
  if (is_frame(frame, buffer_, begin_frame, protocol::kMagic) && !serving_) return begin(frame);
  if (is_frame(frame, buffer_, adopt_frame, protocol::kAdoptMagic)) return adopt(frame);
  if (is_frame(frame, buffer_, stub_frame, protocol::kStubMagic) && serving_) return on_stub(frame);
  if (is_frame(frame, buffer_, request_, protocol::kMagic) && serving_) return on_request(frame);
  reject("it sent something that is no frame");
}

void Session::reject(const std::string& why) {
  ++server_.machine().counters().sessions_rejected;
  spdlog::warn("program {}: session ended: {}", pid_.load(), why);
  close(why);
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

void Session::catch_up() {
  NoteReader* const notes = notes_.load(std::memory_order_acquire);
  if (notes == nullptr || !serving_) return;
  const bool sound = notes->read([&](const protocol::Note& note) {
    protocol::TrapRequest request{};
    request.call = note.call;
    std::copy(std::begin(note.args), std::end(note.args), request.args);
    return space_->note(request, pid_);
  });
  if (sound) return;
  boost::asio::post(server_.calls(), [self = shared_from_this()] {
    if (!self->closed_) self->reject("it noted what it may not do by itself");
  });
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
  if (closed_) {
    ::close(socket);
    return;
  }
  const bool again = socket_.is_open() || !retired_.empty();
  if (socket_.is_open()) retired_.emplace_back(socket_.release());
  boost::system::error_code ignored;
  if (socket_.assign(socket, ignored)) {
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

void Session::on_request(ReceivedFrame& frame) {
  // A child of a fork before this has the map as it was then.
  pmap_->await_events();
  catch_up();
  if (request_.call == protocol::kCallContinue) return on_continue();
  if ((request_.flags & protocol::kRequestDone) != 0) {
    if (!space_->note(request_, pid_)) reject("it did by itself what it may not");
    return;
  }
  if (call_) return reject("it made a call within a call");
  if (request_.abi >= protocol::kAbiCount) return reject("its numbers are of no known kind");
  last_.reset();
  auto call = std::make_shared<ActiveCall>(shared_from_this(), request_);
  // What came goes before the program has its answer, where it is not what the file is kept by: once
  // that is closed there nobody has it open for writing any more.
  if (const auto passed = std::exchange(frame.descriptors, {}); !passed.empty()) {
    call->file = request_.call == protocol::kCallFileChanged ? hal::identify_file(passed.front())
                                                             : hal::describe_file(passed.front());
  } else if ((request_.flags & protocol::kRequestKernelObject) != 0) {
    call->file.emplace();
    call->file->attributes.kernel_object = true;
    call->file->attributes.readable = call->file->attributes.writable = true;
  }
  call_ = call;
  call->hold();
  space_->handle(*call);
}

void Session::on_stub(const ReceivedFrame& frame) {
  protocol::StubHello hello{};
  std::memcpy(&hello, buffer_.data(), sizeof(hello));
  if (hello.version != protocol::kVersion || frame.descriptors.size() != 2 ||
      hello.most_pages == 0 || hello.most_pages > protocol::kMaxOrderPages) {
    return reject("its stub introduced itself as no stub does");
  }
  const auto hold = hold_at(hello.hold);
  if (!hold || !space_->layout().bounds.contains(*hold)) {
    return reject("its stub has no place for pages");
  }
  if (stub_) stub_->close();
  hold_ = hello.hold;
  stub_ = std::make_shared<StubChannel>(
      server_.stubs(), frame.descriptors[0], frame.descriptors[1], hello.most_pages,
      [weak = weak_from_this(), &calls = server_.calls()](const std::string& why) {
        boost::asio::post(calls, [weak, why] {
          if (const auto self = weak.lock()) self->reject(why);
        });
      });
  pmap_->use_taker(stub_);
  stub_->start();
}

void Session::on_continue() {
  const bool ok = static_cast<std::int64_t>(request_.args[0]) < 0;
  const int error = static_cast<int>(request_.args[1]);
  if (call_ && request_.sequence == call_->request.sequence) {
    const std::shared_ptr<ActiveCall> call = call_;
    return call->continued(ok, error);
  }
  if (!call_ && last_ && ok && last_->sequence == request_.sequence) return space_->plan_done();
  // The plan that went along with an answer failed: what the call did is taken back.
  if (!call_ && last_ && !ok && last_->sequence == request_.sequence) {
    call_ = std::make_shared<ActiveCall>(shared_from_this(), *last_);
    const std::shared_ptr<ActiveCall> call = call_;
    call->hold();
    last_.reset();
    space_->undo(*call, last_answer_, vm::error_from_errno(error));
    return;
  }
  reject("it continued a call that it had not made");
}

bool Session::send_reply(const protocol::TrapRequest& to, std::uint32_t flags, std::int32_t error,
                         std::uint64_t value, const HostOpBatch* batch,
                         const std::vector<std::uint8_t>& data, int descriptor) {
  std::array<std::byte, sizeof(protocol::TrapReply)> frame;
  hal::SharedDescriptor memory;  // open until it is sent
  protocol::TrapReplyHeader header{};
  header.magic = protocol::kMagic;
  header.sequence = to.sequence;
  header.error = error;
  header.flags = flags;
  header.value = value;
  if ((flags & protocol::kReplyFinal) != 0 && space_) {
    const VirtualRange lease = space_->lease();
    header.lease_start = lease.start().value();
    header.lease_end = lease.end().value();
  }
  header.op_count = batch != nullptr ? static_cast<std::uint32_t>(batch->ops.size()) : 0;
  header.data_bytes =
      static_cast<std::uint32_t>(std::min<std::size_t>(data.size(), protocol::kMaxReplyData));
  std::byte* at = frame.data();
  std::memcpy(at, &header, sizeof(header));
  at += sizeof(header);
  if (header.op_count != 0) {
    std::memcpy(at, batch->ops.data(), header.op_count * sizeof(protocol::HostOp));
    at += header.op_count * sizeof(protocol::HostOp);
    if (batch->backing) {
      try {
        memory = batch->backing->reopen(batch->writable);
      } catch (const std::system_error& error) {
        spdlog::error("program {}: {}", pid_.load(), error.what());
        return false;
      }
      descriptor = memory.get();
    }
  }
  if (header.data_bytes != 0) std::memcpy(at, data.data(), header.data_bytes);
  return send_frame(
      socket_.native_handle(),
      std::span(frame).first(protocol::reply_bytes(header.op_count, header.data_bytes)),
      descriptor);
}

void Session::serve_faults() {
  boost::asio::post(faults_, [self = shared_from_this()] { self->wait_for_fault(); });
}

void Session::wait_for_fault() {
  userfaultfd_.async_wait(
      Descriptor::wait_read, [self = shared_from_this()](const boost::system::error_code& error) {
        if (error) return;
        const bool usable = self->pmap_->read_events([&](const hal::UffdPmap::Event& event) {
          if (const auto* fault = std::get_if<hal::UffdPmap::Fault>(&event)) {
            self->on_fault(*fault);
          } else {
            self->on_fork(std::get<hal::UffdPmap::Forked>(event).userfaultfd);
          }
        });
        self->server_.machine().pagers().watch_replies();
        if (usable) return self->wait_for_fault();
        boost::asio::post(self->server_.calls(),
                          [self] { self->reject("its userfaultfd can no longer be read"); });
      });
}

void Session::on_fault(const hal::UffdPmap::Fault& fault) {
  const std::uint64_t address = hold_;
  const auto hold = hold_at(address);
  if (address != 0 && hold && hold->contains(fault.page)) {
    pmap_->enter_zero(VirtualRange(fault.page, hold->end()), true);
    return;
  }
  catch_up();
  space_->fault(fault.page, fault.write);
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

bool Session::alive() { return pmap_ == nullptr || pmap_->alive(); }

void Session::close(const std::string& why) {
  if (closed_) return;
  closed_ = true;
  const auto keep = shared_from_this();
  spdlog::info("program {}: space {} closed: {}", pid_.load(), id_, why);
  boost::system::error_code ignored;
  socket_.close(ignored);
  process_.close(ignored);
  retired_.clear();
  boost::asio::post(faults_, [keep] {
    boost::system::error_code nothing;
    keep->userfaultfd_.close(nothing);
  });
  if (stub_) {
    pmap_->use_taker(nullptr);
    stub_->close();
  }
  if (space_) space_->close();
  if (const std::shared_ptr<ActiveCall> call = std::move(call_)) call->abandon();
  server_.remove(*this);
}

void Session::dismiss() {
  dismissed_ = true;
  for (const SharedDescriptor& socket : retired_) shutdown(socket.get(), SHUT_RDWR);
  if (socket_.is_open()) shutdown(socket_.native_handle(), SHUT_RDWR);
}

void Session::report(vm::SpaceReport& report) {
  catch_up();
  report.pid = pid_;
  report.parent = parent_pid_;
  report.user_id = user_id_;
  if (pid_ != 0) {
    std::ifstream command("/proc/" + std::to_string(pid_.load()) + "/comm");
    std::getline(command, report.command);
  }
  if (space_) space_->report(report);
}

}  // namespace server
