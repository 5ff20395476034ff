// Report: what was measured, round by round and on both sides, as a table and as JSON.
#pragma once

#include <cstddef>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "bench/mapping.h"

namespace bench {

/// Of an even number of values, the mean of the two in the middle.
double median(std::vector<double> values);

class Report {
 public:
  /// One round's figure, in microseconds a page or a call, as its name says. Measurements stand in
  /// the order they first come.
  void add(const std::string& measurement, Side side, double microseconds);

  /// Medians of both sides, their ratio, and the range of the rounds' own ratios.
  void print(std::ostream& out) const;
  /// The same, with every round's figure.
  nlohmann::ordered_json json() const;

 private:
  struct Measurement {
    std::string name;
    std::map<Side, std::vector<double>> rounds;

    double middle(Side side) const { return median(rounds.at(side)); }
    double ratio() const { return middle(Side::served) / middle(Side::native); }
    std::vector<double> ratios() const;
  };

  std::vector<Measurement> measurements_;
};

}  // namespace bench
