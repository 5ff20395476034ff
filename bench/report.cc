#include "bench/report.h"

#include <algorithm>
#include <iomanip>

namespace bench {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::vector<double> Report::Measurement::ratios() const {
  const std::vector<double>& native = rounds.at(Side::native);
  const std::vector<double>& served = rounds.at(Side::served);
  std::vector<double> result;
  for (std::size_t i = 0; i < native.size(); ++i) result.push_back(served[i] / native[i]);
  return result;
}

void Report::add(const std::string& measurement, Side side, double microseconds) {
  auto found = std::find_if(measurements_.begin(), measurements_.end(),
                            [&](const Measurement& each) { return each.name == measurement; });
  if (found == measurements_.end())
    found = measurements_.insert(found, Measurement{measurement, {}});
  found->rounds[side].push_back(microseconds);
}

void Report::print(std::ostream& out) const {
  out << std::left << std::setw(70) << "median, us" << std::right << std::setw(9) << "native"
      << std::setw(9) << "served" << std::setw(8) << "ratio" << std::setw(18) << "ratio of a round"
      << '\n';
  out << std::fixed;
  for (const Measurement& each : measurements_) {
    const std::vector<double> ratios = each.ratios();
    const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
    out << std::left << std::setw(70) << each.name << std::right << std::setprecision(3)
        << std::setw(9) << each.middle(Side::native) << std::setw(9) << each.middle(Side::served)
        << std::setprecision(2) << std::setw(8) << each.ratio() << std::setw(8) << *least << " to "
        << std::setw(6) << *most << '\n';
  }
}

nlohmann::ordered_json Report::json() const {
  nlohmann::ordered_json result = nlohmann::ordered_json::array();
  for (const Measurement& each : measurements_) {
    result.push_back({{"name", each.name},
                      {"unit", "us"},
                      {"native", each.middle(Side::native)},
                      {"served", each.middle(Side::served)},
                      {"ratio", each.ratio()},
                      {"native_rounds", each.rounds.at(Side::native)},
                      {"served_rounds", each.rounds.at(Side::served)}});
  }
  return result;
}

}  // namespace bench
