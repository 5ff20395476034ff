#include "pagers/common/failure.h"

#include <string.h>
#include <sys/sysmacros.h>

namespace pager {
namespace {

std::string name_of(int error) {
  const char* name = ::strerrorname_np(error);
  return name != nullptr ? name : "errno " + std::to_string(error);
}

}  // namespace

Failure::Failure(int error, const std::string& tried)
    : std::runtime_error(tried + ": " + name_of(error)), error_(error) {}

std::string text_of_bytes(std::uint64_t bytes) {
  constexpr std::uint64_t kKiB = 1024;
  const char* const units[] = {" KiB", " MiB", " GiB", " TiB"};
  if (bytes == 0 || bytes % kKiB != 0) return std::to_string(bytes) + " bytes";
  std::size_t unit = 0;
  bytes /= kKiB;
  while (unit + 1 < std::size(units) && bytes % kKiB == 0) {
    bytes /= kKiB;
    ++unit;
  }
  return std::to_string(bytes) + units[unit];
}

std::string text_of_span(std::uint64_t bytes, std::uint64_t offset) {
  return text_of_bytes(bytes) + " at " + (offset == 0 ? "0" : text_of_bytes(offset));
}

std::string text_of_inode(std::uint64_t device, std::uint64_t inode) {
  return "inode " + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + "/" +
         std::to_string(inode);
}

}  // namespace pager
