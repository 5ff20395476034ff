#include "tools/control_client.h"

#include <kj/async-unix.h>
#include <kj/io.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>

#include "protocol/descriptor.h"
#include "protocol/paths.h"
#include "tools/failure.h"

namespace tools {
namespace {

// Connected by hand, because KJ's address parser would take apart a path with a ':' or '*' in it.
int connect_to(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    throw cli::UsageError(describe_errno("connect to " + path, ENAMETOOLONG));
  std::memcpy(address.sun_path, path.data(), path.size());

  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) throw std::runtime_error(describe_errno("socket", errno));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw cli::UsageError(describe_errno("connect to " + path, errno));
  return fd.release();
}

std::string one_line(const kj::Exception& exception) {
  if (exception.getType() == kj::Exception::Type::DISCONNECTED) return "the server hung up";
  std::string text(exception.getDescription().cStr());
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text;
}

/// Gives a tool's function what a server tells, and what the function throws to who waits.
class FunctionSink final : public protocol::ExecSink::Server {
 public:
  FunctionSink(const std::function<void(protocol::ExecEvent::Reader)>& each,
               kj::PromiseFulfiller<void>& failed, std::exception_ptr& thrown)
      : each_(each), failed_(failed), thrown_(thrown) {}

  kj::Promise<void> event(EventContext context) override {
    if (thrown_) return kj::READY_NOW;
    try {
      each_(context.getParams().getEvent());
    } catch (const std::exception&) {
      thrown_ = std::current_exception();
      failed_.fulfill();
    }
    return kj::READY_NOW;
  }

 private:
  const std::function<void(protocol::ExecEvent::Reader)>& each_;
  kj::PromiseFulfiller<void>& failed_;
  std::exception_ptr& thrown_;
};

}  // namespace

std::string rpc_socket_path(const std::string& program_socket) {
  return program_socket + VM_RPC_SUFFIX;
}

template <typename Work>
auto ControlClient::guarded(const std::string& what, Work&& work) {
  try {
    return work();
  } catch (const kj::Exception& exception) {
    throw std::runtime_error(what + " from " + path_ + ": " + one_line(exception));
  }
}

template <typename Request>
auto ControlClient::ask(const std::string& what, Request&& request) {
  return guarded(what, [&] { return request.send().wait(io_.waitScope); });
}

ControlClient::ControlClient(const std::string& program_socket)
    : path_(rpc_socket_path(program_socket)),
      io_(kj::setupAsyncIo()),
      stream_(io_.lowLevelProvider->wrapUnixSocketFd(kj::AutoCloseFd(connect_to(path_)))),
      connection_(kj::heap<capnp::TwoPartyClient>(*stream_, protocol::kMaxDescriptorsPerMessage)),
      control_(nullptr) {
  // Waited for, so that each later call has the connection to itself: a server that is drained
  // hangs up right after its answer, and a message still on its way there would fail the call.
  auto request = connection_->bootstrap().castAs<protocol::VmServer>().controlRequest();
  control_ = ask("control", request).getControl();
}

ControlClient::~ControlClient() noexcept(false) {
  // A connection that broke leaves events behind, which the event loop must not die with.
  { const protocol::Control::Client last = kj::mv(control_); }
  connection_ = nullptr;
  io_.waitScope.poll();
}

ControlClient::Spaces ControlClient::spaces() {
  return ask("list address spaces", control_.spacesRequest());
}

ControlClient::Map ControlClient::map(std::int32_t pid) {
  const std::string what = "map of process " + std::to_string(pid);
  auto request = control_.mapRequest();
  request.setPid(pid);
  Map answer = ask(what, request);
  if (!answer.getFound()) throw std::runtime_error(what + " from " + path_ + ": not served");
  return answer;
}

ControlClient::Statistics ControlClient::statistics() {
  return ask("statistics", control_.statisticsRequest());
}

void ControlClient::limit(std::int32_t pid, std::uint64_t pages) {
  const std::string what = "limit of process " + std::to_string(pid);
  auto request = control_.limitRequest();
  request.setPid(pid);
  request.setPages(pages);
  switch (ask(what, request).getOutcome()) {
    case protocol::LimitOutcome::DONE:
      return;
    case protocol::LimitOutcome::NOT_SERVED:
      throw std::runtime_error(what + " from " + path_ + ": not served");
    case protocol::LimitOutcome::UNLIMITED_SERVER:
      throw std::runtime_error(what + " from " + path_ +
                               ": the server has no limit itself (vmserver --memory)");
  }
}

FramebufferView ControlClient::framebuffer(const std::string& name) {
  const std::string what = "framebuffer " + name;
  auto request = control_.framebufferRequest();
  request.setName(name.c_str());
  auto answer = ask(what, request);
  if (!answer.getFound())
    throw std::runtime_error(what + " from " + path_ + ": no pager has one of that name");

  const auto description = answer.getFramebuffer();
  kj::AutoCloseFd memory = guarded(
      what, [&] { return protocol::take_descriptor(description.getMemory()).wait(io_.waitScope); });
  return {description.getWidth(), description.getHeight(), description.getStride(),
          UniqueFd(memory.release())};
}

std::uint32_t ControlClient::drain() { return ask("drain", control_.drainRequest()).getSpaces(); }

void ControlClient::capture_end() {
  kj::UnixEventPort::captureSignal(SIGINT);
  kj::UnixEventPort::captureSignal(SIGTERM);
}

void ControlClient::trace_exec(const std::function<void(protocol::ExecEvent::Reader)>& each,
                               const std::function<void()>& listening) {
  std::exception_ptr thrown;
  auto failed = kj::newPromiseAndFulfiller<void>();
  auto request = control_.traceExecRequest();
  request.setSink(kj::heap<FunctionSink>(each, *failed.fulfiller, thrown));
  const std::string what = "trace of executable mappings";
  auto ended = io_.unixEventPort.onSignal(SIGINT)
                   .exclusiveJoin(io_.unixEventPort.onSignal(SIGTERM))
                   .ignoreResult();
  auto gone = connection_->onDisconnect().then([]() -> kj::Promise<void> {
    return KJ_EXCEPTION(DISCONNECTED, "the server hung up");
  });
  guarded(what, [&] {
    auto answer = request.send().wait(io_.waitScope);
    const protocol::ExecTrace::Client trace = answer.getTrace();
    listening();
    ended.exclusiveJoin(kj::mv(failed.promise)).exclusiveJoin(kj::mv(gone)).wait(io_.waitScope);
  });
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace tools
