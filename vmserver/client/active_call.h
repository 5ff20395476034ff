// ActiveCall: a call between the core and the program that made it.
//
// It carries the core's plans to the program a batch at a time and the outcome back. Everything
// runs on the call thread; what the core says on another thread is posted there first. A call
// outlives its session if the session closes while a pager is waited for: it then runs to its end
// without a program to tell.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "vmserver/client/plan_encoder.h"
#include "vmserver/client/session.h"
#include "vmserver/vm/call.h"

namespace server {

class Session::ActiveCall final : public vm::Call,
                                  public std::enable_shared_from_this<ActiveCall> {
 public:
  ActiveCall(std::shared_ptr<Session> session, const protocol::TrapRequest& frame);
  /// The call lives until it ends, whatever its session does. To be said before it is handled.
  void hold() { self_ = shared_from_this(); }

  bool superuser() override;
  std::uint32_t user_id() override;
  std::int32_t pid() const override { return session_->pid(); }

  /// The program has carried out what it was sent, or operation `failed` of it ended in `error`.
  void continued(bool ok, int error);
  /// The session is gone.
  void abandon();

 private:
  void send_plan(Next next) override;
  void send_answer(const vm::Answer& answer) override;

  template <class Function>
  void on_call_thread(Function function);
  void send_next();
  void send_last();
  std::optional<std::uint32_t> effective_user() const;

  const std::shared_ptr<Session> session_;
  std::shared_ptr<ActiveCall> self_;  // until the call has ended
  std::vector<HostOpBatch> batches_;
  std::size_t sent_ = 0;
  Next next_;              // after the batches; none while finishing
  bool finishing_ = false;
  vm::Answer answer_;
};

}  // namespace server
