#include "vmserver/vm/calls/mmap_request.h"

#include <limits>

#include "vmserver/vm/calls/checks.h"
#include "vmserver/vm/hooks.h"
#include "vmserver/vm/machine.h"

namespace vm::calls {

using hal::FileAttributes;
using hal::FileKind;
using hal::PageIndex;
using hal::Protection;
using hal::VirtualAddress;
using hal::VirtualRange;

namespace {

constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};
/// What the heap may grow to when RLIMIT_DATA is unlimited; FreeBSD's own default maximum.
constexpr std::uint64_t kDefaultHeap = std::uint64_t{32} << 30;
constexpr std::uint64_t kLowEnd = std::uint64_t{1} << 31;

}  // namespace

MmapRequest::MmapRequest(VmSpace& where, Call& what)
    : space(where),
      call(what),
      rules(what.rules->mmap),
      flags(what.abi->map_flags(what.argument(3))),
      protection_argument_(what.abi->protection(what.argument(2))),
      asked_anonymous_(flags.anonymous),
      length_(what.argument(1)),
      position_(what.argument(5)),
      descriptor_(static_cast<int>(what.argument(4))) {
  protection = protection_argument_.value;
  address = VirtualAddress(call.argument(0));
  std::uint64_t position = position_;
  if (flags.stack && rules.growth == Growth::within) {
    flags.anonymous = true;
    position = 0;
  }
  page_offset = VirtualAddress(position).page_offset();
  bytes = hal::bytes_from_pages(hal::pages_for_bytes(length_ + page_offset));
  if (flags.fixed) address = address - page_offset;
  if (to_a_file()) {
    page = PageIndex(position >> hal::kPageShift);
    if (call.file) {
      maximum = maximum_of_file();
      // A memfd's pages are where they belong, and one with what read and write see.
      if (call.file->attributes.memfd || call.file->attributes.kernel_object)
        flags.host_only = true;
      if (call.file->attributes.kind == FileKind::regular && !claimed_by_pager() &&
          space.machine().is_host_file(call.file->attributes))
        flags.host_only = true;
      if (rules.devices_are_the_hosts && device() && !claimed_by_pager()) flags.host_only = true;
    }
  }
  if (protection_argument_.maximum) {
    maximum = Protection(maximum.bits() & protection_argument_.maximum->bits());
  }
}

bool MmapRequest::end_call(Rules list) {
  const std::optional<Error> error =
      first_that_holds(list, [this](Check check) { return holds(check); });
  if (!error) return false;
  if (*error == Error::none) {
    call.finish(Error::none, (hint() + page_offset).value());
  } else if (*error == kErrorOfHost) {
    call.finish(error_from_errno(call.file->attributes.host_refusal));
  } else {
    call.finish(*error);
  }
  return true;
}

VirtualAddress MmapRequest::hint() const {
  if (flags.fixed || !rules.hints_avoid_the_heap || flags.low) return address;
  const SpaceLayout& layout = space.layout();
  const std::uint64_t limit = call.request.limits[1];
  const std::uint64_t heap = limit == kUnlimited ? kDefaultHeap : limit;
  const VirtualAddress heap_end = (layout.data + heap).page_ceil();
  if (heap_end < layout.data) return address;  // a heap that may fill everything avoids nothing
  const bool in_heap = address >= layout.text.page_ceil() && address < heap_end;
  return address == VirtualAddress(0) || in_heap ? heap_end : address;
}

bool MmapRequest::device() const {
  const FileKind kind = call.file->attributes.kind;
  return kind == FileKind::character_device || kind == FileKind::block_device ||
         claimed_by_pager();
}

bool MmapRequest::claimed_by_pager() const {
  return space.machine().pagers().claims(call.file->attributes);
}

bool MmapRequest::anonymous_device() const {
  return call.file->attributes.kind == FileKind::anonymous_device;
}

void MmapRequest::settle_source() {
  if (!to_a_file()) return;
  const FileAttributes& file = call.file->attributes;
  if (anonymous_device()) {
    if (rules.zero_device_is_unlimited) maximum = Protection::all();
    flags.anonymous = true;
    page = PageIndex(0);
    return;
  }
  if (file.posix_shared_memory || file.links == 0) flags.no_sync = true;
  if (device()) {
    flags.shared = true;
  } else if (flags.shared && file.immutable_or_append) {
    maximum = maximum.without(Protection::write());
  }
}

// What the descriptor and the file system allow, now and later.
Protection MmapRequest::maximum_of_file() const {
  const FileAttributes& file = call.file->attributes;
  Protection result = file.no_execute ? Protection::none() : Protection::execute();
  if (file.readable) result = result | Protection::read();
  const bool stores_stay = !flags.shared && !device();
  if (stores_stay || file.writable) result = result | Protection::write();
  return result;
}

bool MmapRequest::over_address_space_limit() const {
  const std::uint64_t limit = call.request.limits[0];
  if (limit == kUnlimited) return false;
  std::uint64_t total = bytes;
  for (const hal::HostMapping& mapping : space.pmap().host_mappings(space.layout().bounds)) {
    total += mapping.range.bytes();
  }
  return total > limit;
}

