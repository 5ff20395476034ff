// vmserver: the process that owns the address spaces of the programs it serves.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/kj_log.h"
#include "cli/main_context.h"
#include "cli/size.h"
#include "hal/linux/memfd_backing.h"
#include "protocol/paths.h"
#include "vmserver/client/program_server.h"
#include "vmserver/rpc/rpc_service.h"
#include "vmserver/vm/machine.h"
#include "vmserver/vm/map_entry.h"
#include "vmserver/vm/pageout.h"
#include "vmserver/vm/personality.h"
#include "vmserver/vm/policy.h"
#include "vmserver/vm/syncer.h"

namespace {

// So many programs at once may wait for what others write to a file that they map.
constexpr std::size_t kWaiters = 4;

struct Options {
  std::string socket = VM_DEFAULT_SOCKET;
  unsigned socket_mode = 0600;
  std::uint64_t memory_bytes = 0;
  std::optional<std::uint64_t> max_entries;
  const vm::Personality* personality = vm::find_personality("freebsd-7");
  std::string policy;  // a path; "": none
  std::vector<std::string> host_files;
  bool usual_host_files = true;
  spdlog::level::level_enum log_level = spdlog::level::warn;
  int ready = -1;
};

kj::MainBuilder::Validity set_mode(Options& options, kj::StringPtr text) {
  char* end = nullptr;
  const unsigned long mode = std::strtoul(text.cStr(), &end, 8);
  if (text.size() == 0 || *end != '\0' || mode > 0777) return "not an octal mode like 0660";
  options.socket_mode = static_cast<unsigned>(mode);
  return true;
}

kj::MainBuilder::Validity set_memory(Options& options, kj::StringPtr text) {
  const std::optional<std::uint64_t> bytes = cli::parse_size(text.cStr());
  if (!bytes || *bytes < hal::kPageSize) return "not a size like 512M";
  options.memory_bytes = *bytes;
  return true;
}

kj::MainBuilder::Validity set_max_entries(Options& options, kj::StringPtr text) {
  std::uint64_t entries = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), entries);
  if (error != std::errc() || end != text.end()) return "not a number of entries";
  options.max_entries = entries;
  return true;
}

kj::MainBuilder::Validity set_personality(Options& options, kj::StringPtr text) {
  options.personality = vm::find_personality(text.cStr());
  if (options.personality != nullptr) return true;
  return kj::str("no personality of that name; there are: ", vm::personality_names());
}

kj::MainBuilder::Validity set_log_level(Options& options, kj::StringPtr text) {
  const std::string name = text.cStr();
  options.log_level = spdlog::level::from_str(name);
  if (options.log_level == spdlog::level::off && name != "off") {
    return "not one of trace, debug, info, warn, error, off";
  }
  return true;
}

kj::MainBuilder::Validity set_ready(Options& options, kj::StringPtr text) {
  char* end = nullptr;
  const long descriptor = std::strtol(text.cStr(), &end, 10);
  if (text.size() == 0 || *end != '\0' || descriptor < 0 || descriptor > 1 << 20) {
    return "not a descriptor number";
  }
  options.ready = static_cast<int>(descriptor);
  return true;
}

std::shared_ptr<const vm::Policy> load_policy(const std::string& path) {
  if (path.empty()) return nullptr;
  auto policy = vm::Policy::load(path);
  if (!policy) throw cli::UsageError(policy.error().reason);
  return std::make_shared<const vm::Policy>(std::move(policy).value());
}

// Every program costs a few descriptors and every object one, a file's object another. Returns how
// many there can be.
int raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::numeric_limits<int>::max();
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    spdlog::warn("the descriptor limit cannot be raised");
    limit.rlim_cur = before;
  }
  return static_cast<int>(
      std::min<rlim_t>(limit.rlim_cur, static_cast<rlim_t>(std::numeric_limits<int>::max())));
}

void say_ready(int descriptor) {
  if (descriptor < 0) return;
  constexpr char kReady[] = "ready\n";
  if (write(descriptor, kReady, sizeof(kReady) - 1) < 0) {
    spdlog::warn("descriptor {} does not take that the server is ready", descriptor);
  }
  close(descriptor);
}

