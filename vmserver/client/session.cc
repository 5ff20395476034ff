#include "vmserver/client/session.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include "hal/linux/describe_file.h"
#include "vmserver/client/active_call.h"
#include "vmserver/client/program_server.h"

namespace server {

using hal::SharedDescriptor;
using hal::VirtualAddress;
using hal::VirtualRange;
using Descriptor = boost::asio::posix::stream_descriptor;

namespace {

template <class Frame>
bool is_frame(const ReceivedFrame& received, std::span<const std::byte> buffer, Frame& frame,
              std::uint32_t magic) {
  if (received.truncated || received.bytes != sizeof(Frame)) return false;
  std::memcpy(&frame, buffer.data(), sizeof(Frame));
  return frame.magic == magic;
}

// Where a program's stub has pages land that it takes out.
std::optional<VirtualRange> hold_at(std::uint64_t address) {
  const VirtualAddress start(address);
  if (!start.is_page_aligned()) return std::nullopt;
  return VirtualRange::of_length(start, protocol::kMaxOrderPages * hal::kPageSize);
}

}  // namespace

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
    header.lock_credit = space_->lock_credit();
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
  std::optional<NoteReader::Fault> counted;
  if (NoteReader* const notes = notes_.load(std::memory_order_acquire)) {
    counted.emplace(*notes, fault.page.value());
  }
  catch_up();
  space_->fault(fault.page, fault.write);
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
  // A child whose parent is killed as soon as it has forked is made of what the parent had.
  if (pmap_ != nullptr) pmap_->await_events();
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
