// ExecListener: a tool that is told of executable mappings (ExecTrace in server.capnp).
//
// Events come on the threads of calls, go into a bounded queue, and from there to the tool's sink
// on the RPC thread, a batch at a time: the next one goes when the tool has answered the last. A
// call never waits for a tool; what finds the queue full is lost, and counted in the next event.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>

#include <kj/async.h>

#include "protocol/server.capnp.h"
#include "vmserver/vm/exec_trace.h"

namespace server {

class ExecListener final : public protocol::ExecTrace::Server, private vm::ExecObserver {
 public:
  static constexpr std::size_t kMostQueued = 4096;

  /// Listens until it is destroyed, or until the sink fails. The RPC thread.
  ExecListener(vm::ExecTrace& trace, protocol::ExecSink::Client sink);
  ~ExecListener();

 private:
  struct Queued {
    vm::ExecEvent event;
    std::uint64_t lost = 0;  // right before it
  };

  void exec_event(const vm::ExecEvent& event) override;
  kj::Promise<void> deliver();
  kj::Promise<void> send_batch();

  vm::ExecTrace& trace_;
  protocol::ExecSink::Client sink_;

  std::mutex lock_;
  std::deque<Queued> queue_;                             // lock_
  std::uint64_t lost_ = 0;                               // lock_
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> wake_;  // lock_; while deliver() waits for events

  kj::Promise<void> delivery_ = nullptr;  // last: it uses all of the above
};

}  // namespace server
