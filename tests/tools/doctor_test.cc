#include <cerrno>

#include <catch2/catch.hpp>

#include "tools/doctor_rules.h"
#include "tools/kernel_interface.h"

using namespace tools::doctor;

TEST_CASE("serving needs Linux 6.8", "[doctor]") {
  CHECK(kernel_version("6.8.0").level == Level::ok);
  CHECK(kernel_version("6.18.44-fc-v769").level == Level::ok);
  CHECK(kernel_version("7.0-rc1").level == Level::ok);
  CHECK(kernel_version("6.1.0-18-amd64").level == Level::fail);
  CHECK(kernel_version("5.19.0").level == Level::fail);
  CHECK(kernel_version("unreadable").level == Level::warn);
  CHECK_FALSE(kernel_version("6.1.0").remedy.empty());
}

TEST_CASE("a device that does not open fails with what to do about it", "[doctor]") {
  CHECK(userfaultfd_device(0).level == Level::ok);
  CHECK(userfaultfd_device(ENOENT).remedy.find("--device /dev/userfaultfd") != std::string::npos);
  CHECK(userfaultfd_device(EACCES).remedy.find("root") != std::string::npos);
  CHECK(userfaultfd_device(EACCES).level == Level::fail);
}

TEST_CASE("every missing feature is named with the kernel that brought it", "[doctor]") {
  const std::uint64_t all = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_EVENT_FORK |
                            UFFD_FEATURE_POISON | UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_MOVE;
  CHECK(userfaultfd_features(all).level == Level::ok);
  const Finding old = userfaultfd_features(all & ~std::uint64_t{UFFD_FEATURE_MOVE});
  CHECK(old.level == Level::fail);
  CHECK(old.finding == "not offered: MOVE (Linux 6.8)");
}

TEST_CASE("the other mechanisms fail with the errno's text", "[doctor]") {
  CHECK(userfaultfd_enable(0).level == Level::ok);
  CHECK(userfaultfd_enable(EPERM).remedy.find("CAP_SYS_PTRACE") != std::string::npos);
  CHECK(pagemap_scan(0).level == Level::ok);
  CHECK(pagemap_scan(ENOTTY).level == Level::fail);
  CHECK(memfd(0).level == Level::ok);
  CHECK(memfd(ENOSYS).level == Level::fail);
}

TEST_CASE("limits that are in the way are warned of with the command that lifts them", "[doctor]") {
  CHECK(max_map_count(65530).level == Level::ok);
  CHECK(max_map_count(1000).remedy == "sysctl vm.max_map_count=262144");
  CHECK(open_files(1024, 4096).level == Level::ok);
  CHECK(open_files(256, 4096).remedy == "ulimit -n 1024");
  CHECK(open_files(256, 256).remedy.find("as root") == 0);
  CHECK(overcommit(0).level == Level::ok);
  CHECK(overcommit(1).level == Level::ok);
  CHECK(overcommit(2).level == Level::warn);
}

TEST_CASE("halt polling matters in a virtual machine only", "[doctor]") {
  CHECK(halt_polling(false, "menu", std::nullopt).level == Level::ok);
  CHECK(halt_polling(true, "haltpoll", 200000).level == Level::ok);
  CHECK(halt_polling(true, "haltpoll", 0).level == Level::warn);
  CHECK(halt_polling(true, "haltpoll", 0).remedy ==
        "echo 200000 > /sys/module/haltpoll/parameters/guest_halt_poll_ns");
  CHECK(halt_polling(true, "menu", 200000).remedy.find("modprobe cpuidle_haltpoll") == 0);
  CHECK(halt_polling(true, "", std::nullopt).level == Level::warn);
}

TEST_CASE("a virtual machine shows in the flags of /proc/cpuinfo", "[doctor]") {
  CHECK(is_virtual_machine("model name\t: x\nflags\t\t: fpu hypervisor lahf_lm\nbugs\t: y\n"));
  CHECK(is_virtual_machine("flags\t\t: fpu hypervisor"));
  CHECK_FALSE(is_virtual_machine("flags\t\t: fpu lahf_lm\nmodel name\t: hypervisor \n"));
  CHECK_FALSE(is_virtual_machine("vmx flags\t: hypervisor \n"));
  CHECK_FALSE(is_virtual_machine(""));
}

TEST_CASE("the chosen mode of a sysfs file stands in brackets", "[doctor]") {
  CHECK(chosen_mode("always [madvise] never\n") == "madvise");
  CHECK(chosen_mode("[always]") == "always");
  CHECK(chosen_mode("always").empty());
  CHECK(chosen_mode("").empty());
}

TEST_CASE("huge pages in shared memory make unfilled pages look filled", "[doctor]") {
  CHECK(shared_huge_pages({}).level == Level::ok);
  CHECK(shared_huge_pages({{"a", "always within_size [advise] never deny force"}}).level ==
        Level::ok);
  const Finding finding = shared_huge_pages(
      {{"a", "[always] never"}, {"b", "always [never]"}, {"c", "[within_size] never"}});
  CHECK(finding.level == Level::fail);
  CHECK(finding.remedy == "echo never > a; echo never > c");
}

TEST_CASE("a finding is one line", "[doctor]") {
  CHECK(format({Level::ok, "memfd", "works", ""}) == "ok    memfd: works");
  CHECK(format({Level::warn, "a", "b", "c"}) == "warn  a: b — c");
  CHECK(format({Level::fail, "a", "b", "c"}) == "fail  a: b — c");
}
