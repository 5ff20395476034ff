#include "tools/statistics_json.h"

#include <iomanip>
#include <ostream>

namespace tools {

nlohmann::ordered_json statistics_json(protocol::Statistics::Reader statistics) {
  nlohmann::ordered_json json;
  json["faults"] = statistics.getFaults();
  json["zero_fills"] = statistics.getZeroFills();
  json["pageins"] = statistics.getPageins();
  json["pageouts"] = statistics.getPageouts();
  nlohmann::ordered_json calls = nlohmann::ordered_json::object();
  for (const auto call : statistics.getCalls()) calls[call.getName().cStr()] = call.getCount();
  json["calls"] = std::move(calls);
  json["spaces"] = statistics.getSpaces();
  json["resident_pages"] = statistics.getResidentPages();
  json["memory_limit_pages"] = statistics.getMemoryLimitPages();
  json["objects"] = statistics.getObjects();
  json["forks"] = statistics.getForks();
  json["failed_faults"] = statistics.getFailedFaults();
  json["pagers"] = statistics.getPagers();
  json["sessions_rejected"] = statistics.getSessionsRejected();
  const auto paging = statistics.getPaging();
  json["paging"] = {{"free_pages", paging.getFreePages()},
                    {"private_pages", paging.getPrivatePages()},
                    {"object_pages", paging.getObjectPages()},
                    {"inactive_pages", paging.getInactivePages()},
                    {"laundry_pages", paging.getLaundryPages()},
                    {"clean_pages", paging.getCleanPages()},
                    {"swapped_pages", paging.getSwappedPages()},
                    {"lost_pages", paging.getLostPages()},
                    {"wired_pages", paging.getWiredPages()},
                    {"deactivations", paging.getDeactivations()},
                    {"reactivations", paging.getReactivations()},
                    {"copies", paging.getCopies()}};
  return json;
}

void print_statistics(std::ostream& out, protocol::Statistics::Reader statistics) {
  const auto line = [&](std::uint64_t count, const char* what) {
    out << std::setw(14) << count << "  " << what << '\n';
  };
  line(statistics.getFaults(), "faults handled");
  line(statistics.getFailedFaults(), "faults answered with a bus error");
  line(statistics.getZeroFills(), "pages zero-filled");
  line(statistics.getPageins(), "pages paged in");
  line(statistics.getPageouts(), "pages paged out");
  line(statistics.getResidentPages(), "pages resident");
  if (statistics.getMemoryLimitPages() != 0) {
    const auto paging = statistics.getPaging();
    line(statistics.getMemoryLimitPages(), "pages at most (--memory)");
    line(paging.getFreePages(), "pages free");
    line(paging.getPrivatePages(), "pages of private memory, in programs");
    line(paging.getObjectPages(), "pages of files and of shared memory");
    line(paging.getInactivePages(), "pages inactive: out of programs, with no pager");
    line(paging.getLaundryPages(), "pages in the laundry: on their way to the pager");
    line(paging.getCleanPages(), "pages clean: with the pager, and in memory");
    line(paging.getSwappedPages(), "pages in swap alone");
    line(paging.getLostPages(), "pages lost with a pager that died");
    line(paging.getWiredPages(), "pages wired");
    line(paging.getDeactivations(), "pages deactivated");
    line(paging.getReactivations(), "pages reactivated");
    line(paging.getCopies(), "pages copied by the host after forks");
  }
  line(statistics.getSpaces(), "address spaces");
  line(statistics.getObjects(), "objects");
  line(statistics.getForks(), "forks");
  line(statistics.getPagers(), "pagers registered");
  line(statistics.getSessionsRejected(), "sessions ended for what they sent");
  for (const auto call : statistics.getCalls())
    out << std::setw(14) << call.getCount() << "  calls of " << call.getName().cStr() << '\n';
}

}  // namespace tools
