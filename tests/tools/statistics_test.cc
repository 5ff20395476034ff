#include <capnp/message.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <sstream>

#include "tools/paging_table.h"
#include "tools/statistics_json.h"

namespace {

protocol::Statistics::Builder example(capnp::MallocMessageBuilder& message) {
  auto statistics = message.initRoot<protocol::Statistics>();
  statistics.setFaults(1);
  statistics.setZeroFills(2);
  statistics.setPageins(3);
  statistics.setPageouts(4);
  auto calls = statistics.initCalls(2);
  calls[0].setName("mmap");
  calls[0].setCount(5);
  calls[1].setName("munmap");
  calls[1].setCount(6);
  statistics.setSpaces(7);
  statistics.setResidentPages(8);
  statistics.setMemoryLimitPages(9);
  statistics.setObjects(10);
  statistics.setForks(11);
  statistics.setFailedFaults(12);
  statistics.setPagers(13);
  statistics.setSessionsRejected(~std::uint64_t{0});
  auto paging = statistics.initPaging();
  paging.setFreePages(14);
  paging.setPrivatePages(15);
  paging.setObjectPages(16);
  paging.setInactivePages(17);
  paging.setLaundryPages(18);
  paging.setCleanPages(19);
  paging.setSwappedPages(20);
  paging.setLostPages(21);
  paging.setWiredPages(22);
  paging.setDeactivations(23);
  paging.setReactivations(24);
  paging.setCopies(25);
  return statistics;
}

}  // namespace

TEST_CASE("the statistics are one JSON object with every field in snake_case", "[stat]") {
  capnp::MallocMessageBuilder message;
  const auto json = tools::statistics_json(example(message).asReader());
  const auto expected = nlohmann::ordered_json::parse(R"({
    "faults": 1, "zero_fills": 2, "pageins": 3, "pageouts": 4,
    "calls": {"mmap": 5, "munmap": 6},
    "spaces": 7, "resident_pages": 8, "memory_limit_pages": 9, "objects": 10, "forks": 11,
    "failed_faults": 12, "pagers": 13, "sessions_rejected": 18446744073709551615,
    "paging": {"free_pages": 14, "private_pages": 15, "object_pages": 16, "inactive_pages": 17,
               "laundry_pages": 18, "clean_pages": 19, "swapped_pages": 20, "lost_pages": 21,
               "wired_pages": 22, "deactivations": 23, "reactivations": 24,
               "copies": 25}})");
  CHECK(json == expected);
}

TEST_CASE("calls is an object in the JSON even when nothing was called", "[stat]") {
  capnp::MallocMessageBuilder message;
  const auto json = tools::statistics_json(message.initRoot<protocol::Statistics>().asReader());
  CHECK(json["calls"].is_object());
  CHECK(json["calls"].empty());
}

TEST_CASE("the table for people has a line for each count", "[stat]") {
  capnp::MallocMessageBuilder message;
  std::ostringstream out;
  tools::print_statistics(out, example(message).asReader());
  CHECK(out.str().find("             1  faults handled\n") != std::string::npos);
  CHECK(out.str().find("             9  pages at most (--memory)\n") != std::string::npos);
  CHECK(out.str().find("             6  calls of munmap\n") != std::string::npos);
}

TEST_CASE("rates are what happened in between, a second") {
  capnp::MallocMessageBuilder earlier;
  capnp::MallocMessageBuilder later;
  const auto before = example(earlier).asReader();
  auto after = example(later);
  after.setPageins(3 + 50);
  after.getPaging().setCopies(25 + 5);
  const tools::PagingRates rates =
      tools::paging_rates(before, after.asReader(), std::chrono::milliseconds(500));
  CHECK(rates.pageins == 100);
  CHECK(rates.copies == 10);
  CHECK(rates.faults == 0);
  std::ostringstream out;
  tools::print_rates(out, rates);
  CHECK(out.str().find("100  pages paged in a second") != std::string::npos);
}
