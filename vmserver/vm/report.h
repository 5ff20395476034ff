// What the core tells about itself: plain data for tools.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "hal/address.h"
#include "hal/protection.h"
#include "vmserver/vm/exec_trace.h"

namespace vm {

struct SpaceReport {
  std::int32_t pid = 0;     ///< 0 while a forked child has not been heard of yet
  std::int32_t parent = 0;  ///< process that forked it, or 0
  std::uint32_t user_id = 0;
  std::string command;
  std::uint32_t entries = 0;
  std::uint64_t bytes = 0;
  std::uint64_t resident_pages = 0;
  std::uint64_t faults = 0;
  std::string personality;
  // Where memory is limited; pages.
  std::uint64_t memory_pages = 0;  ///< of private memory, as they are counted
  std::uint64_t swapped_pages = 0;
  std::uint64_t limit_pages = 0;  ///< its own limit; 0: none
};

struct EntryReport {
  hal::VirtualRange range;
  std::uint64_t resident_pages = 0;
  hal::Protection protection;
  hal::Protection maximum;
  std::vector<std::string> flags;
  std::string type;  ///< "anonymous", "shared", "file", "device", "gap", "guard", "host"
  std::string path;
  std::uint64_t offset = 0;  ///< bytes
};

/// Where memory is limited; pages. The queues are told in vm/pageout.h.
struct PagingReport {
  std::uint64_t free_pages = 0;
  std::uint64_t private_pages = 0;
  std::uint64_t object_pages = 0;
  std::uint64_t inactive_pages = 0;
  std::uint64_t laundry_pages = 0;
  std::uint64_t clean_pages = 0;
  std::uint64_t swapped_pages = 0;
  std::uint64_t lost_pages = 0;
  std::uint64_t wired_pages = 0;
  std::uint64_t deactivations = 0;
  std::uint64_t reactivations = 0;
  std::uint64_t copies = 0;
};

/// What came of a new limit.
enum class LimitSet : std::uint8_t {
  done,
  not_served,
  unlimited_server  ///< nothing leaves memory there
};

struct Statistics {
  std::uint64_t faults = 0;
  std::uint64_t zero_fills = 0;
  std::uint64_t pageins = 0;
  std::uint64_t pageouts = 0;
  std::vector<std::pair<std::string, std::uint64_t>> calls;
  std::uint64_t spaces = 0;
  std::uint64_t resident_pages = 0;
  std::uint64_t memory_limit_pages = 0;
  std::uint64_t objects = 0;
  std::uint64_t forks = 0;
  std::uint64_t failed_faults = 0;
  std::uint64_t pagers = 0;  ///< filled in by the RPC side
  std::uint64_t sessions_rejected = 0;
  PagingReport paging;
};

/// The view that tools get. All functions may be called from any thread.
class Inspector {
 public:
  virtual ~Inspector() = default;
  virtual std::vector<SpaceReport> spaces() = 0;
  /// Fills `entries` and returns true, or returns false when `pid` is not served.
  virtual bool map(std::int32_t pid, std::vector<EntryReport>& entries) = 0;
  virtual Statistics statistics() = 0;
  /// The most pages of private memory that `pid` shall have; 0 for no limit.
  virtual LimitSet set_limit(std::int32_t pid, std::uint64_t pages) = 0;
  /// The server ends once the last space has gone. Returns how many there are.
  virtual std::uint32_t drain() = 0;
  /// Where to listen to executable mappings; lives as long as what is inspected.
  virtual ExecTrace& exec_trace() = 0;
};

}  // namespace vm
