#include "hal/linux/sealed_memory.h"

#include <cerrno>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace hal {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

SharedDescriptor make_sealed_memory(const char* name, std::size_t bytes) {
  const int made = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (made < 0) fail(std::string("memfd_create for ") + name);
  SharedDescriptor memory(made);
  if (ftruncate(made, static_cast<off_t>(bytes)) != 0 ||
      fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    fail(std::string("ftruncate and seals of ") + name);
  }
  return memory;
}

void* map_sealed_memory(const SharedDescriptor& memory, std::size_t bytes) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) fail("mmap of shared memory");
  return at;
}

}  // namespace hal
