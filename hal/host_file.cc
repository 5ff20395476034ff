#include "hal/host_file.h"

#include <sys/stat.h>
#include <unistd.h>

namespace hal {

SharedDescriptor::SharedDescriptor(int fd)
    : fd_(new int(fd), [](const int* held) {
        if (*held >= 0) ::close(*held);
        delete held;
      }) {}

std::uint64_t HostFile::current_bytes() const {
  struct stat status {};
  if (!descriptor || fstat(descriptor.get(), &status) != 0) return attributes.bytes;
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace hal
