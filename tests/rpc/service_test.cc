#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <system_error>
#include <thread>

#include "support.h"
#include "tool_client.h"

using hal::PageIndex;
using hal::PageRange;
using vm::Error;
using vm::PagerKind;

namespace {

/// A pager that answers what the test wants.
class OddPager final : public protocol::Pager::Server {
 public:
  using Answer = std::function<void(OpenContext&)>;
  explicit OddPager(Answer answer) : answer_(std::move(answer)) {}
  kj::Promise<void> open(OpenContext context) override {
    answer_(context);
    return kj::READY_NOW;
  }

 private:
  Answer answer_;
};

class OddObject final : public protocol::PagedObject::Server {
 public:
  kj::Promise<void> pageIn(PageInContext context) override {
    auto status = context.getResults().initStatus();
    status.setError(-77);
    status.setWhat("line one\nline two");
    return kj::READY_NOW;
  }
  kj::Promise<void> pageOut(PageOutContext) override { KJ_FAIL_REQUIRE("this pager throws"); }
};

/// Runs an OddPager in a thread of its own for as long as it lives.
class OddPagerThread {
 public:
  OddPagerThread(test::Server& server, protocol::Kind kind, OddPager::Answer answer) {
    std::promise<void> registered;
    auto ready = registered.get_future();
    thread_ = std::thread([&server, kind, answer, &registered, this] {
      test::ToolClient client(server.rpc_socket());
      auto request = client.server().registerPagerRequest();
      request.setKind(kind);
      request.setName("odd");
      request.setPager(kj::heap<OddPager>(answer));
      auto registration = client.wait(request.send());
      auto end = kj::newPromiseAndCrossThreadFulfiller<void>();
      end_ = kj::mv(end.fulfiller);
      registered.set_value();
      client.wait(kj::mv(end.promise));
    });
    REQUIRE(ready.wait_for(test::kPatience) == std::future_status::ready);
  }
  ~OddPagerThread() {
    end_->fulfill();
    thread_.join();
  }

 private:
  std::thread thread_;
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> end_;
};

}  // namespace

TEST_CASE("the RPC socket is the user's own, replaces a stale one and goes at the end") {
  test::TemporaryDirectory directory;
  test::FakeInspector inspector;
  const std::string path = directory / "rpc";
  const mode_t before = ::umask(0);
  {
    // A socket that nobody listens on any more.
    const int stale = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    REQUIRE(::bind(stale, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    ::close(stale);

    server::RpcService service(path, inspector);
    service.start();
    struct stat status;
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);

    server::RpcService second(path, inspector);
    try {
      second.start();
      FAIL("two servers at one socket");
    } catch (const std::system_error& error) {
      CHECK(error.code().value() == EADDRINUSE);
      CHECK(std::string(error.what()).find(path) != std::string::npos);
    }
    service.stop();
    CHECK(::stat(path.c_str(), &status) != 0);
  }
  ::umask(before);

  test::write_file(path, "not a socket");
  server::RpcService service(path, inspector);
  CHECK_THROWS_AS(service.start(), std::system_error);
  CHECK(test::read_file(path) == "not a socket");
  server::RpcService nowhere(directory / "none/rpc", inspector);
  CHECK_THROWS_AS(nowhere.start(), std::system_error);
  server::RpcService longer(directory / std::string(200, 'x'), inspector);
  CHECK_THROWS_AS(longer.start(), std::system_error);
}

TEST_CASE("the service's thread is called vm-rpc and takes no signals") {
  test::Server server;
  bool found = false;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (test::read_file(task.path() / "comm") != "vm-rpc\n") continue;
    found = true;
    const std::string status = test::read_file(task.path() / "status");
    const std::size_t at = status.find("SigBlk:");
    REQUIRE(at != std::string::npos);
    const std::uint64_t blocked = std::stoull(status.substr(at + 7), nullptr, 16);
    for (const int number : {SIGTERM, SIGINT, SIGCHLD, SIGUSR1, SIGHUP})
      CHECK((blocked >> (number - 1) & 1) == 1);
  }
  CHECK(found);
}

