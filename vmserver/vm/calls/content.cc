// msync and mincore, after the seed's functions and FreeBSD's vm_map_sync(); and what a program
// that ends by itself asks for last.
#include <atomic>
#include <memory>
#include <utility>
#include <vector>

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

}  // namespace

void msync(VmSpace& space, Call& call) {
  auto range = VirtualRange::covering(VirtualAddress(call.argument(0)), call.argument(1));
  const SyncFlags flags = call.abi->sync_flags(call.argument(2));
  if (!range) return call.finish(Error::invalid);
  if (flags.asynchronous && flags.invalidate) return call.finish(Error::invalid);

  Runs runs;
  Error error = Error::none;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    // Length 0 means the whole entry at the address.
    space.refresh_host(range->empty() ? VirtualRange(range->start(), range->start() + 1) : *range);
    MapEntry* first = map.find(range->start());
    if (first != nullptr && range->empty()) range = first->range;
    if (first == nullptr || !map.covers(*range)) {
      error = Error::invalid;
    } else {
      map.for_each_in(*range, [&](MapEntry& entry) {
        if (flags.invalidate && entry.wired) error = Error::busy;
        if (entry.object && !entry.object->host_memory() &&
            entry.sharing != hal::Sharing::copy_on_write) {
          runs.emplace_back(entry.object, entry.pages_of(*range));
        }
      });
    }
    if (error == Error::none) pass_host_parts(space, call, *range);
  }
  if (error != Error::none) {
    call.plan.clear();
    return call.finish(error);
  }
  if (flags.asynchronous) {
    write_back(runs, false, [](Error) {});
    return call.finish(Error::none);
  }
  write_back(runs, true, [&call](Error failed) { call.finish(failed); });
}

// Answers for at most protocol::kMaxReplyData pages; the program asks again from there, so that a
// call of any length needs bounded memory here.
void mincore(VmSpace& space, Call& call) {
  const VirtualAddress first = VirtualAddress(call.argument(0)).page_floor();
  const std::uint64_t pages = hal::pages_for_bytes(call.argument(1));
  const std::uint64_t answered = call.argument(3);
  const auto all = VirtualRange::of_length(first, hal::bytes_from_pages(pages));
  if (pages > (~std::uint64_t{0} >> hal::kPageShift) || !all ||
      all->end() > space.layout().bounds.end() || answered > pages) {
    return call.finish(Error::no_memory);
  }
  const std::uint64_t count =
      std::min<std::uint64_t>(pages - answered, protocol::kMaxReplyData);
  const VirtualAddress start = first + hal::bytes_from_pages(answered);
  const VirtualRange range(start, start + hal::bytes_from_pages(count));

  Error error = Error::none;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    // The whole range is checked with the first part, as the seed refuses it as a whole.
    const VirtualRange checked = answered == 0 ? *all : range;
    space.refresh_host(checked.empty() ? VirtualRange(first, first + 1) : checked);
    if (map.find(start) == nullptr || !map.covers(checked)) {
      if (count != 0 || map.find(first) == nullptr) error = Error::no_memory;
    }
    if (error == Error::none && count != 0) {
      std::vector<CoreBits> bits(count);
      const auto index = [&](VirtualAddress address) {
        return (address - range.start()) >> hal::kPageShift;
      };
      // Pages of an object that are there, but that this program has not mapped.
      map.for_each_in(range, [&](MapEntry& entry) {
        if (!entry.object) return;
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
      space.pmap().mapped_pages(range, [&](hal::PageRun run) {
        for (std::uint64_t i = index(run.range.start()); i < index(run.range.end()); ++i) {
          bits[i] = {.in_core = true, .referenced = true, .modified = run.written};
        }
      });
      call.data.reserve(count);
      for (const CoreBits& page : bits) call.data.push_back(call.abi->core_bits(page));
    }
  }
  call.finish(error, count);
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
  write_back(runs, false, [&call](Error) { call.finish(Error::none); });
}

}  // namespace vm::calls
