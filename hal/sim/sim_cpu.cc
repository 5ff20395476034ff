#include "hal/sim/sim_cpu.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace hal {
namespace {

// A page may be taken away again between waking and looking, but not for ever.
constexpr int kMostAttempts = 1000;
constexpr std::chrono::seconds kMostWait{20};

}  // namespace

SimResult SimCpu::read(VirtualAddress address, std::span<std::byte> bytes) {
  return access(address, bytes, false);
}

SimResult SimCpu::write(VirtualAddress address, std::span<const std::byte> bytes) {
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  return access(address, copy, true);
}

SimResult SimCpu::touch(VirtualRange range, bool write) {
  for (VirtualAddress page = range.start(); page < range.end(); page = page + kPageSize) {
    const SimResult result = within_page(page, {}, write);
    if (result != SimResult::done) return result;
  }
  return SimResult::done;
}

SimResult SimCpu::access(VirtualAddress address, std::span<std::byte> bytes, bool write) {
  while (!bytes.empty()) {
    const std::size_t part =
        std::min<std::size_t>(bytes.size(), kPageSize - address.page_offset());
    const SimResult result = within_page(address, bytes.first(part), write);
    if (result != SimResult::done) return result;
    address = address + part;
    bytes = bytes.subspan(part);
  }
  return SimResult::done;
}

SimResult SimCpu::within_page(VirtualAddress address, std::span<std::byte> bytes, bool write) {
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    SimWaiter waiter;
    switch (pmap_.access(address, bytes, write, waiter)) {
      case SimAccess::done:
        return SimResult::done;
      case SimAccess::segmentation_fault:
        return SimResult::segmentation_fault;
      case SimAccess::bus_error:
        return SimResult::bus_error;
      case SimAccess::missing:
        break;
    }
    handler_(waiter.page, write);
    const bool woken = wait(waiter);
    pmap_.forget(waiter);
    if (!woken) return SimResult::stuck;
  }
  return SimResult::stuck;
}

bool SimCpu::wait(SimWaiter& waiter) {
  if (!pump_) return pmap_.wait(waiter, kMostWait);
  while (!pmap_.woken(waiter)) {
    if (!pump_()) return pmap_.woken(waiter);
  }
  return true;
}

}  // namespace hal
