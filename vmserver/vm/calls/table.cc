#include "vmserver/vm/calls/table.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

struct TableEntry {
  const char* name;
  void (*function)(VmSpace&, Call&);
};

// In the order of protocol::CallNumber.
constexpr TableEntry kTable[] = {
    {nullptr, nullptr},  // kCallContinue belongs to the session
    {"mmap", mmap},
    {"munmap", munmap},
    {"mremap", mremap},
    {"mprotect", mprotect},
    {"msync", msync},
    {"madvise", madvise},
    {"posix_madvise", posix_madvise},
    {"mincore", mincore},
    {"mlock", mlock},
    {"mlock2", mlock},
    {"munlock", munlock},
    {"mlockall", mlockall},
    {"munlockall", munlockall},
    {"brk", brk},
    {"sbrk", sbrk},
    {"sstk", sstk},
    {"getpagesize", getpagesize},
    {"minherit", minherit},
    {"fork", fork},
    {"exit", exit},
    {"ommap", ommap},
    {"forked", forked},
    {"hand_over", hand_over},
    {"file_read", file_read},
    {"file_change", file_change},
    {"file_changed", file_changed},
    {"locked", locked},
    {"unlock", exit},
    {"notes", notes},
};
static_assert(std::size(kTable) == protocol::kCallCount);

}  // namespace

const char* name(unsigned number) {
  return number < std::size(kTable) ? kTable[number].name : nullptr;
}

bool note(VmSpace& space, const protocol::TrapRequest& request, std::int32_t pid) {
  if (request.call >= protocol::kCallCount || space.machine().options().policy != nullptr) return false;
  ++space.machine().counters().calls[request.call];
  switch (request.call) {
    case protocol::kCallMmap:
      return note_mmap(space, request);
    case protocol::kCallMunmap:
      return note_munmap(space, request, pid);
    case protocol::kCallMprotect:
      return note_mprotect(space, request);
    case protocol::kCallMlock:
      return note_mlock(space, request);
    case protocol::kCallMunlock:
      return note_munlock(space, request);
    case protocol::kCallNotes:
      return true;  // it says only that there are many to be read
    default:
      return false;
  }
}

bool concerns(const protocol::TrapRequest& request, hal::VirtualRange range) {
  const auto overlaps = [&](std::uint64_t start, std::uint64_t bytes) {
    const std::uint64_t end = start + bytes < start ? ~std::uint64_t{0} : start + bytes;
    return start < range.end().value() && range.start().value() < end;
  };
  switch (request.call) {
    case protocol::kCallMlockall:
      return true;
    case protocol::kCallMremap:
      // It may grow where it is.
      return overlaps(request.args[0], std::max(request.args[1], request.args[2])) ||
             overlaps(request.args[4], request.args[2]);
    case protocol::kCallMmap:
    case protocol::kCallOmmap:
    case protocol::kCallMunmap:
    case protocol::kCallMprotect:
    case protocol::kCallMsync:
    case protocol::kCallMadvise:
    case protocol::kCallPosixMadvise:
    case protocol::kCallMincore:
    case protocol::kCallMlock:
    case protocol::kCallMlock2:
    case protocol::kCallMunlock:
    case protocol::kCallMinherit:
    case protocol::kCallHandOver:
      return overlaps(request.args[0], request.args[1]);
    default:
      return false;
  }
}

void dispatch(VmSpace& space, Call& call) {
  const unsigned number = call.request.call;
  if (name(number) == nullptr) {
    call.finish(Error::no_call);
    return;
  }
  ++space.machine().counters().calls[number];
  try {
    kTable[number].function(space, call);
  } catch (const std::exception& error) {
    // Only the checks throw (the host would not tell what it maps, or memory is short): nothing
    // was changed and the call has no answer yet.
    spdlog::error("{}: {}", name(number), error.what());
    call.finish(Error::no_memory);
  }
}

void settle_stores(VmSpace& space, Call& call, hal::VirtualRange range, bool write,
                   std::function<void()> next) {
  std::vector<std::pair<std::shared_ptr<VmObject>, hal::PageRange>> written;
  {
    const auto guard = space.lock();
    space.map().for_each_in(range, [&](MapEntry& entry) {
      if (!entry.object || !entry.tracked()) return;
      const hal::VirtualRange part = entry.range.intersect(range);
      call.plan.protect(part, hal::Protection::none());
      written.emplace_back(entry.object, entry.pages_of(part));
    });
  }
  if (written.empty()) {
    next();
    return;
  }
  call.run_plan([written = std::move(written), write, next = std::move(next)](Error) mutable {
    // If the program could not even make the range inaccessible, the stores it races with are its
    // own loss; what it wrote until now is not.
    auto pending = std::make_shared<std::atomic<std::size_t>>(written.size() + 1);
    const auto step = [pending, next](Error) {
      if (--*pending == 0) next();
    };
    for (const auto& [object, pages] : written) {
      object->collect_written();
      if (write) {
        object->write_back(pages, false, step);
      } else {
        step(Error::none);
      }
    }
    // An object that goes with its mapping is gone before the answer.
    written.clear();
    step(Error::none);
  });
}

void walk(VmMap& map, hal::VirtualRange range,
          const std::function<bool(hal::VirtualRange hole, MapEntry* entry)>& visit) {
  hal::VirtualAddress reached = range.start();
  bool go_on = true;
  map.for_each_in(range, [&](MapEntry& entry) {
    if (!go_on || !entry.present()) return;
    go_on = visit(hal::VirtualRange(reached, std::max(reached, entry.range.start())), &entry);
    reached = entry.range.end();
  });
  if (go_on && reached < range.end()) visit(hal::VirtualRange(reached, range.end()), nullptr);
}

bool pass_host_parts(VmSpace& space, Call& call, hal::VirtualRange range) {
  bool other = false;
  space.map().for_each_in(range, [&](MapEntry& entry) {
    if (entry.source == Source::host) {
      call.plan.add(hal::Step::Kind::host_call, entry.range.intersect(range));
    } else {
      other = true;
    }
  });
  return other;
}

}  // namespace vm::calls
