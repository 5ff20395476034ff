// vmctl: looks inside a running server, and at what this machine offers one.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "cli/main_context.h"
#include "cli/size.h"
#include "protocol/paths.h"
#include "tools/control_client.h"
#include "tools/doctor.h"
#include "tools/exec_lines.h"
#include "tools/failure.h"
#include "tools/map_table.h"
#include "tools/paging_table.h"
#include "tools/png_writer.h"
#include "tools/statistics_json.h"

namespace tools {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr const char* kVersion = "vmctl " VM_VERSION;

std::string default_socket() {
  const char* socket = std::getenv(VM_ENV_SOCKET);
  return socket != nullptr && *socket != '\0' ? socket : VM_DEFAULT_SOCKET;
}

void flush_output() {
  std::cout.flush();
  if (!std::cout) throw std::runtime_error("write to standard output: failed");
}

/// All of the picture's bytes. Read, not mapped: the pager may shrink the file at any time.
std::vector<std::uint8_t> read_pixels(const FramebufferView& view, const std::string& name) {
  const std::uint64_t bytes = pixel_bytes(view.width, view.height, view.stride);
  struct stat status = {};
  if (::fstat(view.memory.get(), &status) != 0)
    throw std::runtime_error(describe_errno("framebuffer " + name, errno));
  if (static_cast<std::uint64_t>(status.st_size) < bytes)
    throw std::runtime_error("framebuffer " + name + ": its memory is shorter than its picture");

  std::vector<std::uint8_t> pixels(bytes);
  std::size_t done = 0;
  while (done < pixels.size()) {
    const ssize_t got = ::pread(view.memory.get(), pixels.data() + done, pixels.size() - done,
                                static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::runtime_error(describe_errno("read framebuffer " + name, errno));
    if (got == 0) throw std::runtime_error("read framebuffer " + name + ": it ends early");
    done += static_cast<std::size_t>(got);
  }
  return pixels;
}

void save_framebuffer(const std::string& socket, const std::string& name,
                      const std::string& output) {
  const FramebufferView view = ControlClient(socket).framebuffer(name);
  const std::vector<std::uint8_t> pixels = read_pixels(view, name);
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(output.c_str(), "wbe"));
  if (!file) throw cli::UsageError(describe_errno("open " + output, errno));
  write_png({view.width, view.height, view.stride, pixels}, file.get(), output);
}

class VmctlMain {
 public:
  explicit VmctlMain(cli::MainContext& context) : context_(context) {}

  kj::MainFunc main() {
    kj::MainBuilder builder(
        context_, kVersion, "Looks inside a running vmserver.",
        "Exit status: 0 done; 1 the server said no or went away, or (doctor) something that "
        "serving needs is missing; 2 bad options, or no server there.");
    add_socket_option(builder);
    builder.addSubCommand("ps", KJ_BIND_METHOD(*this, ps), "list the programs that are served")
        .addSubCommand("map", KJ_BIND_METHOD(*this, map), "show the address space of one program")
        .addSubCommand("stat", KJ_BIND_METHOD(*this, stat), "show what the server has done")
        .addSubCommand("swap", KJ_BIND_METHOD(*this, swap),
                       "show what is in swap, whose it is, and how fast it goes")
        .addSubCommand("limit", KJ_BIND_METHOD(*this, limit),
                       "limit the memory of one program")
        .addSubCommand("trace", KJ_BIND_METHOD(*this, trace), "tell what happens, as it happens")
        .addSubCommand("framebuffer", KJ_BIND_METHOD(*this, framebuffer),
                       "save a framebuffer as a picture")
        .addSubCommand("doctor", KJ_BIND_METHOD(*this, doctor),
                       "check what serving needs and what makes it slow");
    return builder.build();
  }

 private:
  using Validity = kj::MainBuilder::Validity;

  kj::MainFunc ps() {
    kj::MainBuilder builder(context_, kVersion,
                            "Lists the address spaces of the server, a line each: process, parent "
                            "(if forked from a served program), user, personality, map entries, "
                            "size in KiB, resident pages, faults, command.");
    add_socket_option(builder);
    return builder
        .callAfterParsing([this]() -> Validity {
          const auto answer = ControlClient(socket_).spaces();
          print_spaces(std::cout, answer.getSpaces());
          flush_output();
          return true;
        })
        .build();
  }

  kj::MainFunc map() {
    kj::MainBuilder builder(
        context_, kVersion, "Shows the address space of process PID, a line for each map entry.",
        "PRT and MAX are the protection and the most it may be changed to; RES counts resident "
        "pages. FL: S shared, C copy on write, D stack, W wired, N nosync, X left out of core "
        "dumps. TP: df anonymous, sw shared anonymous, vn file, dv device, ho served by the host.");
    add_socket_option(builder);
    return builder
        .expectArg("PID", KJ_BIND_METHOD(*this, set_pid))
        .callAfterParsing([this]() -> Validity {
          const auto answer = ControlClient(socket_).map(pid_);
          print_map(std::cout, pid_, answer.getEntries());
          flush_output();
          return true;
        })
        .build();
  }

