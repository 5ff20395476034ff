// mmap and munmap, after the seed's mmap(), vm_mmap(), vm_mmap_vnode(), vm_mmap_cdev() and munmap().
#include <limits>
#include <memory>

#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/hooks.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {
namespace {

using hal::FileAttributes;
using hal::FileKind;
using hal::PageIndex;
using hal::Protection;
using hal::Sharing;
using hal::Step;
using hal::VirtualAddress;
using hal::VirtualRange;

constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};
/// What the heap may grow to when RLIMIT_DATA is unlimited; FreeBSD's own default maximum.
constexpr std::uint64_t kDefaultHeap = std::uint64_t{32} << 30;

/// One mmap on its way through its checks.
struct Mapping {
  Mapping(VmSpace& where, Call& what) : space(where), call(what) {}

  VmSpace& space;
  Call& call;
  MapFlags flags;
  Protection protection;
  Protection maximum = Protection::all();
  VirtualAddress address;
  std::uint64_t bytes = 0;        // whole pages
  std::uint64_t page_offset = 0;  // of the byte that was asked for, in its page
  PageIndex page;                 // into the object
  std::shared_ptr<VmObject> object;
  bool host_device = false;
  VirtualRange range;  // where it goes, once that is known
  bool claimed = false;

  bool device() const {
    const FileKind kind = call.file->attributes.kind;
    return kind == FileKind::character_device || kind == FileKind::block_device ||
           space.machine().pagers().claims(call.file->attributes);
  }
};

// fget() and the protection checks of the seed's mmap(): what the descriptor allows.
Error check_descriptor(Mapping& m) {
  if ((m.call.request.flags & protocol::kRequestBadDescriptor) != 0 || !m.call.file) {
    return Error::bad_descriptor;
  }
  const FileAttributes& file = m.call.file->attributes;
  if (file.kind == FileKind::not_a_file) return Error::no_device;
  if (file.posix_shared_memory) m.flags.no_sync = true;
  m.maximum = file.no_execute ? Protection::none() : Protection::execute();
  if (file.readable) {
    m.maximum = m.maximum | Protection::read();
  } else if (m.protection.readable()) {
    return Error::access;
  }
  if (m.flags.shared) {
    if (file.writable) {
      m.maximum = m.maximum | Protection::write();
    } else if (m.protection.writable()) {
      return Error::access;
    }
  } else if (!m.device() || file.writable) {
    m.maximum = m.maximum | Protection::write();
  }
  return Error::none;
}

// vm_mmap_vnode() and vm_mmap_cdev() up to the pager.
Error check_file(Mapping& m) {
  const FileAttributes& file = m.call.file->attributes;
  if (file.kind == FileKind::anonymous_device) {
    m.maximum = Protection::all();
    m.flags.anonymous = true;
    return Error::none;
  }
  if (m.device()) {
    if (!m.maximum.writable() && m.protection.writable()) return Error::access;
    if (m.flags.is_private && m.space.machine().personality().device_mappings_are_shared_only) {
      return Error::invalid;
    }
    m.flags.shared = true;
    return ask_policy(m.space, m.call, file.path, m.protection);
  }
  if (file.kind != FileKind::regular) return Error::invalid;
  if (file.host_refusal != 0) return error_from_errno(file.host_refusal);
  if (const Error error = ask_policy(m.space, m.call, file.path, m.protection);
      error != Error::none) {
    return error;
  }
  if (m.flags.shared && file.immutable_or_append) {
    if (m.protection.writable()) return Error::not_permitted;
    m.maximum = m.maximum.without(Protection::write());
  }
  if (file.links == 0) m.flags.no_sync = true;
  return Error::none;
}

bool over_address_space_limit(VmSpace& space, std::uint64_t bytes, std::uint64_t limit) {
  if (limit == kUnlimited) return false;
  std::uint64_t total = bytes;
  for (const hal::HostMapping& mapping : space.pmap().host_mappings(space.layout().bounds)) {
    total += mapping.range.bytes();
  }
  return total > limit;
}

bool too_many_entries(VmSpace& space) {
  const std::uint64_t most = space.machine().options().max_entries;
  const auto guard = space.lock();
  return most != 0 && space.map().entry_count() >= most;
}

// The seed moves a hint of 0, or one where the heap may grow, behind that. The arena is behind it.
VirtualAddress usable_hint(const Mapping& m) {
  const SpaceLayout& layout = m.space.layout();
  const std::uint64_t limit = m.call.request.limits[1];
  const std::uint64_t heap = limit == kUnlimited ? kDefaultHeap : limit;
  const VirtualAddress heap_end = (layout.data + heap).page_ceil();
  if (m.address == VirtualAddress(0)) return VirtualAddress(0);
  if (m.space.machine().personality().hints_avoid_the_heap && heap_end > layout.data &&
      m.address >= layout.text.page_ceil() && m.address < heap_end) {
    return VirtualAddress(0);
  }
  return m.address.page_ceil();
}

