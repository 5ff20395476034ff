// Every call, through the real shim, server and pagers: anonymous memory, attributes, wiring,
// mremap and the heap.
#include <catch2/catch.hpp>

#include "tests/support/server.h"

using support::ServerUnderTest;

namespace {

constexpr uid_t kNobody = 65534;
constexpr std::size_t kPage = 4096;

const std::string kOk = "status 0";

std::string result_of(const std::string& program, const std::string& one) {
  ServerUnderTest server;
  return server.run({program, one}).text();
}

/// The same with a file of so many pages, which holds the pattern.
std::string result_with_file(const std::string& program, const std::string& one,
                             std::size_t pages) {
  ServerUnderTest server;
  return server.run({program, one, server.file("f", support::pattern(pages * kPage))}).text();
}

}  // namespace

TEST_CASE("private anonymous memory is zero and keeps what is stored") {
  CHECK(result_of("anonymous", "private_memory") == kOk);
}

TEST_CASE("shared anonymous memory is zero and keeps what is stored") {
  CHECK(result_of("anonymous", "shared_memory") == kOk);
}

TEST_CASE("/dev/zero maps as anonymous memory") {
  CHECK(result_of("anonymous", "zero_device") == kOk);
}

TEST_CASE("munmap takes exactly its pages and refuses a range with a hole") {
  CHECK(result_of("anonymous", "hole") == kOk);
}

TEST_CASE("MAP_FIXED replaces and MAP_FIXED_NOREPLACE does not") {
  CHECK(result_of("anonymous", "fixed") == kOk);
}

TEST_CASE("MAP_FIXED works where the server places nothing by itself") {
  CHECK(result_of("anonymous", "fixed_elsewhere") == kOk);
}

TEST_CASE("a hint is followed where it is free") { CHECK(result_of("anonymous", "hint") == kOk); }

TEST_CASE("a mapping that grows down is read-write memory") {
  CHECK(result_of("anonymous", "grows_down") == kOk);
}

TEST_CASE("freebsd-7: an empty mapping succeeds") { CHECK(result_of("anonymous", "empty") == kOk); }

TEST_CASE("mmap and munmap refuse what cannot be with the exact errno") {
  CHECK(result_of("anonymous", "refusals") == kOk);
}

TEST_CASE("calls that succeed leave errno alone") {
  CHECK(result_of("anonymous", "errno_stays") == kOk);
}

TEST_CASE("lengths reach to the end of the last page") {
  CHECK(result_of("anonymous", "odd_lengths") == kOk);
}

TEST_CASE("thousands of mappings live side by side") {
  CHECK(result_of("anonymous", "many_mappings") == kOk);
}

TEST_CASE("a mapping may be far larger than memory") {
  CHECK(result_of("anonymous", "sparse") == kOk);
}

TEST_CASE("protection decides which accesses fault") {
  CHECK(result_of("protection", "stores") == kOk);
}

TEST_CASE("memory never touched follows mprotect") {
  CHECK(result_of("protection", "untouched") == kOk);
}

TEST_CASE("memory made executable runs") { CHECK(result_of("protection", "execute") == kOk); }

TEST_CASE("mprotect beyond what the descriptor allows is EACCES") {
  CHECK(result_with_file("protection", "beyond_maximum", 1) == kOk);
}

TEST_CASE("stores after a mapping became writable reach the file") {
  CHECK(result_with_file("protection", "late_right", 1) == kOk);
}

TEST_CASE("mprotect of a range that wraps is EINVAL") {
  CHECK(result_of("protection", "refusals") == kOk);
}

TEST_CASE("Linux's MADV_DONTNEED zeroes private memory") {
  CHECK(result_of("advice", "dontneed_zeroes") == kOk);
}

TEST_CASE("Linux's MADV_DONTNEED keeps shared memory") {
  CHECK(result_of("advice", "dontneed_keeps_shared") == kOk);
}

TEST_CASE("Linux's MADV_DONTNEED brings back a private mapping's file and loses no shared store") {
  CHECK(result_with_file("advice", "dontneed_file", 4) == kOk);
}

TEST_CASE("advice that is a hint changes no data") { CHECK(result_of("advice", "hints") == kOk); }

TEST_CASE("memory freed by MADV_FREE keeps what is stored to it afterwards") {
  CHECK(result_of("advice", "free_then_store") == kOk);
}

TEST_CASE("MADV_POPULATE_WRITE makes pages resident") {
  CHECK(result_of("advice", "populate") == kOk);
}

