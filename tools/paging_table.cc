#include "tools/paging_table.h"

#include <cmath>
#include <iomanip>
#include <ostream>

#include "tools/map_table.h"

namespace tools {
namespace {

constexpr std::uint64_t kPageKib = 4;

}  // namespace

PagingRates paging_rates(protocol::Statistics::Reader before, protocol::Statistics::Reader after,
                         std::chrono::duration<double> between) {
  const auto rate = [&](std::uint64_t from, std::uint64_t to) {
    return static_cast<double>(to - from) / between.count();
  };
  const auto earlier = before.getPaging();
  const auto later = after.getPaging();
  return {.faults = rate(before.getFaults(), after.getFaults()),
          .zero_fills = rate(before.getZeroFills(), after.getZeroFills()),
          .pageins = rate(before.getPageins(), after.getPageins()),
          .pageouts = rate(before.getPageouts(), after.getPageouts()),
          .deactivations = rate(earlier.getDeactivations(), later.getDeactivations()),
          .reactivations = rate(earlier.getReactivations(), later.getReactivations()),
          .copies = rate(earlier.getCopies(), later.getCopies())};
}

void print_rates(std::ostream& out, const PagingRates& rates) {
  const auto line = [&](double rate, const char* what) {
    out << std::setw(14) << std::llround(rate) << "  " << what << " a second\n";
  };
  line(rates.faults, "faults");
  line(rates.zero_fills, "pages zero-filled");
  line(rates.pageins, "pages paged in");
  line(rates.pageouts, "pages paged out");
  line(rates.deactivations, "pages deactivated");
  line(rates.reactivations, "pages reactivated");
  line(rates.copies, "pages copied by the host after forks");
}

nlohmann::ordered_json rates_json(const PagingRates& rates) {
  return {{"faults", rates.faults},
          {"zero_fills", rates.zero_fills},
          {"pageins", rates.pageins},
          {"pageouts", rates.pageouts},
          {"deactivations", rates.deactivations},
          {"reactivations", rates.reactivations},
          {"copies", rates.copies}};
}

void print_swap(std::ostream& out, protocol::Statistics::Reader statistics,
                capnp::List<protocol::Space>::Reader spaces, const PagingRates& rates) {
  const auto paging = statistics.getPaging();
  const auto line = [&](std::uint64_t pages, const char* what) {
    out << std::setw(14) << pages * kPageKib << "  KiB " << what << '\n';
  };
  line(paging.getSwappedPages(), "in swap alone");
  line(paging.getCleanPages(), "clean: in swap, and in memory");
  line(paging.getLaundryPages(), "in the laundry: on their way to swap");
  line(paging.getInactivePages(), "inactive: next to go there");
  if (paging.getLostPages() != 0) line(paging.getLostPages(), "lost with a pager that died");
  print_rates(out, rates);
  out << '\n'
      << std::setw(7) << "PID" << ' ' << std::setw(12) << "MEMORY" << ' ' << std::setw(12) << "SWAP"
      << ' ' << std::setw(12) << "LIMIT"
      << " COMMAND\n";
  for (const auto space : spaces) {
    out << std::setw(7) << space.getPid() << ' ' << std::setw(12)
        << space.getMemoryPages() * kPageKib << ' ' << std::setw(12)
        << space.getSwappedPages() * kPageKib << ' ' << std::setw(12);
    if (space.getLimitPages() == 0) {
      out << '-';
    } else {
      out << space.getLimitPages() * kPageKib;
    }
    out << ' ' << printable(space.getCommand().cStr()) << '\n';
  }
}

nlohmann::ordered_json swap_json(protocol::Statistics::Reader statistics,
                                 capnp::List<protocol::Space>::Reader spaces,
                                 const PagingRates& rates) {
  const auto paging = statistics.getPaging();
  nlohmann::ordered_json json = {{"swapped_pages", paging.getSwappedPages()},
                                 {"clean_pages", paging.getCleanPages()},
                                 {"laundry_pages", paging.getLaundryPages()},
                                 {"inactive_pages", paging.getInactivePages()},
                                 {"lost_pages", paging.getLostPages()},
                                 {"rates", rates_json(rates)}};
  nlohmann::ordered_json programs = nlohmann::ordered_json::array();
  for (const auto space : spaces) {
    programs.push_back({{"pid", space.getPid()},
                        {"memory_pages", space.getMemoryPages()},
                        {"swapped_pages", space.getSwappedPages()},
                        {"limit_pages", space.getLimitPages()},
                        {"command", space.getCommand().cStr()}});
  }
  json["programs"] = std::move(programs);
  return json;
}

}  // namespace tools
