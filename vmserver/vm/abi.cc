#include "vmserver/vm/abi.h"

#include "protocol/trap_frame.h"

namespace vm {

const Abi* find_abi(std::uint16_t number, FreebsdNumbers release) {
  switch (number) {
    case protocol::kAbiLinux:
      return &linux_abi();
    case protocol::kAbiFreebsd:
      return &freebsd_abi(release);
    default:
      return nullptr;
  }
}

}  // namespace vm
