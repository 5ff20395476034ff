// Events of `vmctl trace exec` in the two forms that it gives them out.
#pragma once

#include <string>

#include "protocol/server.capnp.h"

namespace tools {

/// "mapped PID ADDRESS BYTES PATH" and a newline, with control characters of the path as \ooo;
/// before it a line "lost COUNT" when events are missing.
std::string exec_text(protocol::ExecEvent::Reader event);

/// One JSON object on a line, its fields in snake_case.
std::string exec_json(protocol::ExecEvent::Reader event);

}  // namespace tools
