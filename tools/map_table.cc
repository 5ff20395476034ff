#include "tools/map_table.h"

#include <array>
#include <iomanip>
#include <ostream>
#include <utility>

namespace tools {
namespace {

struct FlagLetter {
  std::string_view name;
  char letter;
};
constexpr std::array<FlagLetter, 6> kFlagLetters = {{{"shared", 'S'},
                                                     {"cow", 'C'},
                                                     {"stack", 'D'},
                                                     {"wired", 'W'},
                                                     {"nosync", 'N'},
                                                     {"nocore", 'X'}}};

struct TypeCode {
  std::string_view type;
  std::string_view code;
};
constexpr std::array<TypeCode, 8> kTypeCodes = {{{"anonymous", "df"},
                                                {"shared", "sw"},
                                                {"file", "vn"},
                                                {"device", "dv"},
                                                {"gap", "ga"},
                                                {"guard", "gu"},
                                                {"lease", "le"},
                                                {"host", "ho"}}};

}  // namespace

std::string protection_text(unsigned bits) {
  std::string text = "---";
  if (bits & 1) text[0] = 'r';
  if (bits & 2) text[1] = 'w';
  if (bits & 4) text[2] = 'x';
  return text;
}

std::string flags_text(capnp::List<capnp::Text>::Reader flags) {
  std::string letters(kFlagLetters.size(), '-');
  std::string others;
  for (const auto flag : flags) {
    const std::string_view name(flag.cStr(), flag.size());
    bool known = false;
    for (std::size_t i = 0; i < kFlagLetters.size(); ++i) {
      if (kFlagLetters[i].name != name) continue;
      letters[i] = kFlagLetters[i].letter;
      known = true;
    }
    if (!known) others += "," + printable(name);
  }
  return letters + others;
}

std::string type_text(std::string_view type) {
  for (const auto& known : kTypeCodes)
    if (known.type == type) return std::string(known.code);
  return printable(type);
}

std::string printable(std::string_view text) {
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

void print_spaces(std::ostream& out, capnp::List<protocol::Space>::Reader spaces) {
  out << std::right << std::setw(7) << "PID" << ' ' << std::setw(7) << "PPID" << ' ' << std::setw(6)
      << "UID" << ' ' << std::left << std::setw(12) << "PERSONALITY" << std::right << ' '
      << std::setw(7) << "ENTRIES" << ' ' << std::setw(12) << "SIZE" << ' ' << std::setw(9) << "RES"
      << ' ' << std::setw(9) << "FAULTS"
      << " COMMAND\n";
  for (const auto space : spaces) {
    out << std::setw(7) << space.getPid() << ' ' << std::setw(7) << space.getParent() << ' '
        << std::setw(6) << space.getUserId() << ' ' << std::left << std::setw(12)
        << printable(space.getPersonality().cStr()) << std::right << ' ' << std::setw(7)
        << space.getEntries() << ' ' << std::setw(12) << space.getBytes() / 1024 << ' '
        << std::setw(9) << space.getResidentPages() << ' ' << std::setw(9) << space.getFaults()
        << ' ' << printable(space.getCommand().cStr()) << '\n';
  }
}

void print_map(std::ostream& out, std::int32_t pid, capnp::List<protocol::Entry>::Reader entries) {
  out << std::right << std::setw(7) << "PID" << ' ' << std::setw(18) << "START" << ' '
      << std::setw(18) << "END"
      << " PRT MAX " << std::setw(8) << "RES" << ' ' << std::left
      << std::setw(static_cast<int>(kFlagLetters.size())) << "FL"
      << " TP PATH\n";
  for (const auto entry : entries) {
    const std::string path = printable(entry.getPath().cStr());
    out << std::right << std::setw(7) << pid << ' ' << std::hex << std::showbase << std::setw(18)
        << entry.getStart() << ' ' << std::setw(18) << entry.getEnd() << std::dec << std::noshowbase
        << ' ' << protection_text(entry.getProtection()) << ' '
        << protection_text(entry.getMaximum()) << ' ' << std::setw(8) << entry.getResidentPages()
        << ' ' << flags_text(entry.getFlags()) << ' ' << type_text(entry.getType().cStr());
    if (!path.empty()) out << ' ' << path;
    out << '\n';
  }
}

}  // namespace tools