Sharing sharing_of(const Mapping& m) {
  if (!m.object || !m.flags.shared) return Sharing::copy_on_write;
  if (!m.maximum.writable()) return Sharing::shared_read_only;
  // Tracking costs the host's fault-around, so it begins with the right to write (mprotect).
  const bool track = m.object->tracks_stores() && m.protection.writable();
  return track ? Sharing::shared_tracked : Sharing::shared;
}

// The last part: the place is known and, where that was needed, claimed.
void enter(const std::shared_ptr<Mapping>& m) {
  VmSpace& space = m->space;
  hal::Plan& plan = m->call.plan;
  Answer answer;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    const bool inside = map.arena().contains(m->range);
    if (m->flags.fixed) space.remove(m->range, plan);
    if (!m->host_device && !inside && !m->claimed && (m->flags.fixed || !m->object)) {
      plan.add(Step::Kind::replace, m->range);
    }

    auto entry = std::make_unique<MapEntry>();
    entry->range = m->range;
    entry->page = m->page;
    entry->space = &space;
    entry->object = m->host_device ? nullptr : m->object;
    entry->source = m->host_device ? Source::device
                    : m->object    ? Source::object
                                   : Source::anonymous;
    entry->sharing = m->host_device ? Sharing::shared : sharing_of(*m);
    entry->protection = m->protection;
    entry->maximum = m->maximum;
    entry->inherit = m->flags.shared ? hal::Inherit::share : hal::Inherit::copy;
    entry->no_sync = m->flags.no_sync;
    entry->no_core = m->flags.no_core;
    entry->stack = m->flags.stack;
    if (m->host_device) entry->path = m->call.file->attributes.path;

    if (m->host_device) {
      Step& step = plan.add(Step::Kind::map_device, m->range);
      step.page = m->page;
      step.protection = m->protection;
      step.descriptor = static_cast<int>(m->call.argument(4));
    } else if (m->object) {
      Step& step = plan.add(Step::Kind::map_backing, m->range);
      step.backing = m->object->backing();
      step.sharing = entry->sharing;
      step.page = m->page;
    }
    if (!m->host_device && m->protection != Protection::none()) {
      plan.protect(m->range, m->protection);
    }
    if (m->flags.no_core) plan.add(Step::Kind::dump, m->range).enable = false;
    const bool wire = space.wire_future() && m->protection != Protection::none();
    if (wire) plan.add(Step::Kind::lock, m->range);
    map.insert(std::move(entry));
    if (wire) space.set_wired(m->range, true);
    if (!m->object) map.simplify(m->range);
    answer.undo = m->range;
    answer.value = (m->range.start() + m->page_offset).value();
  }
  trace_mapped(space, m->call, m->range, m->protection);
  m->call.finish(answer);
}

// Finds the place, once the object is known. `attempt` counts claims that found something there.
void place(const std::shared_ptr<Mapping>& m, unsigned attempt) {
  VmSpace& space = m->space;
  constexpr unsigned kMostAttempts = 8;
  bool claim = false;
  Error error = Error::none;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    if (m->flags.fixed) {
      m->range = VirtualRange(m->address, m->address + m->bytes);
      if (m->flags.no_replace) {
        space.refresh_host(m->range);
        if (!map.is_free(m->range)) error = Error::exists;
        claim = !map.arena().contains(m->range);
      }
    } else {
      const VirtualAddress hint = attempt == 0 ? usable_hint(*m) : VirtualAddress(0);
      std::optional<VirtualRange> found;
      if (hint != VirtualAddress(0) && !map.placement().contains(hint)) {
        const auto wanted = VirtualRange::of_length(hint, m->bytes);
        if (wanted && space.may_map(*wanted)) {
          space.refresh_host(*wanted);
          if (map.is_free(*wanted)) found = wanted;
        }
      }
      if (!found) found = map.find_space(m->bytes, hint);
      if (found) {
        m->range = *found;
        claim = !map.arena().contains(*found);
      } else {
        error = Error::no_memory;
      }
    }
  }
  if (error != Error::none) return m->call.finish(error);
  if (!claim) return enter(m);
  m->call.plan.add(Step::Kind::claim, m->range);
  m->call.run_plan([m, attempt](Error error) {
    if (error == Error::exists && !m->flags.fixed && attempt < kMostAttempts) {
      // The host put something there since we looked. Look again, with open eyes.
      {
        const auto guard = m->space.lock();
        m->space.refresh_host(m->space.layout().placement);
      }
      place(m, attempt + 1);
      return;
    }
    if (error != Error::none) {
      m->call.finish(error);
      return;
    }
    m->claimed = true;
    enter(m);
  });
}

