#include "vmserver/vm/policy.h"

#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <limits>
#include <system_error>

#include "hal/host_file.h"
#include "vmserver/vm/printable.h"

namespace vm {
namespace {

using hal::Protection;

/// More than any policy that people write; what is larger is some other file.
constexpr std::size_t kMostBytes = std::size_t{1} << 20;

template <class T>
using Parse =
    boost::outcome_v2::basic_result<T, Policy::Wrong, boost::outcome_v2::policy::terminate>;

auto failure(std::string reason) {
  return boost::outcome_v2::failure(Policy::Wrong{std::move(reason)});
}

struct Word {
  std::string text;
  bool quoted = false;
};

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string quote(std::string_view text) { return "\"" + printable(text) + "\""; }

Parse<std::vector<Word>> words_of(std::string_view line) {
  std::vector<Word> words;
  for (std::size_t at = 0; at < line.size();) {
    if (is_blank(line[at])) {
      ++at;
      continue;
    }
    if (line[at] == '#') break;
    Word word;
    if (line[at] != '"') {
      while (at < line.size() && !is_blank(line[at])) word.text += line[at++];
      words.push_back(std::move(word));
      continue;
    }
    word.quoted = true;
    bool closed = false;
    for (++at; at < line.size() && !closed; ++at) {
      if (line[at] == '"') {
        closed = true;
      } else {
        if (line[at] == '\\' && at + 1 < line.size()) ++at;
        word.text += line[at];
      }
    }
    if (!closed) return failure("no \" ends " + quote(word.text));
    if (at < line.size() && !is_blank(line[at])) {
      return failure("a blank is missing behind " + quote(word.text));
    }
    words.push_back(std::move(word));
  }
  return words;
}

Parse<std::uint32_t> parse_user(const std::string& text) {
  const char* end = text.data() + text.size();
  std::uint32_t number = 0;
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ptr == end && parsed.ec != std::errc::invalid_argument) {
    // The largest number is what setuid(2) calls "no user".
    if (parsed.ec != std::errc() || number == std::numeric_limits<std::uint32_t>::max()) {
      return failure("user: " + quote(text) + " is no user number");
    }
    return number;
  }
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(1024);
  int error = 0;
  while ((error = getpwnam_r(text.c_str(), &entry, buffer.data(), buffer.size(), &found)) ==
         ERANGE) {
    buffer.resize(buffer.size() * 2);
  }
  if (found == nullptr) return failure("user: " + quote(text) + " is not known here");
  return found->pw_uid;
}

// The kernel's paths have no ".", ".." or empty component, so a rule with one would never match.
Parse<std::string> parse_path(const std::string& text) {
  if (!text.starts_with('/')) return failure("path: " + quote(text) + " is not absolute");
  std::string path = text;
  while (path.ends_with('/')) path.pop_back();
  const std::string closed = path + "/";
  for (const char* never : {"//", "/./", "/../"}) {
    if (closed.find(never) == std::string::npos || path.empty()) continue;
    return failure("path: " + quote(text) + " has an empty, \".\" or \"..\" component");
  }
  return path;
}

Parse<Protection> parse_protection(const std::string& text) {
  Protection protection;
  for (const char letter : text) {
    const Protection one = letter == 'r'   ? Protection::read()
                           : letter == 'w' ? Protection::write()
                           : letter == 'x' ? Protection::execute()
                                           : Protection::none();
    if (one == Protection::none()) {
      return failure("prot: " + quote(text) + " has other letters than r, w and x");
    }
    if (protection.allows(one)) return failure("prot: " + quote(text) + " has a letter twice");
    protection = protection | one;
  }
  if (text.empty()) return failure("prot: \"\" has no letter of r, w and x");
  return protection;
}

Parse<Policy::Rule> parse_rule(const std::vector<Word>& words) {
  Policy::Rule rule;
  const Word& first = words.front();
  if (first.quoted || (first.text != "deny" && first.text != "allow")) {
    return failure(quote(first.text) + ": a rule starts with deny or allow");
  }
  rule.deny = first.text == "deny";
  bool has_protection = false;
  for (std::size_t i = 1; i < words.size(); i += 2) {
    const std::string& name = words[i].text;
    if (words[i].quoted || (name != "user" && name != "path" && name != "prot")) {
      return failure(quote(name) + ": expected user, path or prot");
    }
    if ((name == "user" && rule.user) || (name == "path" && rule.path) ||
        (name == "prot" && has_protection)) {
      return failure(name + ": is there twice");
    }
    if (i + 1 == words.size()) return failure(name + ": nothing follows it");
    const std::string& value = words[i + 1].text;
    if (name == "user") {
      BOOST_OUTCOME_TRY(rule.user, parse_user(value));
    } else if (name == "path") {
      BOOST_OUTCOME_TRY(rule.path, parse_path(value));
    } else {
      BOOST_OUTCOME_TRY(rule.protection, parse_protection(value));
      has_protection = true;
    }
  }
  return rule;
}

bool at_or_below(std::string_view path, std::string_view top) {
  return path.starts_with(top) && path.starts_with('/') &&
         (path.size() == top.size() || path[top.size()] == '/');
}

}  // namespace

Policy::Parsed Policy::parse(std::string_view text, const std::string& name) {
  Policy policy(name);
  for (unsigned number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const auto wrong = [&](const std::string& reason) {
      return failure(name + ":" + std::to_string(number) + ": " + reason);
    };
    const auto words = words_of(line);
    if (!words) return wrong(words.error().reason);
    if (words.value().empty()) continue;
    auto rule = parse_rule(words.value());
    if (!rule) return wrong(rule.error().reason);
    rule.value().line = number;
    policy.rules_.push_back(std::move(rule).value());
  }
  return policy;
}

Policy::Parsed Policy::load(const std::string& path) {
  const auto wrong = [&](int error) {
    return failure(path + ": " + std::generic_category().message(error));
  };
  const hal::SharedDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return wrong(errno);
  std::string text;
  std::vector<char> part(64 * 1024);
  for (;;) {
    const ssize_t got = read(file.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return wrong(errno);
    if (got == 0) return parse(text, path);
    text.append(part.data(), static_cast<std::size_t>(got));
    if (text.size() > kMostBytes) return failure(path + ": is larger than 1 MiB");
  }
}

const Policy::Rule* Policy::decide(const std::function<std::uint32_t()>& user,
                                   std::string_view path, Protection protection) const {
  if (protection != Protection::none()) protection = protection | Protection::read();
  std::optional<std::uint32_t> known;
  for (const Rule& rule : rules_) {
    if (!protection.allows(rule.protection)) continue;
    if (rule.path && !at_or_below(path, *rule.path)) continue;
    if (rule.user) {
      if (!known) known = user();
      if (*known != *rule.user) continue;
    }
    return &rule;
  }
  return nullptr;
}

}  // namespace vm
