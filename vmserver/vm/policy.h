// Policy: who may map what, and with which rights. It is asked where the seed asks its mandatory
// access control (mac_check_vnode_mmap()).
//
// A policy is a text, one rule a line; the first rule that matches decides, and what no rule
// matches is allowed:
//
//   deny  prot wx                        # nobody has memory writable and executable at once
//   allow user root
//   deny  user 1000 path "/home" prot x  # what is there or below is not executed by user 1000
//
// Life of a question: a call knows the path (if there is one) and the protection asked for; the
// user costs a look into /proc, so that is asked for at the first rule that wants to know.
//
// Immutable once parsed; may be asked from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hal/protection.h"
#include "vmserver/vm/result.h"

namespace vm {

class Policy {
 public:
  struct Rule {
    unsigned line = 0;
    bool deny = false;
    std::optional<std::uint32_t> user;
    std::optional<std::string> path;  ///< without a slash at its end; "" is everything with a path
    hal::Protection protection;       ///< matches what asks for all of it
  };
  /// One line: "FILE:LINE: reason", or "FILE: reason" when the file cannot be read.
  struct Wrong {
    std::string reason;
  };
  using Parsed =
      boost::outcome_v2::basic_result<Policy, Wrong, boost::outcome_v2::policy::terminate>;

  /// `name` is what errors and rules call the text.
  static Parsed parse(std::string_view text, const std::string& name);
  static Parsed load(const std::string& path);

  /// The first rule that matches, or nullptr. `path` is empty for memory without a file. Whatever
  /// may be written or executed can be read on this hardware, so it counts as asking for that, too.
  const Rule* decide(const std::function<std::uint32_t()>& user, std::string_view path,
                     hal::Protection protection) const;
  /// Where a rule stands: "FILE:LINE".
  std::string where(const Rule& rule) const { return name_ + ":" + std::to_string(rule.line); }

  const std::vector<Rule>& rules() const { return rules_; }

 private:
  explicit Policy(std::string name) : name_(std::move(name)) {}

  std::string name_;
  std::vector<Rule> rules_;
};

}  // namespace vm