TEST_CASE("tools see what the inspector says") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  test::ToolClient tool(server.rpc_socket());
  auto control = tool.control();
  auto spaces = tool.wait(control.spacesRequest().send());
  REQUIRE(spaces.getSpaces().size() == 2);
  CHECK(spaces.getSpaces()[0].getCommand() == "first");
  CHECK(spaces.getSpaces()[1].getParent() == 41);
  CHECK(spaces.getSpaces()[1].getPersonality() == "linux");

  auto request = control.mapRequest();
  request.setPid(42);
  auto map = tool.wait(request.send());
  REQUIRE(map.getFound());
  REQUIRE(map.getEntries().size() == 1);
  const auto entry = map.getEntries()[0];
  CHECK(entry.getStart() == 0x1000);
  CHECK(entry.getEnd() == 0x3000);
  CHECK(entry.getProtection() == 1);
  CHECK(entry.getMaximum() == 7);
  CHECK(entry.getFlags()[1] == "wired");
  CHECK(entry.getType() == "file");
  CHECK(entry.getPath() == "/some/file");
  CHECK(entry.getOffset() == 4096);
  auto unknown = control.mapRequest();
  unknown.setPid(1);
  CHECK_FALSE(tool.wait(unknown.send()).getFound());

  auto counts = tool.wait(control.statisticsRequest().send());
  CHECK(counts.getStatistics().getFaults() == 7);
  CHECK(counts.getStatistics().getPagers() == 1);
  REQUIRE(counts.getStatistics().getCalls().size() == 2);
  CHECK(counts.getStatistics().getCalls()[0].getName() == "mmap");

  auto limit = control.limitRequest();
  limit.setPid(42);
  limit.setPages(1000);
  CHECK(tool.wait(limit.send()).getOutcome() == protocol::LimitOutcome::DONE);
  CHECK(server.inspector().limit == 1000);
  auto stranger = control.limitRequest();
  stranger.setPid(1);
  CHECK(tool.wait(stranger.send()).getOutcome() == protocol::LimitOutcome::NOT_SERVED);

  CHECK(tool.wait(control.drainRequest().send()).getSpaces() == 2);
  CHECK_FALSE(tool.wait(control.framebufferRequest().send()).getFound());
}

TEST_CASE("a peer that sends rubbish disturbs nobody else") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  const std::string data = test::pattern(100 * 1024);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    const int fd = test::connect_raw(server.rpc_socket());
    std::string rubbish(1 + random() % 5000, '\0');
    for (char& c : rubbish) c = static_cast<char>(random());
    // Also messages that begin well: a few segments of a plausible size.
    if (round % 3 == 0) rubbish.replace(0, std::min<std::size_t>(8, rubbish.size()), 8, '\0');
    if (round % 3 == 1) rubbish.replace(0, 4, std::string("\0\0\0\0", 4));
    // The server may hang up in the middle of it.
    ::send(fd, rubbish.data(), rubbish.size(), MSG_NOSIGNAL);
    if (round % 2 == 0) ::shutdown(fd, SHUT_WR);
    REQUIRE(opened.value().page_in(0, 25) == Error::none);
    opened.value().memory->discard(PageRange(PageIndex(0), 25));
    ::close(fd);
  }
  CHECK(server.service().registered_pagers() == 1);
  test::ToolClient tool(server.rpc_socket());
  CHECK(tool.wait(tool.control().statisticsRequest().send()).getStatistics().getPagers() == 1);
}

TEST_CASE("a registration that makes no sense is refused") {
  test::Server server;
  test::ToolClient tool(server.rpc_socket());
  auto without = tool.server().registerPagerRequest();
  without.setKind(protocol::Kind::FILE);
  CHECK_THROWS(tool.wait(without.send()));
  auto unknown = tool.server().registerPagerRequest();
  unknown.setKind(static_cast<protocol::Kind>(9));
  unknown.setPager(kj::heap<OddPager>([](auto&) {}));
  CHECK_THROWS(tool.wait(unknown.send()));
  auto claims = tool.server().registerPagerRequest();
  claims.setKind(protocol::Kind::FILE);
  claims.setPager(kj::heap<OddPager>([](auto&) {}));
  claims.initClaims(1);
  CHECK_THROWS(tool.wait(claims.send()));
  CHECK(server.service().registered_pagers() == 0);
}

TEST_CASE("a registration that is dropped ends the service of that pager") {
  test::Server server;
  test::ToolClient tool(server.rpc_socket());
  {
    auto request = tool.server().registerPagerRequest();
    request.setKind(protocol::Kind::DEVICE);
    request.setPager(kj::heap<OddPager>([](auto&) {}));
    request.initClaims(1)[0].setInode(5);
    auto registration = tool.wait(request.send());
    CHECK(server.service().registered_pagers() == 1);
    hal::FileAttributes file;
    file.inode = 5;
    CHECK(server.service().pagers().claims(file));
  }
  tool.wait(tool.control().statisticsRequest().send());
  server.await_pagers(0);
}

