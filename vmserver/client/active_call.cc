#include "vmserver/client/active_call.h"

#include <fstream>
#include <sstream>
#include <string>

#include <boost/asio/post.hpp>

#include "hal/linux/process_user.h"
#include "vmserver/client/program_server.h"

namespace server {

Session::ActiveCall::ActiveCall(std::shared_ptr<Session> session,
                                const protocol::TrapRequest& frame)
    : session_(std::move(session)) {
  request = frame;
  static const vm::Personality& host_rules = *vm::find_personality("linux");
  const bool by_host = (frame.flags & protocol::kRequestHostRules) != 0;
  rules = by_host ? &host_rules : &session_->server_.machine().personality();
  abi = vm::find_abi(frame.abi, rules->freebsd_numbers);
}

template <class Function>
void Session::ActiveCall::on_call_thread(Function function) {
  boost::asio::io_context& calls = session_->server_.calls();
  if (calls.get_executor().running_in_this_thread()) {
    function();
  } else {
    boost::asio::post(calls, [self = shared_from_this(), function = std::move(function)]() mutable {
      function();
    });
  }
}

void Session::ActiveCall::send_plan(Next next) {
  on_call_thread([this, next = std::move(next)]() mutable {
    batches_ = encode(plan);
    plan.clear();
    sent_ = 0;
    next_ = std::move(next);
    send_next();
  });
}

void Session::ActiveCall::send_answer(const vm::Answer& answer) {
  on_call_thread([this, answer] {
    batches_ = encode(plan);
    plan.clear();
    sent_ = 0;
    next_ = nullptr;
    finishing_ = true;
    answer_ = answer;
    send_next();
  });
}

void Session::ActiveCall::send_next() {
  const auto keep = shared_from_this();
  if (session_->closed_) return abandon();
  const std::size_t last_acknowledged = finishing_ && !batches_.empty() ? batches_.size() - 1
                                                                        : batches_.size();
  if (sent_ < last_acknowledged) {
    const HostOpBatch& batch = batches_[sent_++];
    if (!session_->send_reply(request, protocol::kReplyAcknowledge, 0, 0, &batch, {})) {
      session_->close("it does not take its answers");
    }
    return;
  }
  if (finishing_) return send_last();
  batches_.clear();
  const Next next = std::move(next_);
  next_ = nullptr;
  next(vm::Error::none);
}

void Session::ActiveCall::send_last() {
  std::uint32_t flags = protocol::kReplyFinal;
  if (answer_.value_from_host) flags |= protocol::kReplyValueFromHost;
  if (answer_.prepare_forks) flags |= protocol::kReplyPrepareForks;
  if (answer_.again) flags |= protocol::kReplyAgain;
  if (answer_.acknowledged) flags |= protocol::kReplyAcknowledge;
  const HostOpBatch* batch = batches_.empty() ? nullptr : &batches_.back();
  // The session is ready for the next request before the program can send one.
  session_->last_ = request;
  session_->last_answer_ = answer_;
  session_->call_.reset();
  const bool sent = session_->send_reply(request, flags, vm::to_errno(answer_.error),
                                         answer_.value, batch, data);
  self_.reset();
  if (!sent) session_->close("it does not take its answers");
}

void Session::ActiveCall::continued(bool ok, int error) {
  const auto keep = shared_from_this();
  if (ok) return send_next();
  batches_.clear();
  sent_ = 0;
  const vm::Error failed = vm::error_from_errno(error);
  if (finishing_) {
    finishing_ = false;
    session_->space_->undo(*this, answer_, failed);
    return;
  }
  const Next next = std::move(next_);
  next_ = nullptr;
  if (next) next(failed);
}

void Session::ActiveCall::abandon() {
  const auto keep = shared_from_this();
  batches_.clear();
  sent_ = 0;
  if (finishing_) {
    self_.reset();
    return;
  }
  const Next next = std::move(next_);
  next_ = nullptr;
  if (next) next(vm::Error::io);
}

// The effective user changes during a program's life (setuid), so it is asked for each time. Line by
// line: a program's name, which it chooses, is in there, too.
std::optional<std::uint32_t> Session::ActiveCall::effective_user() const {
  if (session_->process_.is_open()) {
    if (const auto user = hal::effective_user(session_->process_.native_handle())) return user;
  }
  std::ifstream status("/proc/" + std::to_string(session_->pid()) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("Uid:")) continue;
    std::istringstream numbers(line.substr(line.find(':') + 1));
    std::uint32_t real = 0;
    std::uint32_t effective = 0;
    if (numbers >> real >> effective) return effective;
  }
  return std::nullopt;
}

bool Session::ActiveCall::superuser() { return effective_user() == 0; }

std::uint32_t Session::ActiveCall::user_id() {
  return effective_user().value_or(session_->user_id_);
}

}  // namespace server
