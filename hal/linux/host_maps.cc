#include "hal/linux/host_maps.h"

#include <cerrno>
#include <charconv>
#include <string>
#include <system_error>

#include <unistd.h>

namespace hal {
namespace {

// Takes one number off the front of `text`, and the separator behind it.
bool take_number(std::string_view& text, int base, char separator, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc()) return false;
  const std::size_t used = static_cast<std::size_t>(end - text.data());
  if (used == text.size()) {
    text = {};
    return separator == '\0';
  }
  if (separator != '\0' && text[used] != separator) return false;
  text.remove_prefix(used + (separator != '\0' ? 1 : 0));
  return true;
}

}  // namespace

std::optional<HostMapping> parse_maps_line(std::string_view line) {
  HostMapping mapping;
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  if (!take_number(line, 16, '-', start) || !take_number(line, 16, ' ', end)) return std::nullopt;
  if (line.size() < 5 || line[4] != ' ') return std::nullopt;
  mapping.range = VirtualRange(VirtualAddress(start), VirtualAddress(end));
  if (line[0] == 'r') mapping.protection = mapping.protection | Protection::read();
  if (line[1] == 'w') mapping.protection = mapping.protection | Protection::write();
  if (line[2] == 'x') mapping.protection = mapping.protection | Protection::execute();
  mapping.shared = line[3] == 's';
  line.remove_prefix(5);
  std::uint64_t major = 0;
  std::uint64_t minor = 0;
  if (!take_number(line, 16, ' ', mapping.offset) || !take_number(line, 16, ':', major) ||
      !take_number(line, 16, ' ', minor) || !take_number(line, 10, '\0', mapping.inode)) {
    return std::nullopt;
  }
  mapping.device = (major << 8) | minor;
  const std::size_t path = line.find_first_not_of(' ');
  if (path != std::string_view::npos) mapping.path = std::string(line.substr(path));
  return mapping;
}

std::vector<HostMapping> read_host_mappings(int descriptor, VirtualRange within) {
  std::vector<HostMapping> result;
  std::string text;
  char buffer[16384];
  off_t offset = 0;
  for (bool more = true; more;) {
    const ssize_t got = pread(descriptor, buffer, sizeof(buffer), offset);
    if (got < 0) {
      if (errno == EINTR) continue;
      throw std::system_error(errno, std::generic_category(), "read of a program's /proc maps");
    }
    offset += got;
    more = got != 0;
    text.append(buffer, static_cast<std::size_t>(got));
    std::size_t from = 0;
    for (std::size_t newline = text.find('\n'); newline != std::string::npos;
         newline = text.find('\n', from)) {
      const auto mapping =
          parse_maps_line(std::string_view(text).substr(from, newline - from));
      from = newline + 1;
      if (!mapping) continue;
      if (mapping->range.start() >= within.end()) return result;
      if (mapping->range.overlaps(within)) result.push_back(*mapping);
    }
    text.erase(0, from);
  }
  return result;
}

}  // namespace hal
