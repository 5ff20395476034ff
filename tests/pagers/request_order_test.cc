#include "pagers/common/request_order.h"

#include <kj/debug.h>
#include <catch2/catch.hpp>

#include <map>
#include <vector>

#include "tests/pagers/support.h"

using pager::RequestOrder;
using test::range;
using Kind = RequestOrder::Kind;

namespace {

/// Requests that end when they are told to.
class Requests {
 public:
  explicit Requests(bool page_outs_together) : order_(page_outs_together) {}

  /// Gives a number for it.
  unsigned ask(Kind kind, std::vector<hal::PageRange> pages = {}) {
    const unsigned number = next_++;
    promises_.add(order_.run(kind, std::move(pages), [this, number]() -> kj::Promise<void> {
      auto pair = kj::newPromiseAndFulfiller<void>();
      running_.emplace(number, kj::mv(pair.fulfiller));
      return kj::mv(pair.promise);
    }));
    return number;
  }
  bool is_free(Kind kind, const std::vector<hal::PageRange>& pages) {
    return order_.is_free(kind, pages);
  }
  void end(unsigned number) {
    running_.at(number)->fulfill();
    running_.erase(number);
  }
  void fail(unsigned number) {
    running_.at(number)->reject(KJ_EXCEPTION(FAILED, "failed"));
    running_.erase(number);
  }
  std::vector<unsigned> running() {
    scope_.poll();
    std::vector<unsigned> numbers;
    for (const auto& [number, fulfiller] : running_) numbers.push_back(number);
    return numbers;
  }
  std::vector<unsigned> running_after_end_of(unsigned number) {
    end(number);
    return running();
  }

 private:
  kj::EventLoop loop_;
  kj::WaitScope scope_{loop_};
  std::map<unsigned, kj::Own<kj::PromiseFulfiller<void>>> running_;
  RequestOrder order_;
  kj::Vector<kj::Promise<void>> promises_;
  unsigned next_ = 0;
};

using Numbers = std::vector<unsigned>;

}  // namespace

TEST_CASE("a page-in waits for a page-out of the same page, and for none of other pages") {
  Requests requests(false);
  const unsigned out = requests.ask(Kind::page_out, {range(0, 256)});
  const unsigned beside = requests.ask(Kind::page_in, {range(256, 1)});
  const unsigned same = requests.ask(Kind::page_in, {range(255, 2)});
  CHECK(requests.running() == Numbers{out, beside});
  CHECK(requests.is_free(Kind::page_in, {range(258, 1)}));
  CHECK_FALSE(requests.is_free(Kind::page_in, {range(7, 1)}));
  CHECK(requests.running_after_end_of(beside) == Numbers{out});
  CHECK(requests.running_after_end_of(out) == Numbers{same});
}

TEST_CASE("page-outs of different pages go together only where the store takes that") {
  for (const bool together : {false, true}) {
    Requests requests(together);
    const unsigned first = requests.ask(Kind::page_out, {range(0, 10)});
    const unsigned second = requests.ask(Kind::page_out, {range(10, 10)});
    const unsigned same = requests.ask(Kind::page_out, {range(5, 1)});
    CHECK(requests.running() == (together ? Numbers{first, second} : Numbers{first}));
    CHECK(requests.running_after_end_of(first) ==
          (together ? Numbers{second, same} : Numbers{second}));
  }
}

TEST_CASE("a sync waits for page-outs before it, page-outs behind wait for it, page-ins do not") {
  Requests requests(true);
  const unsigned before = requests.ask(Kind::page_out, {range(0, 1)});
  const unsigned sync = requests.ask(Kind::sync);
  const unsigned behind = requests.ask(Kind::page_out, {range(1, 1)});
  const unsigned in = requests.ask(Kind::page_in, {range(2, 1)});
  CHECK(requests.running() == Numbers{before, in});
  CHECK(requests.running_after_end_of(before) == Numbers{sync, in});
  CHECK(requests.running_after_end_of(sync) == Numbers{behind, in});
}

TEST_CASE("a discard waits for what concerns one of its pages") {
  Requests requests(true);
  const unsigned out = requests.ask(Kind::page_out, {range(0, 4)});
  const unsigned discard = requests.ask(Kind::discard, {range(10, 1), range(3, 1)});
  const unsigned other = requests.ask(Kind::discard, {range(4, 6)});
  const unsigned out_behind = requests.ask(Kind::page_out, {range(10, 1)});
  CHECK(requests.running() == Numbers{out, other});
  CHECK(requests.running_after_end_of(out) == Numbers{discard, other});
  CHECK(requests.running_after_end_of(discard) == Numbers{other, out_behind});
}

TEST_CASE("page-outs of a file in line by the thousand go one after the other") {
  Requests requests(false);
  constexpr unsigned kMany = 5000;
  for (unsigned i = 0; i < kMany; ++i) requests.ask(Kind::page_out, {range(i, 1)});
  const unsigned sync = requests.ask(Kind::sync);
  for (unsigned i = 0; i < kMany; ++i) {
    REQUIRE(requests.running() == Numbers{i});
    requests.end(i);
  }
  CHECK(requests.running() == Numbers{sync});
}

TEST_CASE("what concerns the whole object has it to itself") {
  Requests requests(true);
  const unsigned in = requests.ask(Kind::page_in, {range(0, 1)});
  const unsigned out = requests.ask(Kind::page_out, {range(1, 1)});
  const unsigned whole = requests.ask(Kind::whole);
  const unsigned behind = requests.ask(Kind::page_in, {range(2, 1)});
  CHECK(requests.running() == Numbers{in, out});
  CHECK(requests.running_after_end_of(in) == Numbers{out});
  CHECK(requests.running_after_end_of(out) == Numbers{whole});
  CHECK(requests.running_after_end_of(whole) == Numbers{behind});
}

TEST_CASE(
    "who waits for a request goes on when that fails, and also behind one that waits itself") {
  Requests requests(true);
  const unsigned first = requests.ask(Kind::page_out, {range(0, 1)});
  const unsigned second = requests.ask(Kind::page_out, {range(0, 2)});
  const unsigned third = requests.ask(Kind::page_in, {range(1, 1)});
  CHECK(requests.running() == Numbers{first});
  requests.fail(first);
  CHECK(requests.running() == Numbers{second});
  CHECK(requests.running_after_end_of(second) == Numbers{third});
}
