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
  if (statistics.getMemoryLimitPages() != 0)
    line(statistics.getMemoryLimitPages(), "pages at most (--memory)");
  line(statistics.getSpaces(), "address spaces");
  line(statistics.getObjects(), "objects");
  line(statistics.getForks(), "forks");
  line(statistics.getPagers(), "pagers registered");
  line(statistics.getSessionsRejected(), "sessions ended for what they sent");
  for (const auto call : statistics.getCalls())
    out << std::setw(14) << call.getCount() << "  calls of " << call.getName().cStr() << '\n';
}

}  // namespace tools
