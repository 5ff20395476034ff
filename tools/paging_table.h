// What leaves memory and comes back: how much of it there is, whose it is, and how fast it goes.
#pragma once

#include <chrono>
#include <iosfwd>

#include <nlohmann/json.hpp>

#include "protocol/server.capnp.h"

namespace tools {

/// Events a second between two looks at the same server.
struct PagingRates {
  double faults = 0;
  double zero_fills = 0;
  double pageins = 0;
  double pageouts = 0;
  double deactivations = 0;
  double reactivations = 0;
  double copies = 0;
};

PagingRates paging_rates(protocol::Statistics::Reader before, protocol::Statistics::Reader after,
                         std::chrono::duration<double> between);

/// A line for each rate, in the form of print_statistics().
void print_rates(std::ostream& out, const PagingRates& rates);
nlohmann::ordered_json rates_json(const PagingRates& rates);

/// What is in swap, a line for each program that memory was counted for, and the rates.
void print_swap(std::ostream& out, protocol::Statistics::Reader statistics,
                capnp::List<protocol::Space>::Reader spaces, const PagingRates& rates);
nlohmann::ordered_json swap_json(protocol::Statistics::Reader statistics,
                                 capnp::List<protocol::Space>::Reader spaces,
                                 const PagingRates& rates);

}  // namespace tools