int serve(const Options& options) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("vmserver"));
  spdlog::set_level(options.log_level);
  spdlog::set_pattern("%n: %l: %v");
  const int descriptors = raise_descriptor_limit();

  vm::MachineOptions machine_options;
  machine_options.personality = options.personality;
  machine_options.host_files = options.host_files;
  machine_options.usual_host_files = options.usual_host_files;
  machine_options.policy = load_policy(options.policy);
  machine_options.memory_limit_pages = options.memory_bytes >> hal::kPageShift;
  // FreeBSD lets a third of the memory be wired (vm_pageout's v_free_count / 3).
  const auto physical = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES));
  machine_options.max_wired_pages =
      (machine_options.memory_limit_pages != 0
           ? std::min(machine_options.memory_limit_pages, physical)
           : physical) /
      3;
  // FreeBSD's own default: what fits into a hundredth of the memory that the kernel has for such.
  machine_options.max_entries = options.max_entries.value_or(
      hal::bytes_from_pages(physical) / sizeof(vm::MapEntry) / 100);

  server::ProgramServer programs;
  server::RpcService rpc(options.socket + VM_RPC_SUFFIX, programs);
  // A quarter stays for programs that come, whatever the others map.
  hal::MemfdFactory backings(descriptors - descriptors / 4);
  vm::Machine machine(machine_options, backings, rpc.pagers());
  programs.use(machine);
  try {
    programs.open_host();
    programs.listen(options.socket, options.socket_mode);
    rpc.start();
  } catch (const std::system_error& error) {
    throw cli::UsageError(error.what());
  }
  boost::asio::thread_pool waiters(kWaiters);
  machine.use_waiter([&](std::function<void()> work) { boost::asio::post(waiters, std::move(work)); });
  vm::Syncer syncer(machine);
  syncer.start();
  vm::PageoutDaemon pageout(machine);
  pageout.start();
  say_ready(options.ready);
  const bool clean = programs.run();
  pageout.stop();
  syncer.stop();
  waiters.join();
  rpc.stop();
  return clean ? 0 : cli::kExitFailure;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  return cli::run(
      [&](cli::MainContext& context) {
        return kj::MainBuilder(context, "vmserver 0.1",
                               "Serves the virtual memory of programs that libvmshim.so is "
                               "preloaded into. Ends on SIGINT or SIGTERM, after what programs "
                               "stored in files has been written.")
            .addOptionWithArg({"socket"}, [&](auto text) -> kj::MainBuilder::Validity {
              options.socket = text.cStr();
              return true;
            }, "PATH", "The socket that programs connect to (default " VM_DEFAULT_SOCKET
                       "). Pagers and tools use PATH" VM_RPC_SUFFIX " beside it.")
            .addOptionWithArg({"socket-mode"}, [&](auto text) { return set_mode(options, text); },
                              "MODE", "Who may connect, as the socket's octal mode (default 0600: "
                              "the server's user alone; 0666: everybody).")
            .addOptionWithArg({"memory"}, [&](auto text) { return set_memory(options, text); },
                              "SIZE", "The machine's memory, in bytes or with K, M, G or T: what all "
                              "programs have of it together, their files included. What does not "
                              "fit is paged out. Default: as much as the host gives.")
            .addOptionWithArg({"personality"},
                              [&](auto text) { return set_personality(options, text); }, "NAME",
                              "Whose rules calls follow: freebsd-7 (default), freebsd-14 or "
                              "linux.")
            .addOptionWithArg({"max-proc-mmap"},
                              [&](auto text) { return set_max_entries(options, text); }, "N",
                              "Most mappings of one program (FreeBSD's vm.max_proc_mmap): mmap "
                              "is ENOMEM beyond; 0 for no maximum. Default: what fits into a "
                              "hundredth of the host's memory.")
            .addOptionWithArg({"policy"}, [&](auto text) -> kj::MainBuilder::Validity {
              if (text.size() == 0) return "empty path";
              options.policy = text.cStr();
              return true;
            }, "FILE", "Deny mappings by the rules in FILE, such as \"deny prot wx\".")
            .addOptionWithArg({"host-files"}, [&](auto text) -> kj::MainBuilder::Validity {
              if (text.size() == 0) return "empty pattern";
              options.host_files.push_back(text.cStr());
              return true;
            }, "GLOB", "Leave mappings of files with such a path to the host; may be given several "
                       "times. * stands for slashes as well.")
            .addOption({"serve-all-files"}, [&]() -> kj::MainBuilder::Validity {
              options.usual_host_files = false;
              return true;
            }, "Serve also the files that are left to the host without being asked: *-shm, "
               "*/lock.mdb, *-lock and /dev/shm/sem.*, through which programs synchronise.")
            .addOptionWithArg({"log-level"}, [&](auto text) { return set_log_level(options, text); },
                              "LEVEL", "trace, debug, info, warn (default), error or off. Log "
                              "lines go to stderr.")
            .addOptionWithArg({"ready-fd"}, [&](auto text) { return set_ready(options, text); },
                              "FD", "Write \"ready\\n\" to this descriptor, and close it, once "
                              "programs and pagers can connect.")
            .callAfterParsing([&]() -> kj::MainBuilder::Validity {
              const int status = serve(options);
              if (status != 0) context.finish(status);
              return true;
            })
            .build();
      },
      argc, argv);
}
