// vmrun: runs one program on the virtual memory server, and looks to the outside like the program.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "cli/main_context.h"
#include "cli/size.h"
#include "protocol/paths.h"
#include "tools/control_client.h"
#include "tools/failure.h"
#include "tools/installation.h"
#include "tools/private_server.h"
#include "tools/run_program.h"
#include "tools/statistics_json.h"

namespace tools {
namespace {

constexpr const char* kVersion = "vmrun " VM_VERSION;

struct Options {
  ServerOptions server;
  std::string socket;
  std::string statistics;
  std::string capture;
  std::vector<std::string> command;
};

/// Opened before the program runs: a path that cannot be written is found out at once.
UniqueFd open_statistics(const std::string& path) {
  if (path.empty()) return UniqueFd();
  UniqueFd fd = above_standard(
      UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)));
  if (!fd) throw cli::UsageError(describe_errno("open " + path, errno));
  return fd;
}

void write_statistics(const UniqueFd& file, const std::string& path, const std::string& socket) {
  const auto answer = ControlClient(socket).statistics();
  const std::string text = statistics_json(answer.getStatistics()).dump(2) + "\n";
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(file.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw std::runtime_error(describe_errno("write " + path, errno));
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

/// The program has run by then, so its ending counts and this is only a line.
void try_write_statistics(const UniqueFd& file, const std::string& path,
                          const std::string& socket) {
  try {
    write_statistics(file, path, socket);
  } catch (const kj::Exception& error) {
    std::fprintf(stderr, "vmrun: %s\n", error.getDescription().cStr());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vmrun: %s\n", error.what());
  }
}

void check_socket(const std::string& path) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0)
    throw cli::UsageError(describe_errno("server at " + path, errno));
  if (!S_ISSOCK(status.st_mode)) throw cli::UsageError("server at " + path + ": not a socket");
  if (::access(path.c_str(), W_OK) != 0)
    throw cli::UsageError(describe_errno("server at " + path, errno));
}

[[noreturn]] void run(const Options& options) {
  const SignalState signals = SignalState::current();
  const Installation parts = own_installation();
  const UniqueFd statistics = open_statistics(options.statistics);

  std::unique_ptr<PrivateServer> server;
  if (options.socket.empty())
    server = std::make_unique<PrivateServer>(parts, options.server);
  else
    check_socket(options.socket);
  const std::string socket = server ? server->socket() : options.socket;

  const Ending ending = run_program(
      options.command, served_environment(parts.shim, socket, options.capture), signals);
  if (statistics) try_write_statistics(statistics, options.statistics, socket);
  if (server) server->finish();
  ending.repeat();
}

class VmrunMain {
 public:
  explicit VmrunMain(cli::MainContext& context) : context_(context) {}

  kj::MainFunc main() {
    return kj::MainBuilder(
               context_, kVersion,
               "Runs PROGRAM with its memory served by vmserver: by a private server with its "
               "pagers, which end with the last program they serve, or by the one at --socket.",
               "vmrun ends as PROGRAM did: with its exit status, or by the same signal. Otherwise: "
               "1 when the server could not be started, 2 for bad options, 126 when PROGRAM cannot "
               "be executed, 127 when it is not found.")
        .addOptionWithArg({"memory"}, KJ_BIND_METHOD(*this, set_memory), "SIZE",
                          "The private server's memory: bytes, or a number with K, M, G or T "
                          "(powers of 1024). What programs need beyond it is paged out. Default: "
                          "no limit.")
        .addOptionWithArg({"swap"}, KJ_BIND_METHOD(*this, add_swap), "FILE[:SIZE]",
                          "Where memory goes that the private server pages out: SIZE of a new file "
                          "or a block device, as pager-anon's option says. May be given several "
                          "times. Default: a file without a name in /var/tmp.")
        .addOptionWithArg({"compress"}, KJ_BIND_METHOD(*this, set_compression), "zstd|lz4",
                          "Compress what is paged out.")
        .addOptionWithArg({"personality"}, KJ_BIND_METHOD(*this, set_personality), "NAME",
                          "Whose rules the calls follow: freebsd-7 (default), freebsd-14 or "
                          "linux.")
        .addOptionWithArg({"max-proc-mmap"}, KJ_BIND_METHOD(*this, set_max_proc_mmap), "N",
                          "Most mappings of one program; 0 for no maximum.")
        .addOptionWithArg({"host-files"}, KJ_BIND_METHOD(*this, add_host_files), "GLOB",
                          "Leave mappings of files with such a path to the host; may be given "
                          "several times.")
        .addOption({"serve-all-files"}, KJ_BIND_METHOD(*this, serve_all_files),
                   "Serve also the files that are left to the host without being asked: *-shm, "
                   "*/lock.mdb, *-lock and /dev/shm/sem.*, through which programs synchronise.")
        .addOptionWithArg({"policy"}, KJ_BIND_METHOD(*this, set_policy), "FILE",
                          "Deny mappings by the rules in FILE.")
        .addOptionWithArg({"socket-mode"}, KJ_BIND_METHOD(*this, set_socket_mode), "MODE",
                          "Who may use the private server, octal: 0666 serves PROGRAM's processes "
                          "of other users, too. Default: 0600.")
        .addOptionWithArg(
            {"log-level"}, KJ_BIND_METHOD(*this, set_log_level), "LEVEL",
            "What the private server and its pagers say on stderr: trace, debug, info, warn, "
            "error or off. Default: warn.")
        .addOptionWithArg({"stats"}, KJ_BIND_METHOD(*this, set_statistics), "FILE",
                          "When PROGRAM has ended, write the server's statistics to FILE, as one "
                          "JSON object.")
        .addOptionWithArg({"capture"}, KJ_BIND_METHOD(*this, set_capture), "WHAT",
                          "Which calls are served: libc (default), those that libc makes for "
                          "itself, too, for malloc's heap and threads' stacks; or plt, only those "
                          "that go through dynamic linking.")
        .addOptionWithArg({"socket"}, KJ_BIND_METHOD(*this, set_socket), "PATH",
                          "Use the running server with this program socket.")
        .expectArg("-- PROGRAM", KJ_BIND_METHOD(*this, add_word))
        .expectZeroOrMoreArgs("ARG", KJ_BIND_METHOD(*this, add_word))
        .callAfterParsing(KJ_BIND_METHOD(*this, start))
        .build();
  }

