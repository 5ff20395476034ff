#include "hal/host_file.h"

#include <unistd.h>

namespace hal {

SharedDescriptor::SharedDescriptor(int fd)
    : fd_(new int(fd), [](const int* held) {
        if (*held >= 0) ::close(*held);
        delete held;
      }) {}

}  // namespace hal