  kj::MainFunc stat() {
    kj::MainBuilder builder(context_, kVersion,
                            "Shows the server's counts since it started. Pages are 4 KiB.");
    add_socket_option(builder);
    add_json_option(builder, "Print one JSON object.");
    add_interval_option(builder, "Look twice, so long apart, and show how much happens a second.");
    return builder
        .callAfterParsing([this]() -> Validity {
          ControlClient client(socket_);
          if (interval_.count() != 0) {
            const auto [after, rates] = look_twice(client);
            print_stat(after.getStatistics(), &rates);
          } else {
            print_stat(client.statistics().getStatistics(), nullptr);
          }
          flush_output();
          return true;
        })
        .build();
  }

  kj::MainFunc swap() {
    interval_ = std::chrono::seconds(1);
    kj::MainBuilder builder(
        context_, kVersion,
        "Shows what is in swap, in KiB, what moves a second, and a line for each program: process, "
        "private memory in memory and in swap, its own limit, command.",
        "All of it is zero on a server without --memory: nothing leaves memory there.");
    add_socket_option(builder);
    add_json_option(builder, "Print one JSON object; pages are 4 KiB.");
    add_interval_option(builder, "How long to look for what moves. Default: 1.");
    return builder
        .callAfterParsing([this]() -> Validity {
          ControlClient client(socket_);
          const auto [after, rates] = look_twice(client);
          const auto spaces = client.spaces();
          if (json_)
            std::cout << swap_json(after.getStatistics(), spaces.getSpaces(), rates).dump(2) << '\n';
          else
            print_swap(std::cout, after.getStatistics(), spaces.getSpaces(), rates);
          flush_output();
          return true;
        })
        .build();
  }

  kj::MainFunc limit() {
    kj::MainBuilder builder(
        context_, kVersion,
        "Lets process PID, and what it forks from now on, have at most SIZE of private memory in "
        "memory each; what is more goes to swap.",
        "What cannot leave, wired memory for instance, stays. SIZE \"none\" takes the limit away.");
    add_socket_option(builder);
    return builder.expectArg("PID", KJ_BIND_METHOD(*this, set_pid))
        .expectArg("SIZE",
                   [this](kj::StringPtr text) -> Validity {
                     if (text == "none") return true;
                     const auto bytes = cli::parse_size({text.begin(), text.size()});
                     if (!bytes || *bytes < kPage) {
                       return kj::str("not \"none\" or a size of a page or more: ",
                                      cli::kSizeForm);
                     }
                     limit_pages_ = *bytes / kPage;
                     return true;
                   })
        .callAfterParsing([this]() -> Validity {
          ControlClient(socket_).limit(pid_, limit_pages_);
          return true;
        })
        .build();
  }

  kj::MainFunc trace() {
    kj::MainBuilder builder(context_, kVersion, "Tells what happens in the server, as it happens.");
    add_socket_option(builder);
    return builder
        .addSubCommand("exec", KJ_BIND_METHOD(*this, trace_exec),
                       "executable mappings that come and go")
        .build();
  }

  kj::MainFunc trace_exec() {
    kj::MainBuilder builder(
        context_, kVersion,
        "Prints a line for each executable mapping of a file or device that a program makes, and "
        "for each munmap of something executable, until SIGINT or SIGTERM.",
        "A line: mapped or unmapped, process, address, size in bytes, path. \"lost COUNT\" stands "
        "where vmctl was too slow.");
    add_socket_option(builder);
    add_json_option(builder, "Print a JSON object for each event, one a line.");
    return builder
        .addOptionWithArg(
            {"ready-fd"},
            [this](kj::StringPtr text) -> Validity {
              const char* end = text.cStr() + text.size();
              const auto parsed = std::from_chars(text.cStr(), end, ready_fd_);
              if (parsed.ec != std::errc() || parsed.ptr != end || ready_fd_ < 0)
                return kj::str("not a descriptor number");
              return true;
            },
            "FD",
            "Write \"ready\" and a newline to this descriptor, and close it, once no event is "
            "missed any more.")
        .callAfterParsing([this]() -> Validity {
          ControlClient::capture_end();
          ControlClient(socket_).trace_exec(
              [this](protocol::ExecEvent::Reader event) {
                std::cout << (json_ ? exec_json(event) : exec_text(event));
                flush_output();
              },
              [this] { say_ready(); });
          return true;
        })
        .build();
  }

