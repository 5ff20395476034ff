// Linger: who looks for something for a moment before going to sleep, and when that is left out.
#include "protocol/linger.h"

#include <catch2/catch.hpp>

namespace {

constexpr std::int64_t kMost = 50;  // microseconds

/// Time passes with each yield.
struct FakeHost {
  static inline std::int64_t now = 0;
  static inline int yields = 0;
  static inline int allowed = 2;

  static std::int64_t now_ns() { return now; }
  static void yield() {
    ++yields;
    now += 1000;
  }
  static int processors() { return allowed; }
};

struct Fixture {
  protocol::BasicLinger<FakeHost> linger{kMost};
  int looks = 0;

  Fixture() {
    FakeHost::yields = 0;
    FakeHost::allowed = 2;
  }
  /// Finds it with so many looks; 0: never.
  bool look(int found_after) {
    looks = 0;
    return linger.look([&] { return ++looks == found_after; });
  }
};

}  // namespace

TEST_CASE("what comes soon is found without sleeping, and the processor offered meanwhile", "[linger]") {
  Fixture f;
  CHECK(f.look(1));
  CHECK(FakeHost::yields == 0);
  CHECK(f.look(10));
  CHECK(FakeHost::yields == 9);
}

TEST_CASE("who finds nothing looks for as long as was said, and then ever more seldom", "[linger]") {
  Fixture f;
  for (const int left_out : {1, 3, 7, 15, 31, 63, 63}) {
    CHECK_FALSE(f.look(0));
    CHECK(f.looks == kMost + 1);
    for (int i = 0; i < left_out; ++i) {
      CHECK_FALSE(f.look(0));
      CHECK(f.looks == 1);
    }
  }
  // Once it pays again, it is done each time.
  CHECK(f.look(3));
  CHECK(f.look(3));
  CHECK_FALSE(f.look(0));
  CHECK_FALSE(f.look(2));
  CHECK(f.look(2));
}

TEST_CASE("who may run on one processor only looks once", "[linger]") {
  Fixture f;
  FakeHost::allowed = 1;
  CHECK_FALSE(f.linger.can_pay());
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(f.look(2));
    CHECK(f.looks == 1);
  }
  CHECK(f.look(1));
  CHECK(FakeHost::yields == 0);
}
