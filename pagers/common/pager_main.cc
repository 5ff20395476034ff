#include "pagers/common/pager_main.h"

#include <capnp/rpc-twoparty.h>
#include <fcntl.h>
#include <kj/async-io.h>
#include <kj/async-unix.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>
#include <system_error>

#include "cli/kj_log.h"
#include "cli/main_context.h"
#include "pagers/common/pager_server.h"
#include "protocol/descriptor.h"
#include "protocol/paths.h"
#include "protocol/server.capnp.h"

namespace pager {
namespace {

struct Options {
  std::string server = VM_DEFAULT_SOCKET;
  int ready_fd = -1;
};

/// One descriptor for each object and then some: as many as this process may have.
void raise_descriptor_limit() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    spdlog::warn("cannot raise the limit of open files: {}", std::strerror(errno));
}

kj::AutoCloseFd connect_to(const std::string& path) {
  const auto fail = [&](int error) {
    throw cli::UsageError("connect to " + path + ": " + std::strerror(error));
  };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) fail(ENAMETOOLONG);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  kj::AutoCloseFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) fail(errno);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail(errno);
  return fd;
}

void say_ready(int fd) {
  if (fd < 0) return;
  constexpr std::string_view kReady = "ready\n";
  if (::write(fd, kReady.data(), kReady.size()) != static_cast<ssize_t>(kReady.size()))
    throw std::system_error(errno, std::generic_category(),
                            "write to descriptor " + std::to_string(fd) + " of --ready-fd");
  ::close(fd);
}

void serve(Pager& pager, const std::string& name, const Options& options) {
  raise_descriptor_limit();
  // Before there are other threads: these signals belong to this one's event loop.
  kj::UnixEventPort::captureSignal(SIGINT);
  kj::UnixEventPort::captureSignal(SIGTERM);
  pager.prepare(options.server);
  const std::string path = options.server + VM_RPC_SUFFIX;
  kj::AutoCloseFd socket = connect_to(path);

  const cli::KjLog log;
  auto io = kj::setupAsyncIo();
  PagerWorkers workers;
  auto stream = io.lowLevelProvider->wrapUnixSocketFd(kj::mv(socket),
                                                      kj::LowLevelAsyncIoProvider::ALREADY_CLOEXEC);
  capnp::TwoPartyVatNetwork network(*stream, protocol::kMaxDescriptorsPerMessage,
                                    capnp::rpc::twoparty::Side::CLIENT);
  auto rpc = capnp::makeRpcClient(network);
  capnp::MallocMessageBuilder message;
  auto server_id = message.initRoot<capnp::rpc::twoparty::VatId>();
  server_id.setSide(capnp::rpc::twoparty::Side::SERVER);
  auto server = rpc.bootstrap(server_id).castAs<protocol::VmServer>();

  enum class End { signal, server };
  const auto on_signal = [&](int number) {
    return io.unixEventPort.onSignal(number).then([](siginfo_t&&) { return End::signal; });
  };
  auto end = network.onDisconnect()
                 .then([] { return End::server; })
                 .exclusiveJoin(on_signal(SIGINT))
                 .exclusiveJoin(on_signal(SIGTERM));

  auto request = server.registerPagerRequest();
  request.setKind(pager.kind());
  request.setName(name + " " + std::to_string(::getpid()));
  request.setPager(kj::heap<PagerServer>(pager, workers, name, io.unixEventPort));
  request.setKeeps(pager.keeps());
  const auto claims = pager.claims();
  auto list = request.initClaims(static_cast<unsigned>(claims.size()));
  for (unsigned i = 0; i < list.size(); ++i) {
    list[i].setDevice(claims[i].device);
    list[i].setInode(claims[i].inode);
    list[i].setName(claims[i].name);
  }
  auto registration = request.send().wait(io.waitScope).getRegistration();
  spdlog::info("registered at {}", path);
  say_ready(options.ready_fd);

  if (end.wait(io.waitScope) == End::server) {
    spdlog::info("the server at {} ended", path);
  } else {
    spdlog::info("ended by a signal");
  }
}

kj::MainBuilder::Validity set_ready_fd(Options& options, kj::StringPtr text) {
  int fd = -1;
  const auto result = std::from_chars(text.begin(), text.end(), fd);
  if (result.ec != std::errc() || result.ptr != text.end() || fd < 0)
    return "is not a descriptor number";
  if (::fcntl(fd, F_GETFD) < 0) return kj::str("descriptor is not open");
  options.ready_fd = fd;
  return true;
}

kj::MainBuilder::Validity set_log_level(kj::StringPtr text) {
  const auto level = spdlog::level::from_str(text.cStr());
  if (level == spdlog::level::off && text != "off")
    return "is none of trace, debug, info, warning, error, critical, off";
  spdlog::set_level(level);
  return true;
}

}  // namespace

int run_pager(Pager& pager, const char* about, const char* details, int argc, char** argv) {
  Options options;
  return cli::run(
      [&](cli::MainContext& context) {
        const std::string name = context.getProgramName().cStr();
        auto logger = spdlog::stderr_logger_mt(name);
        logger->set_pattern("%n: %v");
        spdlog::set_default_logger(logger);
        kj::MainBuilder builder(context, "vmserver " VM_VERSION, about, details);
        builder
            .addOptionWithArg(
                {"server"},
                [&](kj::StringPtr path) -> kj::MainBuilder::Validity {
                  if (path.size() == 0) return "is no path";
                  options.server = path.cStr();
                  return true;
                },
                "PATH",
                "Serve the server whose program socket is PATH (default " VM_DEFAULT_SOCKET
                "). Its RPC socket is PATH" VM_RPC_SUFFIX ".")
            .addOptionWithArg(
                {"ready-fd"}, [&](kj::StringPtr text) { return set_ready_fd(options, text); }, "FD",
                "Write \"ready\" and a newline to the open descriptor FD and close it once this "
                "pager is registered.")
            .addOptionWithArg(
                {"log-level"}, [](kj::StringPtr text) { return set_log_level(text); }, "LEVEL",
                "Say on stderr what is at least this important: trace, debug, info (default), "
                "warning, error, critical or off.");
        pager.add_options(builder);
        return builder
            .callAfterParsing([&, name]() -> kj::MainBuilder::Validity {
              if (context.verbosity() > 0) spdlog::set_level(spdlog::level::debug);
              serve(pager, name, options);
              return true;
            })
            .build();
      },
      argc, argv);
}

}  // namespace pager
