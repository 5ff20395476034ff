// Which pages of a memfd are there, asked of the file itself.
#pragma once

#include "hal/address.h"

namespace hal {

enum class Presence { absent, resident };

/// The first run of such pages in `within`, which lies inside the file; an empty one at its end
/// when there is none. What lies behind `within` makes it no slower where `within` is small:
/// SEEK_HOLE alone would walk to the end of the run, 40 ms for a resident GiB. Throws
/// std::system_error.
PageRange first_run(int file, PageRange within, Presence wanted);

}  // namespace hal