TEST_CASE("odd answers of a pager are errors of the Transfer and nothing worse") {
  test::Server server;
  const std::string path = server.directory() / "file";
  test::write_file(path, test::pattern(8192));

  SECTION("an open without an object") {
    OddPagerThread odd(server, protocol::Kind::FILE, [](auto&) {});
    auto opened = server.open(PagerKind::file, path, O_RDONLY);
    REQUIRE(opened);
    CHECK(opened.value().page_in(0, 2) == Error::no_device);
    CHECK(opened.value().sync() == Error::no_device);
    opened.value().pager.reset();
  }
  SECTION("an open that fails") {
    OddPagerThread odd(server, protocol::Kind::FILE, [](auto& context) {
      context.getResults().initStatus().setError(ENOMEM);
      context.getResults().setObject(kj::heap<OddObject>());
    });
    auto opened = server.open(PagerKind::file, path, O_RDONLY);
    REQUIRE(opened);
    CHECK(opened.value().page_in(0, 2) == Error::no_memory);
    CHECK(opened.value().page_out(0, 2) == Error::no_memory);
    opened.value().pager.reset();
  }
  SECTION("an errno that is none, an exception, a missing method") {
    OddPagerThread odd(server, protocol::Kind::FILE, [](auto& context) {
      context.getResults().setObject(kj::heap<OddObject>());
    });
    auto opened = server.open(PagerKind::file, path, O_RDONLY);
    REQUIRE(opened);
    CHECK(opened.value().page_in(0, 2) == Error::io);
    CHECK(opened.value().page_out(0, 2) == Error::io);
    CHECK(opened.value().sync() == Error::io);
    CHECK(test::captured_log().find("line one?line two") != std::string::npos);
    opened.value().pager.reset();
  }
  SECTION("a file pager with memory of its own") {
    OddPagerThread odd(server, protocol::Kind::FILE, [](auto& context) {
      context.getResults().setObject(kj::heap<OddObject>());
      context.getResults().initLayout().setHost();
    });
    auto opened = server.open(PagerKind::file, path, O_RDONLY);
    REQUIRE(opened);
    CHECK(opened.value().page_in(0, 2) == Error::no_device);
    opened.value().pager.reset();
  }
  SECTION("a device's own memory that carries no descriptor") {
    OddPagerThread odd(server, protocol::Kind::DEVICE, [](auto& context) {
      context.getResults().setObject(kj::heap<OddObject>());
      class Nothing final : public protocol::Descriptor::Server {};
      context.getResults().initLayout().setOwn(kj::heap<Nothing>());
    });
    auto opened = server.open(PagerKind::device, path, O_RDONLY);
    REQUIRE_FALSE(opened);
  }
  SECTION("a device of an impossible size") {
    OddPagerThread odd(server, protocol::Kind::DEVICE, [](auto& context) {
      context.getResults().setObject(kj::heap<OddObject>());
      context.getResults().initLayout().setBytes(~std::uint64_t{0});
    });
    auto opened = server.open(PagerKind::device, path, O_RDONLY);
    REQUIRE_FALSE(opened);
  }
  // Whatever it was, a proper pager serves after it.
  server.await_pagers(0);
  const auto pager = server.start_pager(PAGER_FILE);
  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  CHECK(opened.value().page_in(0, 2) == Error::none);
}

TEST_CASE("an object that is given up is given up at its pager") {
  test::Server server;
  struct Watched final : public protocol::PagedObject::Server {
    explicit Watched(std::promise<void>& gone) : gone(gone) {}
    ~Watched() { gone.set_value(); }
    std::promise<void>& gone;
  };
  std::promise<void> gone;
  OddPagerThread odd(server, protocol::Kind::FILE, [&gone](auto& context) {
    context.getResults().setObject(kj::heap<Watched>(gone));
  });
  const std::string path = server.directory() / "file";
  test::write_file(path, "x");
  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  opened.value().pager.reset();
  CHECK(gone.get_future().wait_for(test::kPatience) == std::future_status::ready);
}

TEST_CASE("many threads open, fill and give up objects at once") {
  test::Server server;
  const auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  const std::string data = test::pattern(16 * 4096);
  test::write_file(path, data);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      hal::MemfdFactory factory;
      for (int round = 0; round < 100; ++round) {
        auto memory = factory.create("many", 16);
        std::unique_ptr<vm::PagedObject> object;
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        hal::HostFile file;
        file.descriptor = hal::SharedDescriptor(fd);
        server.service().pagers().open(PagerKind::file, file, data.size(), memory,
                                       [&](vm::Result<vm::OpenedObject> result) {
                                         if (result) object = std::move(result.value().object);
                                       });
        if (!object) {
          ++wrong;
          continue;
        }
        test::Transfer in(vm::Transfer::Kind::page_in, PageRange(PageIndex(0), 16));
        object->submit(in);
        if (in.wait_on_thread() != Error::none) ++wrong;
        std::string got(data.size(), '\0');
        if (::pread(memory->descriptor(), got.data(), got.size(), 0) !=
                static_cast<ssize_t>(got.size()) ||
            got != data)
          ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}
