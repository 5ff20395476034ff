// Names that programs chose, for log lines.
#pragma once

#include <string>
#include <string_view>

namespace vm {

/// Control characters as \ooo, so that what a program named stays within its line.
inline std::string printable(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      result += c;
      continue;
    }
    result += '\\';
    result += static_cast<char>('0' + (byte >> 6));
    result += static_cast<char>('0' + ((byte >> 3) & 7));
    result += static_cast<char>('0' + (byte & 7));
  }
  return result;
}

}  // namespace vm
