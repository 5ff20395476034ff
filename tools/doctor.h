// Looks at this machine for what serving programs needs and for what makes it slow, by trying: each
// feature is asked of the kernel, not derived from its version.
#pragma once

#include <vector>

#include "tools/doctor_rules.h"

namespace tools::doctor {

/// Every finding, in the order in which to read them. Changes nothing on the machine.
std::vector<Finding> examine();

}  // namespace tools::doctor
