// The frame around main(): options by kj::MainBuilder, and one way to end for every program here.
//
//   exit status 0  success, --help, --version
//               1  a failure while running; one line on stderr
//               2  bad options, or something named there that cannot be used; one line on stderr
//   any other      what the program chose with MainContext::finish()
//
// Every line on stderr starts with the program's name. All ways out unwind the stack, so
// destructors run (kj::TopLevelProcessContext would end with quick_exit()).
//
//   int main(int argc, char** argv) {
//     Options options;
//     return cli::run([&](cli::MainContext& context) {
//       return kj::MainBuilder(context, kVersion, "Does a thing.")
//           .addOptionWithArg({"server"}, ..., "PATH", "...")
//           .callAfterParsing([&]() -> kj::MainBuilder::Validity {
//             work(options);  // throws cli::UsageError, std::exception or kj::Exception
//             return true;
//           })
//           .build();
//     }, argc, argv);
//   }
#pragma once

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <kj/exception.h>
#include <kj/main.h>
#include <kj/vector.h>

namespace cli {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

/// What was asked for cannot be done: one line, status 2. The text does not name the program.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class MainContext final : public kj::ProcessContext {
 public:
  explicit MainContext(std::string program_name) : program_name_(std::move(program_name)) {}

  /// Ends the program with this status, from anywhere below cli::run().
  [[noreturn]] void finish(int status) { throw Finished{status}; }

  /// How often -v or --verbose was given.
  int verbosity() const { return verbosity_; }

  kj::StringPtr getProgramName() override { return program_name_.c_str(); }
  KJ_NORETURN(void exit() override) { finish(failed_ ? kExitFailure : 0); }
  void warning(kj::StringPtr message) override { print(message.cStr()); }
  void error(kj::StringPtr message) override {
    failed_ = true;
    print(message.cStr());
  }
  /// kj::MainBuilder reports bad options here, with the program's name in front and a hint in a
  /// second line.
  KJ_NORETURN(void exitError(kj::StringPtr message) override) {
    print(message.cStr());
    finish(kExitUsage);
  }
  KJ_NORETURN(void exitInfo(kj::StringPtr message) override) {
    std::fputs(message.cStr(), stdout);
    if (message.size() == 0 || message[message.size() - 1] != '\n') std::fputc('\n', stdout);
    const bool written = std::fflush(stdout) == 0;
    finish(written ? 0 : kExitFailure);
  }
  void increaseLoggingVerbosity() override { ++verbosity_; }

 private:
  struct Finished {
    int status;
  };
  friend int run(kj::Function<kj::MainFunc(MainContext&)> make_main, int argc, char** argv);

  /// One line, whatever the message has.
  void print(std::string_view message) {
    std::string line(message.substr(0, message.find('\n')));
    // kj::MainBuilder puts the name in front itself, with a subcommand's behind it.
    const bool named =
        line.starts_with(program_name_ + ":") || line.starts_with(program_name_ + " ");
    if (!named) line.insert(0, program_name_ + ": ");
    line += '\n';
    std::fputs(line.c_str(), stderr);
  }

  std::string program_name_;
  int verbosity_ = 0;
  bool failed_ = false;
};

/// Runs the main function that `make_main` builds and gives the exit status for main() to return.
inline int run(kj::Function<kj::MainFunc(MainContext&)> make_main, int argc, char** argv) {
  std::string_view path = argc > 0 ? argv[0] : "program";
  MainContext context{std::string(path.substr(path.rfind('/') + 1))};
  try {
    kj::Vector<kj::StringPtr> arguments;
    for (int i = 1; i < argc; ++i) arguments.add(argv[i]);
    kj::MainFunc main = make_main(context);
    main(context.getProgramName(), arguments.asPtr());
    return context.failed_ ? kExitFailure : 0;
  } catch (const MainContext::Finished& finished) {
    return finished.status;
  } catch (const UsageError& error) {
    context.print(error.what());
    return kExitUsage;
  } catch (const kj::Exception& error) {
    context.print(error.getDescription().cStr());
    return kExitFailure;
  } catch (const std::exception& error) {
    context.print(error.what());
    return kExitFailure;
  }
}

}  // namespace cli