 private:
  using Validity = kj::MainBuilder::Validity;

  Validity set_memory(kj::StringPtr text) {
    const std::optional<std::uint64_t> bytes = cli::parse_size({text.begin(), text.size()});
    if (!bytes || *bytes == 0) return kj::str("not a size: ", cli::kSizeForm);
    options_.server.memory = text.cStr();
    return true;
  }
  Validity add_swap(kj::StringPtr text) {
    if (text.size() == 0) return "empty path";
    // The pager runs in another directory.
    options_.server.swaps.push_back(std::filesystem::absolute(text.cStr()));
    return true;
  }
  Validity set_compression(kj::StringPtr text) {
    if (text != "zstd" && text != "lz4") return "not zstd or lz4";
    options_.server.compression = text.cStr();
    return true;
  }
  Validity set_personality(kj::StringPtr text) {
    return set("personality", options_.server.personality, text);
  }
  Validity set_max_proc_mmap(kj::StringPtr text) {
    return set("number of mappings", options_.server.max_proc_mmap, text);
  }
  Validity add_host_files(kj::StringPtr text) {
    if (text.size() == 0) return "empty pattern";
    options_.server.host_files.push_back(text.cStr());
    return true;
  }
  Validity serve_all_files() {
    options_.server.serve_all_files = true;
    return true;
  }
  Validity set_policy(kj::StringPtr text) {
    // The server runs in another directory.
    if (text.size() != 0) options_.server.policy = std::filesystem::absolute(text.cStr());
    return text.size() != 0 ? Validity(true) : kj::str("empty path");
  }
  Validity set_socket_mode(kj::StringPtr text) {
    return set("mode", options_.server.socket_mode, text);
  }
  Validity set_log_level(kj::StringPtr text) {
    return set("log level", options_.server.log_level, text);
  }
  Validity set_statistics(kj::StringPtr text) { return set("path", options_.statistics, text); }
  Validity set_capture(kj::StringPtr text) {
    if (text != "libc" && text != "plt") return kj::str("not libc or plt");
    options_.capture = text.cStr();
    return true;
  }
  Validity set_socket(kj::StringPtr text) { return set("path", options_.socket, text); }
  Validity add_word(kj::StringPtr text) {
    options_.command.emplace_back(text.cStr());
    return true;
  }

  static Validity set(const char* what, std::string& option, kj::StringPtr text) {
    if (text.size() == 0) return kj::str("empty ", what);
    option = text.cStr();
    return true;
  }

  Validity start() {
    const ServerOptions& server = options_.server;
    if (!options_.socket.empty() &&
        !(server.memory.empty() && server.personality.empty() && server.max_proc_mmap.empty() &&
          server.policy.empty() && server.host_files.empty() && !server.serve_all_files &&
          server.socket_mode.empty() && server.log_level.empty() && server.swaps.empty() &&
          server.compression.empty()))
      return kj::str(
          "--memory, --swap, --compress, --personality, --max-proc-mmap, --host-files, "
          "--serve-all-files, --policy, --socket-mode and --log-level are for a private server, "
          "not for the one at --socket");
    try {
      run(options_);
    } catch (const PrivateServer::ServerFailed& failed) {
      context_.finish(failed.status);
    }
  }

  cli::MainContext& context_;
  Options options_;
};

}  // namespace
}  // namespace tools

int main(int argc, char** argv) {
  std::unique_ptr<tools::VmrunMain> main;
  return cli::run(
      [&](cli::MainContext& context) {
        main = std::make_unique<tools::VmrunMain>(context);
        return main->main();
      },
      argc, argv);
}
