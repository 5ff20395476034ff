// Memory that two processes share of which neither believes what the other one writes.
#pragma once

#include <cstddef>

#include "hal/host_file.h"

namespace hal {

/// A new memfd of zeroes, sealed so that it stays as large as it is: were it to become smaller, a look at
/// it would be a bus error. `name` is for people. Throws std::system_error with what was tried.
SharedDescriptor make_sealed_memory(const char* name, std::size_t bytes);
/// All of it, to be read and written. Throws the same.
void* map_sealed_memory(const SharedDescriptor& memory, std::size_t bytes);

}  // namespace hal
