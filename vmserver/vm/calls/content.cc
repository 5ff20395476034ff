// msync and mincore, after the seed's functions and FreeBSD's vm_map_sync(); and what a program
// that ends by itself asks for last.
#include <atomic>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "vmserver/vm/calls/checks.h"
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

using hal::VirtualAddress;
using hal::VirtualRange;

using Runs = std::vector<std::pair<std::shared_ptr<VmObject>, hal::PageRange>>;

// Writes the runs back and calls `done` with the first error.
void write_back(const Runs& runs, bool durable, VmObject::Done done) {
  struct State {
    std::atomic<std::size_t> pending;
    std::atomic<int> error{0};
    VmObject::Done done;
  };
  auto state = std::make_shared<State>();
  state->pending = runs.size() + 1;
  state->done = std::move(done);
  const auto step = [state](Error error) {
    int none = 0;
    if (error != Error::none) state->error.compare_exchange_strong(none, to_errno(error));
    if (--state->pending == 0) state->done(error_from_errno(state->error));
  };
  for (const auto& [object, pages] : runs) {
    object->collect_written();
    object->write_back(pages, durable, step);
  }
  step(Error::none);
}

// What mincore says of the pages of a range. Needs the space's lock.
std::vector<CoreBits> core_of(VmSpace& space, VirtualRange range, bool elsewhere) {
  std::vector<CoreBits> bits(range.pages());
  const auto index = [&](VirtualAddress address) {
    return (address - range.start()) >> hal::kPageShift;
  };
  // Pages of an object that are there, but that this program has not mapped.
  space.map().for_each_in(range, [&](MapEntry& entry) {
    if (!entry.object || !elsewhere) return;
    const VirtualRange part = entry.range.intersect(range);
    entry.object->resident(entry.pages_of(part), [&](hal::PageRange run) {
      const VirtualRange seen = entry.range_of(run);
      for (std::uint64_t i = index(seen.start()); i < index(seen.end()); ++i) {
        bits[i].in_core = true;
        bits[i].referenced_other = true;
        bits[i].modified_other = entry.object->is_written(
            entry.page_at(range.start() + hal::bytes_from_pages(i)));
      }
    });
  });
  space.map().for_each_in(range, [&](MapEntry& entry) {
    space.pmap().mapped_pages(entry.range.intersect(range), [&](hal::PageRun run) {
      const bool modified = entry.tracked() ? run.stored_to : run.written;
      for (std::uint64_t i = index(run.range.start()); i < index(run.range.end()); ++i) {
        bits[i] = {.in_core = true, .referenced = true, .modified = modified};
      }
    });
  });
  return bits;
}

}  // namespace

void msync(VmSpace& space, Call& call) {
  const Personality::Msync& rules = call.rules->msync;
  RangeChecks checks(space, call);
  checks.sync = call.abi->sync_flags(call.argument(2));
  checks.flags_unknown = checks.sync.unknown;
  if (checks.end_call(rules.checks)) return;
  VirtualRange range = *checks.range();

  Runs runs;
  Error error = Error::none;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    if (rules.nothing_is_the_entry && range.empty()) {
      if (const MapEntry* entry = map.find(range.start())) range = entry->range;
    }
    space.refresh_host(range);
    walk(map, range, [&](VirtualRange hole, MapEntry* entry) {
      if (!hole.empty() && rules.holes.error != Error::none) {
        error = rules.holes.error;
        if (!rules.holes.goes_on) return false;
      }
      if (entry != nullptr && entry->object && !entry->object->host_memory() &&
          entry->sharing != hal::Sharing::copy_on_write) {
        runs.emplace_back(entry->object, entry->pages_of(range));
      }
      return true;
    });
    pass_host_parts(space, call, range);
  }
  if (checks.sync.asynchronous) {
    write_back(runs, false, [](Error) {});
    return call.finish(error);
  }
  const bool invalidate = checks.sync.invalidate;
  write_back(runs, true, [&call, error, invalidate, runs](Error failed) {
    if (invalidate && failed == Error::none) {
      for (const auto& [object, pages] : runs) object->invalidate(pages);
    }
    // Whatever the host's reason was: FreeBSD's msync has learned to say EIO for KERN_FAILURE.
    call.finish(failed != Error::none ? Error::io : error);
  });
}

// Answers for at most protocol::kMaxReplyData pages; the program asks again from there, so that a
// call of any length needs bounded memory here.
void mincore(VmSpace& space, Call& call) {
  const Personality::Mincore& rules = call.rules->mincore;
  const std::uint64_t answered = call.argument(3);
  // The seed rounds the address down and the length up, each for itself.
  const std::uint64_t pages = hal::pages_for_bytes(call.argument(1));
  std::optional<VirtualRange> asked;
  if (pages <= ~std::uint64_t{0} >> hal::kPageShift) {
    asked = VirtualRange::of_length(VirtualAddress(call.argument(0)).page_floor(),
                                    hal::bytes_from_pages(pages));
  }
  RangeChecks checks(space, call, asked);
  if (answered == 0) {
    // The whole range is checked with the first part, as the seed refuses it as a whole.
    if (checks.end_call(rules.checks)) return;
  }
  // From here on only the program's own asking again can be wrong.
  if (!checks.range() || answered > checks.range()->pages()) return call.finish(Error::no_memory);
  const VirtualAddress start = checks.range()->start() + hal::bytes_from_pages(answered);
  const std::uint64_t count = std::min<std::uint64_t>(
      checks.range()->pages() - answered, protocol::kMaxReplyData);
  VirtualRange range(start, start + hal::bytes_from_pages(count));
  if (range.empty()) return call.finish(Error::none);
  {
    const auto guard = space.lock();
    space.refresh_host(range);
    walk(space.map(), range, [&](VirtualRange hole, MapEntry*) {
      if (hole.empty()) return true;
      range = VirtualRange(range.start(), rules.tells_before_hole ? hole.start() : range.start());
      return false;
    });
    if (!range.empty()) {
      call.data.reserve(range.pages());
      for (const CoreBits& page : core_of(space, range, rules.looks_elsewhere)) {
        call.data.push_back(call.abi->core_bits(page));
      }
    }
  }
  call.finish(range.empty() ? Error::no_memory : Error::none, range.pages());
}

void exit(VmSpace& space, Call& call) {
  Runs runs;
  {
    const auto guard = space.lock();
    for (MapEntry& entry : space.map()) {
      if (entry.object && entry.tracked()) {
        runs.emplace_back(entry.object, entry.pages_of(entry.range));
      }
    }
  }
  if (runs.empty()) return call.finish(Error::none);
  // A pager that hangs keeps no program from ending: what it stored is kept, and goes later.
  constexpr std::chrono::milliseconds kPatience{1000};
  const auto answer = [&call, answered = std::make_shared<std::atomic<bool>>(false)] {
    if (!answered->exchange(true)) call.finish(Error::none);
  };
  write_back(runs, false, [answer](Error) { answer(); });
  space.machine().later(kPatience, answer);
}

}  // namespace vm::calls
