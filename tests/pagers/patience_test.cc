#include "pagers/common/patience.h"

#include <catch2/catch.hpp>

using namespace std::chrono_literals;
using pager::Patience;

namespace {

/// How many page-ins in a row are left to threads.
unsigned left_to_threads(Patience& patience) {
  unsigned count = 0;
  while (!patience.may_wait()) ++count;
  return count;
}

}  // namespace

TEST_CASE("who is alone waits on the event loop each time") {
  Patience patience;
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(patience.may_wait());
    patience.waited(100us, false);
  }
}

TEST_CASE("after a wait in which others came the next page-ins are left to threads for a while") {
  Patience patience;
  REQUIRE(patience.may_wait());
  patience.waited(100us, true);
  const unsigned left = left_to_threads(patience);
  CHECK(left > 0);
  patience.waited(100us, true);
  CHECK(left_to_threads(patience) == left);
}

TEST_CASE("a long wait leaves more to threads than a short one does") {
  Patience patience;
  patience.waited(100us, true);
  const unsigned after_short = left_to_threads(patience);
  patience.waited(2ms, false);
  CHECK(left_to_threads(patience) > after_short);
}
