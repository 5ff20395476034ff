#include "vmserver/rpc/exec_listener.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "vmserver/rpc/peer_log.h"

namespace server {
namespace {

/// Messages on their way to one tool at a time.
constexpr std::size_t kBatch = 64;

}  // namespace

ExecListener::ExecListener(vm::ExecTrace& trace, protocol::ExecSink::Client sink)
    : trace_(trace), sink_(kj::mv(sink)) {
  delivery_ = deliver().eagerlyEvaluate([this](kj::Exception&& exception) {
    trace_.remove(*this);
    if (exception.getType() == kj::Exception::Type::DISCONNECTED) return;
    spdlog::error("rpc: an exec trace ends: {}", printable(exception.getDescription().cStr()));
  });
  trace_.add(*this);
}

ExecListener::~ExecListener() { trace_.remove(*this); }

void ExecListener::exec_event(const vm::ExecEvent& event) {
  const std::lock_guard guard(lock_);
  if (queue_.size() >= kMostQueued) {
    ++lost_;
    return;
  }
  queue_.push_back({event, std::exchange(lost_, 0)});
  if (wake_.get() == nullptr) return;
  wake_->fulfill();
  wake_ = nullptr;
}

kj::Promise<void> ExecListener::deliver() {
  kj::Promise<void> ready = kj::READY_NOW;
  {
    const std::lock_guard guard(lock_);
    if (queue_.empty()) {
      auto waiting = kj::newPromiseAndCrossThreadFulfiller<void>();
      wake_ = kj::mv(waiting.fulfiller);
      ready = kj::mv(waiting.promise);
    }
  }
  return ready.then([this] { return send_batch(); }).then([this] { return deliver(); });
}

kj::Promise<void> ExecListener::send_batch() {
  std::vector<Queued> batch;
  {
    const std::lock_guard guard(lock_);
    const auto count = static_cast<std::ptrdiff_t>(std::min(queue_.size(), kBatch));
    batch.assign(std::make_move_iterator(queue_.begin()),
                 std::make_move_iterator(queue_.begin() + count));
    queue_.erase(queue_.begin(), queue_.begin() + count);
  }
  auto answers = kj::heapArrayBuilder<kj::Promise<void>>(batch.size());
  for (const Queued& queued : batch) {
    auto request = sink_.eventRequest();
    auto event = request.initEvent();
    event.setKind(queued.event.kind == vm::ExecEvent::Kind::mapped
                      ? protocol::ExecEvent::Kind::MAPPED
                      : protocol::ExecEvent::Kind::UNMAPPED);
    event.setPid(queued.event.pid);
    event.setAddress(queued.event.address.value());
    event.setBytes(queued.event.bytes);
    event.setPath(queued.event.path.c_str());
    event.setLost(queued.lost);
    answers.add(request.send().ignoreResult());
  }
  return kj::joinPromises(answers.finish());
}

}  // namespace server
