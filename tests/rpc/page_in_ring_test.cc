// Page-ins through the ring that a server shares with a pager (protocol/page_in_ring.h), with a
// pager in a thread of the test, whose end of the ring is the test's.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <thread>

#include "protocol/descriptor.h"
#include "protocol/page_in_ring.h"
#include "support.h"
#include "tool_client.h"

using hal::PageIndex;
using hal::PageRange;
using protocol::PageInRing;
using test::kPatience;
using vm::Error;
using vm::PagerKind;

namespace {

template <class Condition>
bool eventually(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

/// What the pager's thread and the test share.
struct Shared {
  std::atomic<PageInRing*> ring{nullptr};
  std::atomic<int> reply_bell{-1};
  std::atomic<int> memory{-1};
  std::atomic<std::uint64_t> object{0};
  std::atomic<int> page_in_calls{0};
  std::atomic<int> discards{0};
  std::atomic<bool> holds_discards{false};
};

void fill(int memory, std::uint64_t page, char with) {
  const std::string content(hal::kPageSize, with);
  if (pwrite(memory, content.data(), content.size(), static_cast<off_t>(page * hal::kPageSize)) !=
      static_cast<ssize_t>(content.size()))
    std::abort();
}

class RingObject final : public protocol::PagedObject::Server {
 public:
  explicit RingObject(Shared& shared) : shared_(shared) {}

  kj::Promise<void> pageIn(PageInContext context) override {
    const auto params = context.getParams();
    for (std::uint64_t i = 0; i < params.getPageCount(); ++i)
      fill(shared_.memory, params.getFirstPage() + i, 'c');
    context.getResults().initStatus();
    ++shared_.page_in_calls;
    return kj::READY_NOW;
  }
  kj::Promise<void> discard(DiscardContext) override {
    ++shared_.discards;
    if (!shared_.holds_discards) return kj::READY_NOW;
    return kj::evalLast([this] { return held(); });
  }

 private:
  kj::Promise<void> held() {
    if (!shared_.holds_discards) return kj::READY_NOW;
    return timer_.afterDelay(1 * kj::MILLISECONDS).then([this] { return held(); });
  }

  Shared& shared_;

 public:
  static thread_local kj::Timer* thread_timer;
  kj::Timer& timer_ = *thread_timer;
};
thread_local kj::Timer* RingObject::thread_timer = nullptr;

class RingPager final : public protocol::Pager::Server {
 public:
  explicit RingPager(Shared& shared) : shared_(shared) {}

  kj::Promise<void> open(OpenContext context) override {
    shared_.object = context.getParams().getAttributes().getObject();
    return protocol::take_descriptor(context.getParams().getMemory())
        .then([this, context](kj::AutoCloseFd memory) mutable {
          shared_.memory = memory.release();
          context.getResults().initStatus();
          context.getResults().setObject(kj::heap<RingObject>(shared_));
        });
  }
  kj::Promise<void> ring(RingContext context) override {
    return protocol::take_descriptor(context.getParams().getReplies())
        .then([this, context](kj::AutoCloseFd bell) mutable {
          shared_.reply_bell = bell.release();
          return protocol::take_descriptor(context.getParams().getMemory());
        })
        .then([this](kj::AutoCloseFd file) {
          void* const at = mmap(nullptr, sizeof(PageInRing), PROT_READ | PROT_WRITE, MAP_SHARED,
                                file, 0);
          KJ_REQUIRE(at != MAP_FAILED);
          // As a pager that would do harm: it stays as large as it is.
          KJ_REQUIRE(ftruncate(file, 0) != 0 && errno == EPERM);
          shared_.ring = static_cast<PageInRing*>(at);
        });
  }

 private:
  Shared& shared_;
};

/// The pager, registered when this returns, until it is destroyed.
class RingPagerThread {
 public:
  explicit RingPagerThread(test::Server& server) {
    std::promise<void> registered;
    auto ready = registered.get_future();
    thread_ = std::thread([&server, &registered, this] {
      test::ToolClient client(server.rpc_socket());
      RingObject::thread_timer = &client.io().provider->getTimer();
      auto request = client.server().registerPagerRequest();
      request.setKind(protocol::Kind::FILE);
      request.setName("with a ring");
      request.setPager(kj::heap<RingPager>(shared));
      auto registration = client.wait(request.send());
      auto end = kj::newPromiseAndCrossThreadFulfiller<void>();
      end_ = kj::mv(end.fulfiller);
      registered.set_value();
      client.wait(kj::mv(end.promise));
    });
    REQUIRE(ready.wait_for(kPatience) == std::future_status::ready);
  }
  ~RingPagerThread() {
    end();
    if (shared.ring != nullptr) munmap(shared.ring, sizeof(PageInRing));
    if (shared.reply_bell >= 0) close(shared.reply_bell);
    if (shared.memory >= 0) close(shared.memory);
  }
  void end() {
    if (!thread_.joinable()) return;
    end_->fulfill();
    thread_.join();
  }

  Shared shared;

 private:
  std::thread thread_;
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> end_;
};

struct Fixture {
  test::Server server;
  std::string path = make_file();
  std::unique_ptr<RingPagerThread> pager = std::make_unique<RingPagerThread>(server);
  test::Object object = std::move(server.open(PagerKind::file, path, O_RDWR)).value();
  std::uint64_t next_page = 0;
  std::optional<protocol::RingReader<PageInRing::Request>> requests;
  std::optional<protocol::RingWriter<PageInRing::Reply>> replies;

  ~Fixture() { object.pager.reset(); }

  Shared& shared() { return pager->shared; }
  std::string make_file() {
    const std::string name = server.directory() / "file";
    test::write_file(name, test::pattern(1024 * hal::kPageSize));
    return name;
  }

  struct Asked {
    std::unique_ptr<test::Transfer> transfer;
    PageInRing::Request request{};
  };

  /// Asks for one page after the other until the ring is asked: until then it has not been agreed on.
  Asked ask_the_ring() {
    REQUIRE(eventually([&] { return shared().ring != nullptr; }));
    if (!requests) {
      requests.emplace(shared().ring.load()->requests);
      replies.emplace(shared().ring.load()->replies);
    }
    for (;;) {
      Asked asked;
      const PageRange page(PageIndex(next_page++), 1);
      REQUIRE(next_page < 1000);
      asked.transfer = std::make_unique<test::Transfer>(vm::Transfer::Kind::page_in, page);
      object.pager->submit(*asked.transfer);
      bool in_ring = false;
      REQUIRE(eventually([&] {
        in_ring = requests->read(asked.request);
        return in_ring || asked.transfer->ended();
      }));
      if (!in_ring) {
        CHECK(asked.transfer->wait() == Error::none);
        continue;
      }
      CHECK(asked.request.object == shared().object);
      CHECK(asked.request.first_page == page.first().value());
      CHECK(asked.request.page_count == 1);
      return asked;
    }
  }
  void reply(std::uint32_t tag, PageInRing::Outcome outcome) {
    if (replies->write({tag, outcome})) eventfd_write(shared().reply_bell, 1);
  }
  std::string content(std::uint64_t page) {
    return object.read(page * hal::kPageSize, hal::kPageSize);
  }
};

}  // namespace

TEST_CASE("a page-in goes to the ring, and the reply ends it", "[ring]") {
  Fixture f;
  const auto asked = f.ask_the_ring();
  const int calls = f.shared().page_in_calls;
  fill(f.shared().memory, asked.request.first_page, 'r');
  CHECK_FALSE(asked.transfer->ended());
  f.reply(asked.request.tag, PageInRing::Outcome::filled);
  CHECK(asked.transfer->wait() == Error::none);
  CHECK(f.content(asked.request.first_page) == std::string(hal::kPageSize, 'r'));
  CHECK(f.shared().page_in_calls == calls);
}

TEST_CASE("what was not filled through the ring is asked for with a call", "[ring]") {
  Fixture f;
  const auto asked = f.ask_the_ring();
  const int calls = f.shared().page_in_calls;
  f.reply(asked.request.tag, PageInRing::Outcome::not_filled);
  CHECK(asked.transfer->wait() == Error::none);
  CHECK(f.content(asked.request.first_page) == std::string(hal::kPageSize, 'c'));
  CHECK(f.shared().page_in_calls == calls + 1);
}

TEST_CASE("no page-in overtakes what was said of the object before it", "[ring]") {
  Fixture f;
  const auto first = f.ask_the_ring();
  f.reply(first.request.tag, PageInRing::Outcome::filled);
  CHECK(first.transfer->wait() == Error::none);
  f.shared().holds_discards = true;
  f.object.pager->discard({PageRange(PageIndex(1000), 1)});
  // The discard has no answer yet: these come as calls, behind it.
  for (std::uint64_t page = 1001; page < 1004; ++page)
    CHECK(f.object.page_in(page, 1) == Error::none);
  CHECK(f.shared().discards == 1);
  PageInRing::Request request;
  CHECK_FALSE(f.requests->read(request));
  f.shared().holds_discards = false;
  const auto again = f.ask_the_ring();
  f.reply(again.request.tag, PageInRing::Outcome::filled);
  CHECK(again.transfer->wait() == Error::none);
}

TEST_CASE("replies to what nobody asked cost the pager its place, and no page-in", "[ring]") {
  Fixture f;
  const auto asked = f.ask_the_ring();
  const auto other = f.ask_the_ring();
  SECTION("a tag that there is not") {
    f.reply(PageInRing::kEntries, PageInRing::Outcome::filled);
  }
  SECTION("a tag that is free") {
    std::uint32_t tag = 0;
    while (tag == asked.request.tag || tag == other.request.tag) ++tag;
    f.reply(tag, PageInRing::Outcome::filled);
  }
  SECTION("replies without end") {
    f.shared().ring.load()->replies.written.store(0x80000000U);
    eventfd_write(f.shared().reply_bell, 1);
  }
  f.server.await_pagers(0);
  const auto next = f.server.start_pager(PAGER_FILE);
  CHECK(asked.transfer->wait() == Error::none);
  CHECK(other.transfer->wait() == Error::none);
  const std::uint64_t page = asked.request.first_page;
  CHECK(f.content(page) == test::read_file(f.path).substr(page * hal::kPageSize, hal::kPageSize));
}

TEST_CASE("page-ins that are in the ring of a pager that goes end at the next one", "[ring]") {
  Fixture f;
  std::vector<Fixture::Asked> asked;
  for (int i = 0; i < 20; ++i) asked.push_back(f.ask_the_ring());
  f.reply(asked[3].request.tag, PageInRing::Outcome::filled);
  f.pager->end();
  f.server.await_pagers(0);
  const auto next = f.server.start_pager(PAGER_FILE);
  for (const auto& one : asked) CHECK(one.transfer->wait() == Error::none);
  const std::string file = test::read_file(f.path);
  for (std::size_t i = 4; i < asked.size(); ++i) {
    const std::uint64_t page = asked[i].request.first_page;
    CHECK(f.content(page) == file.substr(page * hal::kPageSize, hal::kPageSize));
  }
}

TEST_CASE("more page-ins than the ring has room for all end", "[ring]") {
  Fixture f;
  const auto first = f.ask_the_ring();
  std::vector<std::unique_ptr<test::Transfer>> transfers;
  for (std::uint64_t i = 0; i < 2 * PageInRing::kEntries; ++i) {
    transfers.push_back(std::make_unique<test::Transfer>(
        vm::Transfer::Kind::page_in, PageRange(PageIndex(400 + i), 1)));
    f.object.pager->submit(*transfers.back());
  }
  f.reply(first.request.tag, PageInRing::Outcome::filled);
  std::size_t in_ring = 0;
  REQUIRE(eventually([&] {
    for (PageInRing::Request request; f.requests->read(request); ++in_ring)
      f.reply(request.tag, PageInRing::Outcome::filled);
    return std::all_of(transfers.begin(), transfers.end(),
                       [](const auto& transfer) { return transfer->ended(); });
  }));
  CHECK(in_ring >= PageInRing::kEntries - 1);
  for (const auto& transfer : transfers) CHECK(transfer->wait() == Error::none);
}

TEST_CASE("who takes answers ends each Transfer once", "[ring]") {
  test::Server server;
  auto pager = server.start_pager(PAGER_FILE);
  const std::string path = server.directory() / "file";
  constexpr std::uint64_t kPages = 4096;
  const std::string data = test::pattern(kPages * hal::kPageSize);
  test::write_file(path, data);
  auto opened = server.open(PagerKind::file, path, O_RDONLY);
  REQUIRE(opened);
  const test::Object& object = opened.value();
  constexpr unsigned kThreads = 4;
  std::atomic<unsigned> failures{0};
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint64_t page = thread; page < kPages; page += kThreads) {
        test::Transfer transfer(vm::Transfer::Kind::page_in, PageRange(PageIndex(page), 1));
        object.pager->submit(transfer);
        // For a while, or until somebody has taken the last one.
        using Answers = vm::PagerDirectory::Answers;
        for (unsigned look = 0; look < 100; ++look)
          if (server.service().pagers().take_answers() == Answers::none_awaited) break;
        server.service().pagers().leave_answers();
        if (transfer.wait_on_thread() != Error::none) ++failures;
      }
    });
  }
  // In the middle of it the pager is replaced.
  const auto next = server.start_pager(PAGER_FILE);
  pager->kill();
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  CHECK(object.read(0, data.size()) == data);
  opened.value().pager.reset();
}