bool MmapRequest::holds(Check check) const {
  switch (check) {
    case Check::length_zero:
      return length_ == 0;
    case Check::range_empty:
      return bytes == 0;
    case Check::length_negative:
      return static_cast<std::int64_t>(length_) < 0;
    case Check::length_too_long:
      return bytes < length_;
    case Check::offset_misaligned:
      return VirtualAddress(position_).page_offset() != 0;
    case Check::protection_unknown:
      return protection_argument_.unknown;
    case Check::protection_over_given_maximum:
      return protection_argument_.maximum && !protection_argument_.maximum->allows(protection);
    case Check::flags_unknown:
      return flags.unknown;
    case Check::both_types:
      return flags.shared && flags.is_private;
    case Check::no_type_nor_anonymous:
      return !flags.shared && !flags.is_private && to_a_file();
    case Check::no_type:
      return !flags.shared && !flags.is_private;
    case Check::validated_anonymous:
      return flags.validated && flags.anonymous;
    case Check::exclusive_not_fixed:
      return flags.no_replace && !flags.fixed;
    case Check::guard_with_anything:
      return flags.guard &&
             (protection != Protection::none() || descriptor_ != -1 || position_ != 0 ||
              flags.anonymous || flags.stack || flags.shared || flags.is_private ||
              flags.prefault || flags.no_sync || flags.no_core);
    case Check::anonymous_with_descriptor:
      return asked_anonymous_ && descriptor_ != -1;
    case Check::anonymous_with_offset:
      return asked_anonymous_ && position_ != 0;
    case Check::stack_with_descriptor:
      return flags.stack && descriptor_ != -1;
    case Check::stack_not_read_write:
      return flags.stack && !(protection.readable() && protection.writable());
    case Check::stack_within_guard:
      return flags.stack && bytes <= hal::bytes_from_pages(rules.stack_guard_pages);
    case Check::stack_of_file:
      return flags.stack && to_a_file();
    case Check::bad_alignment:
      return flags.bad_alignment;
    case Check::fixed_remainder:
      return flags.fixed && !address.is_page_aligned();
    case Check::fixed_misaligned:
      return flags.fixed && !VirtualAddress(call.argument(0)).is_page_aligned();
    case Check::fixed_outside: {
      if (!flags.fixed) return false;
      const auto wanted = VirtualRange::of_length(address, bytes);
      return !wanted || !space.may_map(*wanted);
    }
    case Check::fixed_at_page_zero:
      return flags.fixed && address < VirtualAddress(hal::kPageSize);
    case Check::fixed_over_2g:
      return flags.fixed && flags.low && address.value() + bytes > kLowEnd;
    case Check::policy_denies: {
      if (flags.guard) return false;
      const bool memory = !to_a_file() || anonymous_device();
      const std::string_view path = memory ? "" : std::string_view(call.file->attributes.path);
      return ask_policy(space, call, path, protection) != Error::none;
    }
    case Check::too_many_entries: {
      const std::uint64_t most = space.machine().options().max_entries;
      const auto guard = space.lock();
      return most != 0 && space.map().managed_entries() >= most;
    }
    case Check::over_address_space:
      return over_address_space_limit();
    default:
      return to_a_file() && holds_of_file(check);
  }
}

bool MmapRequest::holds_of_file(Check check) const {
  if (check == Check::bad_descriptor) {
    return (call.request.flags & protocol::kRequestBadDescriptor) != 0 || !call.file;
  }
  const FileAttributes& file = call.file->attributes;
  switch (check) {
    case Check::flags_unknown_validated:
      return flags.validated && flags.unknown;
    case Check::synchronous:
      return flags.synchronous;
    case Check::not_a_file:
      return file.kind == FileKind::not_a_file && !file.kernel_object;
    case Check::read_not_readable:
      return !file.readable && protection.readable();
    case Check::not_readable:
      return !file.readable;
    case Check::shared_write_not_writable:
      return flags.shared && !file.writable && protection.writable();
    default:
      break;
  }
  if (anonymous_device()) return false;
  switch (check) {
    case Check::offset_negative:
      return static_cast<std::int64_t>(position_) < 0 && file.kind == FileKind::regular;
    case Check::offset_overflows:
      return position_ > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) -
                             bytes;
    case Check::shared_append_only:
      return flags.shared && file.immutable_or_append && file.writable;
    case Check::execute_on_noexec:
      return file.no_execute && protection.executable();
    case Check::not_mappable:
      return file.kind != FileKind::regular && !device() && !file.kernel_object;
    case Check::host_refuses:
      return file.host_refusal != 0 && !device();
    case Check::shared_write_immutable:
      return flags.shared && file.immutable_or_append && protection.writable() && !device();
    case Check::device_write_not_writable:
      return device() && !maximum.writable() && protection.writable();
    case Check::device_private:
      return device() && flags.is_private;
    default:
      return false;
  }
}

}  // namespace vm::calls