TEST_CASE("MADV_REMOVE punches a hole into shared memory") {
  CHECK(result_of("advice", "remove_punches") == kOk);
}

TEST_CASE("advice and inheritance that do not exist are EINVAL") {
  CHECK(result_of("advice", "unknown") == kOk);
}

TEST_CASE("a child does not get what minherit or MADV_DONTFORK withholds") {
  CHECK(result_of("advice", "inherit_none") == kOk);
}

TEST_CASE("a child gets zeroes where MADV_WIPEONFORK says so") {
  CHECK(result_of("advice", "inherit_zero") == kOk);
}

TEST_CASE("minherit withholds shared memory, too") {
  CHECK(result_of("advice", "inherit_none_of_shared") == kOk);
}

TEST_CASE("INHERIT_SHARE makes private memory one with the children's") {
  CHECK(result_of("inherit", "share_private") == kOk);
}

TEST_CASE("INHERIT_SHARE is rounded and leaves the rest private") {
  CHECK(result_of("inherit", "share_part") == kOk);
}

TEST_CASE("no store is lost while memory becomes shared") {
  CHECK(result_of("inherit", "share_while_stored_to") == kOk);
}

TEST_CASE("the kernel stores into memory that has become shared") {
  CHECK(result_of("inherit", "share_and_read_into") == kOk);
}

TEST_CASE("INHERIT_COPY of shared memory gives a child its own copy, as of the fork") {
  CHECK(result_of("inherit", "copy_shared") == kOk);
}

TEST_CASE("a child settles in as many steps as it takes") {
  CHECK(result_of("inherit", "copy_many") == kOk);
}

TEST_CASE("INHERIT_COPY of a shared file copies what nobody has touched, too") {
  CHECK(result_with_file("inherit", "copy_file", 64) == kOk);
}

TEST_CASE("freebsd-14: INHERIT_ZERO gives a child zeroes, of shared memory too") {
  ServerUnderTest server({.options = {"--personality", "freebsd-14"}});
  CHECK(server.run({"inherit", "zero"}).text() == kOk);
}

TEST_CASE("mlock makes pages resident and locks them at the host") {
  CHECK(result_of("wiring", "locks") == kOk);
}

TEST_CASE("locked shared memory refuses to be invalidated") {
  CHECK(result_of("wiring", "locked_shared") == kOk);
}

TEST_CASE("mlockall reaches what is mapped and what will be") {
  CHECK(result_of("wiring", "locks_everything") == kOk);
}

TEST_CASE("mlockall reaches nothing of the shim's that is in the way afterwards") {
  ServerUnderTest server({.options = {"--memory", "48M"}});
  CHECK(server.run({"more_memory", "after_mlockall", "96"}).text() == kOk);
  CHECK(server.statistics().failed_faults == 0);
  CHECK(server.statistics().pageouts > 0);
}

TEST_CASE("mlock refuses holes and more than RLIMIT_MEMLOCK") {
  CHECK(result_of("wiring", "lock_errors") == kOk);
}

TEST_CASE("freebsd-7: only root locks memory") {
  ServerUnderTest server({.options = {"--socket-mode", "0666"}});
  support::Command command = server.command({"wiring", "not_permitted"});
  command.user = kNobody;
  CHECK(support::run(command).text() == kOk);
}

TEST_CASE("mincore tells resident pages one by one") {
  CHECK(result_of("wiring", "residence") == kOk);
}

TEST_CASE("mincore tells the resident pages of a file") {
  CHECK(result_with_file("wiring", "residence_of_file", 64) == kOk);
}

TEST_CASE("mremap grows in place into free room") {
  CHECK(result_of("remap", "grow_in_place") == kOk);
}

TEST_CASE("mremap moves what cannot grow in place, if it may") {
  CHECK(result_of("remap", "grow_by_moving") == kOk);
}

TEST_CASE("mremap shrinks") { CHECK(result_of("remap", "shrink") == kOk); }

TEST_CASE("mremap to a fixed place replaces what was there") {
  CHECK(result_of("remap", "to_fixed") == kOk);
}

TEST_CASE("a moved file mapping loses no store") {
  CHECK(result_with_file("remap", "file", 16) == kOk);
}

TEST_CASE("mremap refuses with the exact errno and changes nothing") {
  CHECK(result_of("remap", "refusals") == kOk);
}

TEST_CASE("freebsd-7: sbrk and sstk are EOPNOTSUPP, getpagesize is 4096") {
  CHECK(result_of("remap", "heap") == kOk);
}

TEST_CASE("the break moves as the host moves it") {
  CHECK(result_of("remap", "break_moves") == kOk);
}
