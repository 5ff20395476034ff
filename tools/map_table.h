// Tables of address spaces and of one address space's map, in the manner of FreeBSD's
// procstat(1) -v.
#pragma once

#include <capnp/list.h>

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>

#include "protocol/server.capnp.h"

namespace tools {

/// "rwx" with '-' for what is missing; the bits are those of protocol::Entry.
std::string protection_text(unsigned bits);
/// One letter for each known flag at its own place, '-' where it is not set; flags that have no
/// letter follow by name after a comma.
std::string flags_text(capnp::List<capnp::Text>::Reader flags);
/// procstat's two-letter code for the type of a mapping.
std::string type_text(std::string_view type);
/// `text` on one line: control characters as \ooo.
std::string printable(std::string_view text);

/// PID PPID UID PERSONALITY ENTRIES SIZE RES FAULTS COMMAND; size in KiB, res in pages.
void print_spaces(std::ostream& out, capnp::List<protocol::Space>::Reader spaces);
/// PID START END PRT MAX RES FL TP PATH; res in pages.
void print_map(std::ostream& out, std::int32_t pid, capnp::List<protocol::Entry>::Reader entries);

}  // namespace tools
