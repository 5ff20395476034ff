// What a tool that listens to executable mappings is told, and when it is not told any more.
#include <catch2/catch.hpp>
#include <functional>
#include <thread>
#include <vector>

#include "support.h"
#include "tool_client.h"
#include "vmserver/rpc/exec_listener.h"

namespace {

struct Seen {
  std::int32_t pid;
  std::uint64_t lost;
};

class Sink final : public protocol::ExecSink::Server {
 public:
  using Answer = std::function<kj::Promise<void>(protocol::ExecEvent::Reader)>;
  explicit Sink(Answer answer) : answer_(std::move(answer)) {}
  kj::Promise<void> event(EventContext context) override {
    return answer_(context.getParams().getEvent());
  }

 private:
  Answer answer_;
};

class Listener {
 public:
  Listener(test::Server& server, Sink::Answer answer)
      : client(server.rpc_socket()), trace(begin(std::move(answer))) {}

  test::ToolClient client;
  kj::Maybe<protocol::ExecTrace::Client> trace;

  /// Runs the event loop until the condition holds.
  bool run_until(const std::function<bool()>& condition) {
    for (int i = 0; i < 3000 && !condition(); ++i) {
      client.wait(client.io().provider->getTimer().afterDelay(10 * kj::MILLISECONDS));
    }
    return condition();
  }

 private:
  protocol::ExecTrace::Client begin(Sink::Answer answer) {
    auto request = client.control().traceExecRequest();
    request.setSink(kj::heap<Sink>(std::move(answer)));
    return client.wait(request.send()).getTrace();
  }
};

vm::ExecEvent numbered(int number) {
  vm::ExecEvent event;
  event.pid = number;
  event.address = hal::VirtualAddress(0x7000);
  event.bytes = 8192;
  event.path = "/some/file";
  return event;
}

}  // namespace

TEST_CASE("a listener is told every event in order, from any thread", "[exec]") {
  test::Server server;
  std::vector<Seen> seen;
  Listener listener(server, [&](protocol::ExecEvent::Reader event) -> kj::Promise<void> {
    seen.push_back({event.getPid(), event.getLost()});
    CHECK(event.getKind() == protocol::ExecEvent::Kind::MAPPED);
    CHECK(event.getAddress() == 0x7000);
    CHECK(event.getBytes() == 8192);
    CHECK(event.getPath() == "/some/file");
    return kj::READY_NOW;
  });
  vm::ExecTrace& trace = server.inspector().exec_trace();
  std::thread calls([&] {
    for (int i = 0; i < 1000; ++i) {
      trace.tell(numbered(i));
      // In several batches, so that the listener is woken more than once.
      if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  CHECK(listener.run_until([&] { return seen.size() == 1000; }));
  calls.join();
  for (std::size_t i = 0; i < seen.size(); ++i) {
    CHECK(seen[i].pid == static_cast<int>(i));
    CHECK(seen[i].lost == 0);
  }
}

TEST_CASE("a slow listener loses events and is told how many, and nobody waits for it", "[exec]") {
  constexpr int kMany = 3 * static_cast<int>(server::ExecListener::kMostQueued);
  test::Server server;
  std::vector<Seen> seen;
  bool slow = true;
  std::vector<kj::Own<kj::PromiseFulfiller<void>>> unanswered;
  Listener listener(server, [&](protocol::ExecEvent::Reader event) -> kj::Promise<void> {
    seen.push_back({event.getPid(), event.getLost()});
    if (!slow) return kj::READY_NOW;
    auto later = kj::newPromiseAndFulfiller<void>();
    unanswered.push_back(kj::mv(later.fulfiller));
    return kj::mv(later.promise);
  });
  vm::ExecTrace& trace = server.inspector().exec_trace();
  for (int i = 0; i < kMany; ++i) trace.tell(numbered(i));
  CHECK(listener.run_until([&] { return !seen.empty(); }));
  slow = false;
  for (auto& fulfiller : unanswered) fulfiller->fulfill();
  CHECK(listener.run_until([&] { return seen.size() >= server::ExecListener::kMostQueued; }));
  // Until one more event comes there is nothing to carry the count.
  trace.tell(numbered(kMany));
  CHECK(listener.run_until([&] { return !seen.empty() && seen.back().pid == kMany; }));
  std::uint64_t told = 0;
  std::uint64_t lost = 0;
  int next = 0;
  for (const Seen& event : seen) {
    ++told;
    lost += event.lost;
    next += static_cast<int>(event.lost);
    CHECK(event.pid == next++);
  }
  CHECK(lost > 0);
  CHECK(told + lost == kMany + 1);
}

TEST_CASE("dropping the trace ends it, and so does losing the connection", "[exec]") {
  test::Server server;
  vm::ExecTrace& trace = server.inspector().exec_trace();
  const auto nothing = [](protocol::ExecEvent::Reader) -> kj::Promise<void> {
    return kj::READY_NOW;
  };
  {
    Listener listener(server, nothing);
    CHECK(trace.wanted());
    listener.trace = nullptr;
    CHECK(listener.run_until([&] { return !trace.wanted(); }));
  }
  {
    const Listener other(server, nothing);
    CHECK(trace.wanted());
  }
  const auto deadline = std::chrono::steady_clock::now() + test::kPatience;
  while (trace.wanted() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  CHECK_FALSE(trace.wanted());
}

TEST_CASE("a listener that fails is not told any more, and costs a line", "[exec]") {
  test::Server server;
  vm::ExecTrace& trace = server.inspector().exec_trace();
  Listener listener(server, [](protocol::ExecEvent::Reader) -> kj::Promise<void> {
    KJ_FAIL_REQUIRE("this listener throws");
  });
  trace.tell(numbered(1));
  CHECK(listener.run_until([&] { return !trace.wanted(); }));
  CHECK(test::captured_log().find("this listener throws") != std::string::npos);
  trace.tell(numbered(2));
}

TEST_CASE("a trace without a sink is refused", "[exec]") {
  test::Server server;
  test::ToolClient client(server.rpc_socket());
  CHECK_THROWS_AS(client.wait(client.control().traceExecRequest().send()), kj::Exception);
  CHECK_FALSE(server.inspector().exec_trace().wanted());
}

TEST_CASE("the server ends with listeners there and events on their way", "[exec]") {
  std::unique_ptr<Listener> listener;
  {
    test::Server server;
    listener = std::make_unique<Listener>(
        server, [](protocol::ExecEvent::Reader) { return kj::Promise<void>(kj::NEVER_DONE); });
    for (int i = 0; i < 200; ++i) server.inspector().exec_trace().tell(numbered(i));
    server.service().stop();
    CHECK_FALSE(server.inspector().exec_trace().wanted());
  }
}
