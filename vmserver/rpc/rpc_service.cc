#include "vmserver/rpc/rpc_service.h"

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "cli/kj_log.h"
#include "protocol/descriptor.h"
#include "vmserver/rpc/listener.h"
#include "vmserver/rpc/pager_hub.h"
#include "vmserver/rpc/peer_log.h"
#include "vmserver/rpc/server_interface.h"

namespace server {
namespace {

/// No message of a pager or a tool comes near these.
constexpr std::uint64_t kLargestMessageWords = 128 * 1024;
constexpr std::size_t kMostWordsInCalls = 256 * 1024;

capnp::ReaderOptions reader_options() {
  capnp::ReaderOptions options;
  options.traversalLimitInWords = kLargestMessageWords;
  return options;
}

struct Connection {
  Connection(kj::Own<kj::AsyncCapabilityStream> accepted, capnp::Capability::Client bootstrap)
      : stream(kj::mv(accepted)),
        network(*stream, protocol::kMaxDescriptorsPerMessage, capnp::rpc::twoparty::Side::SERVER,
                reader_options()),
        rpc(capnp::makeRpcServer(network, kj::mv(bootstrap))) {
    rpc.setFlowLimit(kMostWordsInCalls);
  }

  kj::Own<kj::AsyncCapabilityStream> stream;
  capnp::TwoPartyVatNetwork network;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc;
};

}  // namespace

/// What lives on the thread: the listening socket's events, the connections, the queue's events.
class RpcService::Loop final : private kj::TaskSet::ErrorHandler {
 public:
  Loop(RpcService& service, kj::AsyncIoContext& io)
      : service_(service),
        io_(io),
        accept_events_(io.unixEventPort, service.listener_->descriptor(),
                       kj::UnixEventPort::FdObserver::OBSERVE_READ),
        queue_events_(io.unixEventPort, service.hub_->queue().event_descriptor(),
                      kj::UnixEventPort::FdObserver::OBSERVE_READ),
        tasks_(*this) {
    service_.hub_->begin(io.unixEventPort);
    tasks_.add(accept_connections());
  }

  ~Loop() {
    connections_.clear();
    service_.hub_->end();
  }

  /// Ends when the service is to stop.
  kj::Promise<void> serve() {
    service_.hub_->take_queued();
    if (service_.stopping_) return kj::READY_NOW;
    return queue_events_.whenBecomesReadable().then([this] { return serve(); });
  }

  kj::Promise<void> shut_down() { return service_.hub_->shut_down(io_.provider->getTimer()); }

 private:
  kj::Promise<void> accept_connections() {
    for (;;) {
      const int fd = ::accept4(service_.listener_->descriptor(), nullptr, nullptr,
                               SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd >= 0) {
        add_connection(kj::AutoCloseFd(fd));
        continue;
      }
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN)
        return accept_events_.whenBecomesReadable().then([this] { return accept_connections(); });
      spdlog::error("accept at {}: {}; trying again in a second", service_.socket_path_,
                    std::strerror(errno));
      return io_.provider->getTimer().afterDelay(1 * kj::SECONDS).then([this] {
        return accept_connections();
      });
    }
  }

  void add_connection(kj::AutoCloseFd fd) {
    const std::uint64_t id = ++last_connection_;
    auto stream = io_.lowLevelProvider->wrapUnixSocketFd(
        kj::mv(fd), kj::LowLevelAsyncIoProvider::ALREADY_CLOEXEC |
                        kj::LowLevelAsyncIoProvider::ALREADY_NONBLOCK);
    auto bootstrap = kj::heap<VmServerInterface>(*service_.hub_, service_.inspector_,
                                                 [this, id] { end_connection(id); });
    auto& connection =
        connections_.emplace(id, kj::heap<Connection>(kj::mv(stream), kj::mv(bootstrap)))
            .first->second;
    tasks_.add(connection->network.onDisconnect().then([this, id] { end_connection(id); }));
  }

  /// Later: the caller may be running inside the connection.
  void end_connection(std::uint64_t id) {
    tasks_.add(kj::evalLater([this, id] { connections_.erase(id); }));
  }

  void taskFailed(kj::Exception&& exception) override {
    spdlog::error("rpc: {}", printable(exception.getDescription().cStr()));
  }

  RpcService& service_;
  kj::AsyncIoContext& io_;
  kj::UnixEventPort::FdObserver accept_events_;
  kj::UnixEventPort::FdObserver queue_events_;
  std::uint64_t last_connection_ = 0;
  std::map<std::uint64_t, kj::Own<Connection>> connections_;
  kj::TaskSet tasks_;
};

RpcService::RpcService(std::string socket_path, vm::Inspector& inspector)
    : socket_path_(std::move(socket_path)),
      inspector_(inspector),
      hub_(std::make_unique<PagerHub>()) {}

RpcService::~RpcService() { stop(); }

vm::PagerDirectory& RpcService::pagers() { return *hub_; }

std::uint64_t RpcService::registered_pagers() const { return hub_->registered(); }

void RpcService::start() {
  listener_ = std::make_unique<Listener>(socket_path_);

  // The thread inherits the mask, so no signal ever finds it without one.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::promise<void> started;
  auto outcome = started.get_future();
  try {
    thread_ = std::thread([this, &started] { run(started); });
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    listener_.reset();
    throw std::system_error(error.code(), "start of the thread for " + socket_path_);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  try {
    outcome.get();
  } catch (const std::system_error&) {
    thread_.join();
    listener_.reset();
    throw;
  }
}

void RpcService::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  hub_->queue().wake();
  thread_.join();
  listener_.reset();
}

void RpcService::run(std::promise<void>& started) {
  pthread_setname_np(pthread_self(), "vm-rpc");
  const cli::KjLog log;
  bool running = false;
  try {
    auto io = kj::setupAsyncIo();
    Loop loop(*this, io);
    running = true;
    started.set_value();
    loop.serve().wait(io.waitScope);
    loop.shut_down().wait(io.waitScope);
  } catch (const kj::Exception& error) {
    const std::string what =
        "event loop for " + socket_path_ + ": " + error.getDescription().cStr();
    if (running) {
      spdlog::critical("{}; no pager can be reached any more", what);
    } else {
      started.set_exception(
          std::make_exception_ptr(std::system_error(EIO, std::generic_category(), what)));
    }
  }
}

}  // namespace server
