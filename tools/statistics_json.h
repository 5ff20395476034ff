// The server's statistics in the two forms that tools give them out.
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>

#include "protocol/server.capnp.h"

namespace tools {

/// One object: every field of protocol::Statistics in snake_case, `calls` an object from name to
/// count. The form of `vmctl stat --json` and of `vmrun --stats`.
nlohmann::ordered_json statistics_json(protocol::Statistics::Reader statistics);

/// A line each, for people.
void print_statistics(std::ostream& out, protocol::Statistics::Reader statistics);

}  // namespace tools
