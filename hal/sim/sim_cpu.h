// SimCpu: a program's loads and stores, through its SimPmap.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "hal/sim/sim_pmap.h"

namespace hal {

enum class SimResult {
  done,
  segmentation_fault,  ///< SIGSEGV
  bus_error,           ///< SIGBUS
  stuck                ///< nobody wakes it, and nothing is left that could
};

class SimCpu {
 public:
  /// Told of a missing page, as a server is that reads a userfaultfd.
  using FaultHandler = std::function<void(VirtualAddress page, bool write)>;
  /// Lets whoever else there is go on by one step; false when there is nothing to do. Empty where
  /// other threads do that work: then a touch waits for them.
  using Pump = std::function<bool()>;

  SimCpu(SimPmap& pmap, FaultHandler handler, Pump pump)
      : pmap_(pmap), handler_(std::move(handler)), pump_(std::move(pump)) {}

  /// Any length, across pages. What lies before the page that fails is done.
  SimResult read(VirtualAddress address, std::span<std::byte> bytes);
  SimResult write(VirtualAddress address, std::span<const std::byte> bytes);
  /// Touches each page of the range; writes what is there already.
  SimResult touch(VirtualRange range, bool write);

 private:
  SimResult access(VirtualAddress address, std::span<std::byte> bytes, bool write);
  SimResult within_page(VirtualAddress address, std::span<std::byte> bytes, bool write);
  bool wait(SimWaiter& waiter);

  SimPmap& pmap_;
  const FaultHandler handler_;
  const Pump pump_;
};

}  // namespace hal