  kj::MainFunc framebuffer() {
    kj::MainBuilder builder(context_, kVersion,
                            "Saves the framebuffer NAME of a device pager as a PNG picture.");
    add_socket_option(builder);
    return builder
        .addOptionWithArg({'o', "output"}, KJ_BIND_METHOD(*this, set_output), "FILE.png",
                          "Where to write the picture.")
        .expectArg("NAME",
                   [this](kj::StringPtr text) -> Validity {
                     name_ = text.cStr();
                     return true;
                   })
        .callAfterParsing([this]() -> Validity {
          if (output_.empty()) return kj::str("say where to write the picture: -o FILE.png");
          save_framebuffer(socket_, name_, output_);
          return true;
        })
        .build();
  }

  kj::MainFunc doctor() {
    return kj::MainBuilder(
               context_, kVersion,
               "Checks this machine: a line for each finding, \"ok\", \"warn\" (works, but slower "
               "or with less room) or \"fail\" (programs cannot be served), and what to do.",
               "Needs no running server. Run it as the user who runs the server.")
        .callAfterParsing([this]() -> Validity {
          bool failed = false;
          for (const doctor::Finding& finding : doctor::examine()) {
            std::cout << doctor::format(finding) << '\n';
            failed = failed || finding.level == doctor::Level::fail;
          }
          flush_output();
          context_.finish(failed ? cli::kExitFailure : 0);
        })
        .build();
  }

  void add_socket_option(kj::MainBuilder& builder) {
    builder.addOptionWithArg(
        {"socket"},
        [this](kj::StringPtr path) -> Validity {
          socket_ = path.cStr();
          return true;
        },
        "PATH",
        "The server's program socket. Default: $" VM_ENV_SOCKET ", or " VM_DEFAULT_SOCKET ".");
  }

  void add_json_option(kj::MainBuilder& builder, kj::StringPtr help) {
    builder.addOption(
        {"json"},
        [this]() -> Validity {
          json_ = true;
          return true;
        },
        help);
  }

  void add_interval_option(kj::MainBuilder& builder, kj::StringPtr help) {
    builder.addOptionWithArg(
        {"interval"},
        [this](kj::StringPtr text) -> Validity {
          constexpr double kMost = 24 * 60 * 60;
          const char* end = text.cStr() + text.size();
          double seconds = 0;
          const auto parsed = std::from_chars(text.cStr(), end, seconds);
          if (parsed.ec != std::errc() || parsed.ptr != end || !(seconds > 0 && seconds <= kMost))
            return kj::str("not a number of seconds");
          interval_ = std::chrono::duration<double>(seconds);
          return true;
        },
        "SECONDS", help);
  }

  std::pair<ControlClient::Statistics, PagingRates> look_twice(ControlClient& client) {
    using Clock = std::chrono::steady_clock;
    const auto before = client.statistics();
    const Clock::time_point then = Clock::now();
    std::this_thread::sleep_for(interval_);
    auto after = client.statistics();
    const PagingRates rates =
        paging_rates(before.getStatistics(), after.getStatistics(), Clock::now() - then);
    return {kj::mv(after), rates};
  }

  void print_stat(protocol::Statistics::Reader statistics, const PagingRates* rates) const {
    if (json_) {
      auto json = statistics_json(statistics);
      if (rates != nullptr) json["rates"] = rates_json(*rates);
      std::cout << json.dump(2) << '\n';
      return;
    }
    print_statistics(std::cout, statistics);
    if (rates != nullptr) print_rates(std::cout, *rates);
  }

  Validity set_pid(kj::StringPtr text) {
    const char* end = text.cStr() + text.size();
    const auto parsed = std::from_chars(text.cStr(), end, pid_);
    if (parsed.ec != std::errc() || parsed.ptr != end || pid_ <= 0)
      return kj::str("not a process id");
    return true;
  }

  void say_ready() const {
    if (ready_fd_ < 0) return;
    constexpr std::string_view kReady = "ready\n";
    if (::write(ready_fd_, kReady.data(), kReady.size()) < 0)
      throw std::runtime_error(
          describe_errno("write to descriptor " + std::to_string(ready_fd_), errno));
    ::close(ready_fd_);
  }

  Validity set_output(kj::StringPtr path) {
    if (path.size() == 0) return kj::str("empty path");
    output_ = path.cStr();
    return true;
  }

  cli::MainContext& context_;
  std::string socket_ = default_socket();
  std::int32_t pid_ = 0;
  bool json_ = false;
  int ready_fd_ = -1;
  std::chrono::duration<double> interval_{0};
  std::uint64_t limit_pages_ = 0;
  std::string name_;
  std::string output_;
};

}  // namespace
}  // namespace tools

int main(int argc, char** argv) {
  std::unique_ptr<tools::VmctlMain> main;
  return cli::run(
      [&](cli::MainContext& context) {
        main = std::make_unique<tools::VmctlMain>(context);
        return main->main();
      },
      argc, argv);
}