// From vm_mmap() on, with what MAP_FIXED replaces gone: the file's own checks, then its object.
void back(const std::shared_ptr<Mapping>& m) {
  if (!m->flags.anonymous) {
    if (const Error error = check_file(*m); error != Error::none) {
      m->call.finish(error);
      return;
    }
  }
  ObjectCache& objects = m->space.machine().objects();
  if (m->flags.anonymous) {
    if (const Error error = ask_policy(m->space, m->call, "", m->protection);
        error != Error::none) {
      m->call.finish(error);
      return;
    }
    m->page = PageIndex(0);
    if (m->flags.shared) {
      auto made = objects.make_anonymous(m->bytes);
      if (!made) {
        m->call.finish(made.error());
        return;
      }
      m->object = std::move(made).value();
    }
    place(m, 0);
    return;
  }
  objects.find(*m->call.file, m->device() ? PagerKind::device : PagerKind::file,
               [m](Result<std::shared_ptr<VmObject>> found) {
                 if (!found) {
                   m->call.finish(found.error());
                   return;
                 }
                 m->object = std::move(found).value();
                 m->host_device = m->object->host_memory();
                 place(m, 0);
               });
}

}  // namespace

void mmap(VmSpace& space, Call& call) {
  const Personality& rules = space.machine().personality();
  auto m = std::make_shared<Mapping>(space, call);
  m->flags = call.abi->map_flags(call.argument(3));
  m->protection = Abi::protection(call.argument(2));
  m->address = VirtualAddress(call.argument(0));
  const std::uint64_t length = call.argument(1);
  const int descriptor = static_cast<int>(call.argument(4));
  std::uint64_t position = call.argument(5);

  if (static_cast<std::int64_t>(length) < 0) return call.finish(Error::invalid);
  if (m->flags.anonymous && descriptor != -1 && rules.mmap_anonymous_needs_no_descriptor) {
    return call.finish(Error::invalid);
  }
  if (m->flags.stack) {
    if (descriptor != -1 || !m->protection.readable() || !m->protection.writable()) {
      return call.finish(Error::invalid);
    }
    m->flags.anonymous = true;
    position = 0;
  }

  m->page_offset = VirtualAddress(position).page_offset();
  if (m->page_offset != 0 && !rules.mmap_offset_may_be_unaligned) {
    return call.finish(Error::invalid);
  }
  m->page = PageIndex(position >> hal::kPageShift);
  m->bytes = hal::bytes_from_pages(hal::pages_for_bytes(length + m->page_offset));
  if (static_cast<std::int64_t>(position) < 0 ||
      position > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) - m->bytes) {
    // Neither system has pages there; the host calls it EOVERFLOW, the seed's pager fails.
    if (!m->flags.anonymous) return call.finish(Error::invalid);
    m->page = PageIndex(0);
  }

  if (m->flags.fixed) {
    m->address = m->address - m->page_offset;
    if (!m->address.is_page_aligned()) return call.finish(Error::invalid);
    const auto range = VirtualRange::of_length(m->address, m->bytes);
    if (!range || !space.may_map(*range)) return call.finish(Error::invalid);
  }

  if (m->flags.host_only) {
    const bool file = call.file && !m->flags.anonymous;
    const Error error =
        ask_policy(space, call, file ? call.file->attributes.path : "", m->protection);
    if (error != Error::none) return call.finish(error);
    call.plan.add(Step::Kind::host_call, VirtualRange(m->address, m->address + length));
    Answer answer;
    answer.value_from_host = true;
    return call.finish(answer);
  }

  if (!m->flags.anonymous) {
    if (const Error error = check_descriptor(*m); error != Error::none) return call.finish(error);
  }
  if (too_many_entries(space)) return call.finish(Error::no_memory);

  if (length == 0 && m->page_offset == 0) {
    if (!rules.mmap_of_nothing_succeeds) return call.finish(Error::invalid);
    return call.finish(Error::none, m->address.value());
  }
  if (over_address_space_limit(space, m->bytes, call.request.limits[0])) {
    return call.finish(Error::no_memory);
  }

  if (!m->flags.fixed || m->flags.no_replace) return back(m);
  // MAP_FIXED takes away what was there, whether the rest succeeds or not.
  const VirtualRange range(m->address, m->address + m->bytes);
  settle_stores(space, call, range, true, [m, range] {
    {
      const auto guard = m->space.lock();
      m->space.refresh_host(range);
      m->space.remove(range, m->call.plan);
    }
    back(m);
  });
}

void munmap(VmSpace& space, Call& call) {
  const std::uint64_t length = call.argument(1);
  if (length == 0) return call.finish(Error::invalid);
  const auto range = VirtualRange::covering(VirtualAddress(call.argument(0)), length);
  if (!range || !space.may_map(*range)) return call.finish(Error::invalid);
  bool refused = false;
  {
    const auto guard = space.lock();
    space.refresh_host(*range);
    refused =
        space.machine().personality().munmap_refuses_holes && !space.map().covers(*range);
  }
  if (refused) return call.finish(Error::invalid);
  settle_stores(space, call, *range, true, [&space, &call, range = *range] {
    {
      const auto guard = space.lock();
      trace_unmapped(space, call, range);
      space.remove(range, call.plan);
    }
    call.finish(Error::none);
  });
}

}  // namespace vm::calls
