#include "vmserver/vm/personality.h"

namespace vm {
namespace {

// The seed: vm_mmap.c as of FreeBSD 7.
constexpr Personality kFreebsd7 = {
    .name = "freebsd-7",
    .mmap_of_nothing_succeeds = true,
    .mmap_offset_may_be_unaligned = true,
    .mmap_anonymous_needs_no_descriptor = true,
    .device_mappings_are_shared_only = true,
    .hints_avoid_the_heap = true,
    .munmap_refuses_holes = true,
    .wiring_needs_superuser = true,
    .sbrk_error = Error::not_supported,
    .sstk_error = Error::not_supported,
};

constexpr const Personality* kAll[] = {&kFreebsd7};

}  // namespace

const Personality* find_personality(std::string_view name) {
  for (const Personality* personality : kAll) {
    if (name == personality->name) return personality;
  }
  return nullptr;
}

const char* personality_names() { return kFreebsd7.name; }

}  // namespace vm
