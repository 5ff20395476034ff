// What the kernel maps in a program, read from its /proc/PID/maps.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "hal/pmap.h"

namespace hal {

/// One line of /proc/PID/maps (proc(5)); nothing when it is none.
std::optional<HostMapping> parse_maps_line(std::string_view line);

/// The mappings that overlap `within`, by address. `descriptor` is an open /proc/PID/maps, read
/// from its start without moving its offset. Throws std::system_error.
std::vector<HostMapping> read_host_mappings(int descriptor, VirtualRange within);

}  // namespace hal
