// What a forked child gets of an entry.
#pragma once

#include "hal/plan.h"
#include "vmserver/vm/map_entry.h"

namespace vm::calls {

/// What the host has to do about an entry when the program forks.
hal::Inherit hosts_inheritance(const MapEntry& entry);

/// Sets an entry's inheritance, as far as that needs nothing else, and adds what the host has to
/// know. Needs the space's lock.
void inherit_as(MapEntry& entry, hal::Inherit inherit, hal::Plan& plan);

}  // namespace vm::calls
