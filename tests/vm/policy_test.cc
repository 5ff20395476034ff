// What policies say, and how wrong ones are named.
#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <unistd.h>

#include "vmserver/vm/policy.h"

using hal::Protection;
using vm::Policy;

namespace {

constexpr Protection kRead = Protection::read();
constexpr Protection kWrite = Protection::write();
constexpr Protection kExecute = Protection::execute();

Policy parse(const std::string& text) {
  const auto parsed = Policy::parse(text, "rules");
  INFO((parsed ? "" : parsed.error().reason));
  REQUIRE(parsed);
  return parsed.value();
}

std::string error_of(const std::string& text) {
  const auto parsed = Policy::parse(text, "rules");
  return parsed ? "none" : parsed.error().reason;
}

/// The line of the rule that decides, or 0.
unsigned decides(const Policy& policy, std::uint32_t user, const std::string& path,
                 Protection protection) {
  const Policy::Rule* rule = policy.decide([user] { return user; }, path, protection);
  return rule == nullptr ? 0 : rule->line;
}

bool denies(const Policy& policy, std::uint32_t user, const std::string& path,
            Protection protection) {
  const Policy::Rule* rule = policy.decide([user] { return user; }, path, protection);
  return rule != nullptr && rule->deny;
}

}  // namespace

TEST_CASE("blank lines and comments are no rules, and count as lines", "[policy]") {
  CHECK(parse("").rules().empty());
  CHECK(parse("\n# deny\n  # deny\n\t\r\n").rules().empty());
  const Policy policy = parse("# one\n\n  deny prot x # behind\r\nallow");
  REQUIRE(policy.rules().size() == 2);
  CHECK(policy.where(policy.rules()[0]) == "rules:3");
  CHECK(policy.where(policy.rules()[1]) == "rules:4");
}

TEST_CASE("the words of a rule come in any order", "[policy]") {
  for (const char* text : {"deny user 7 path /a prot x", "deny prot x path /a user 7",
                           "deny path \"/a\" user 7 prot \"x\""}) {
    const Policy policy = parse(text);
    CHECK(denies(policy, 7, "/a/b", kRead | kExecute));
    CHECK_FALSE(denies(policy, 8, "/a/b", kRead | kExecute));
    CHECK_FALSE(denies(policy, 7, "/b", kRead | kExecute));
    CHECK_FALSE(denies(policy, 7, "/a/b", kRead | kWrite));
  }
}

TEST_CASE("the first rule that matches decides, and none allows", "[policy]") {
  const Policy policy = parse(
      "allow user 1 path /a/b\n"
      "deny path /a\n"
      "allow path /a/c\n"
      "deny user 2\n");
  CHECK(decides(policy, 1, "/a/b/x", kRead) == 1);
  CHECK_FALSE(denies(policy, 1, "/a/b/x", kRead));
  CHECK(decides(policy, 3, "/a/b/x", kRead) == 2);
  CHECK(denies(policy, 3, "/a/c", kRead));
  CHECK(decides(policy, 2, "/x", kRead) == 4);
  CHECK(decides(policy, 3, "/x", kRead) == 0);
}

TEST_CASE("a path is that name and what is below it, by components", "[policy]") {
  const Policy policy = parse("deny path /a/b/\n");
  CHECK(denies(policy, 0, "/a/b", kRead));
  CHECK(denies(policy, 0, "/a/b/c/d", kRead));
  CHECK_FALSE(denies(policy, 0, "/a/bc", kRead));
  CHECK_FALSE(denies(policy, 0, "/a", kRead));
  CHECK_FALSE(denies(policy, 0, "/x/a/b", kRead));
}

TEST_CASE("the path / is every file, and no memory without one", "[policy]") {
  const Policy policy = parse("deny path /\n");
  CHECK(denies(policy, 0, "/a", kRead));
  CHECK(denies(policy, 0, "/", kRead));
  CHECK_FALSE(denies(policy, 0, "", kRead));
  CHECK_FALSE(denies(policy, 0, "[stack]", kRead));
}

TEST_CASE("a rule without a path is for memory without a file as well", "[policy]") {
  const Policy policy = parse("deny prot wx");
  CHECK(denies(policy, 0, "", Protection::all()));
  CHECK(denies(policy, 0, "/a", Protection::all()));
}

TEST_CASE("a quoted path may hold blanks, quotes, backslashes and the sign of comments",
          "[policy]") {
  const Policy policy = parse(
      "deny path \"/a b/\\\"c\\\\d\" # and a comment\ndeny path \"/#e\"\n"
      "deny path /f#g\n");
  CHECK(denies(policy, 0, "/a b/\"c\\d/e", kRead));
  CHECK(denies(policy, 0, "/#e", kRead));
  CHECK(denies(policy, 0, "/f#g", kRead));
  CHECK_FALSE(denies(policy, 0, "/f", kRead));
}

TEST_CASE("prot matches what asks for all of its letters at once", "[policy]") {
  const Policy policy = parse("deny prot xw");
  CHECK(denies(policy, 0, "", kWrite | kExecute));
  CHECK(denies(policy, 0, "", Protection::all()));
  CHECK_FALSE(denies(policy, 0, "", kRead | kWrite));
  CHECK_FALSE(denies(policy, 0, "", kRead | kExecute));
  CHECK_FALSE(denies(policy, 0, "", Protection::none()));
}

TEST_CASE("what may be written or executed counts as readable", "[policy]") {
  const Policy policy = parse("deny prot r");
  CHECK(denies(policy, 0, "", kWrite));
  CHECK(denies(policy, 0, "", kExecute));
  CHECK_FALSE(denies(policy, 0, "", Protection::none()));
}

TEST_CASE("a rule without prot matches inaccessible memory, too", "[policy]") {
  CHECK(denies(parse("deny"), 5, "/a", Protection::none()));
  CHECK(denies(parse("deny"), 5, "", Protection::none()));
}

TEST_CASE("a user is a number or a name", "[policy]") {
  CHECK(denies(parse("deny user root"), 0, "", kRead));
  CHECK_FALSE(denies(parse("deny user root"), 1, "", kRead));
  CHECK(denies(parse("deny user 4294967294"), 4294967294, "", kRead));
}

TEST_CASE("the user is asked for once, and only where a rule needs it", "[policy]") {
  const Policy policy = parse(
      "deny prot wx\n"
      "deny user 1 path /a\n"
      "deny user 2 path /a\n");
  int asked = 0;
  const auto user = [&] {
    ++asked;
    return 2u;
  };
  CHECK(policy.decide(user, "", Protection::all()) != nullptr);
  CHECK(policy.decide(user, "/b", kRead) == nullptr);
  CHECK(asked == 0);
  CHECK(policy.decide(user, "/a", kRead) != nullptr);
  CHECK(asked == 1);
}

TEST_CASE("a wrong line is named with its number, the word and the reason", "[policy]") {
  const std::string good = "# first\ndeny prot wx\n";
  const auto line_3 = [&](const std::string& line) { return error_of(good + line + "\ndeny\n"); };
  CHECK(line_3("denies") == "rules:3: \"denies\": a rule starts with deny or allow");
  CHECK(line_3("\"deny\"") == "rules:3: \"deny\": a rule starts with deny or allow");
  CHECK(line_3("deny file /a") == "rules:3: \"file\": expected user, path or prot");
  CHECK(line_3("deny \"path\" /a") == "rules:3: \"path\": expected user, path or prot");
  CHECK(line_3("deny user 1 user 2") == "rules:3: user: is there twice");
  CHECK(line_3("deny path /a path /a") == "rules:3: path: is there twice");
  CHECK(line_3("deny prot x prot x") == "rules:3: prot: is there twice");
  CHECK(line_3("deny user") == "rules:3: user: nothing follows it");
  CHECK(line_3("deny prot x path # /a") == "rules:3: path: nothing follows it");
  CHECK(line_3("deny user no-such-user-here") ==
        "rules:3: user: \"no-such-user-here\" is not known here");
  CHECK(line_3("deny user \"\"") == "rules:3: user: \"\" is not known here");
  CHECK(line_3("deny user -1") == "rules:3: user: \"-1\" is not known here");
  CHECK(line_3("deny user 4294967295") == "rules:3: user: \"4294967295\" is no user number");
  CHECK(line_3("deny user 99999999999") == "rules:3: user: \"99999999999\" is no user number");
  CHECK(line_3("deny path a/b") == "rules:3: path: \"a/b\" is not absolute");
  CHECK(line_3("deny path \"\"") == "rules:3: path: \"\" is not absolute");
  for (const char* path : {"/a/../b", "/a/..", "/a/./b", "/.", "/a//b", "//a"}) {
    CHECK(line_3("deny path " + std::string(path)) ==
          "rules:3: path: \"" + std::string(path) + "\" has an empty, \".\" or \"..\" component");
  }
  CHECK(line_3("deny prot rwz") == "rules:3: prot: \"rwz\" has other letters than r, w and x");
  CHECK(line_3("deny prot R") == "rules:3: prot: \"R\" has other letters than r, w and x");
  CHECK(line_3("deny prot xx") == "rules:3: prot: \"xx\" has a letter twice");
  CHECK(line_3("deny prot \"\"") == "rules:3: prot: \"\" has no letter of r, w and x");
  CHECK(line_3("deny path \"/a b") == "rules:3: no \" ends \"/a b\"");
  CHECK(line_3("deny path \"/a\"/b") == "rules:3: a blank is missing behind \"/a\"");
  CHECK(line_3("deny path \"/a\\") == "rules:3: no \" ends \"/a\\\"");
}

TEST_CASE("an error stays one line, whatever the text holds", "[policy]") {
  CHECK(error_of("deny \x1b[2J") == "rules:1: \"\\033[2J\": expected user, path or prot");
  CHECK(error_of(std::string("de\0ny", 5)) ==
        "rules:1: \"de\\000ny\": a rule starts with deny or allow");
}

TEST_CASE("a file that cannot be read is named with the reason", "[policy]") {
  const auto missing = Policy::load("/no/such/file");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().reason == "/no/such/file: No such file or directory");
  const auto directory = Policy::load("/");
  REQUIRE_FALSE(directory);
  CHECK(directory.error().reason == "/: Is a directory");
  const auto endless = Policy::load("/dev/zero");
  REQUIRE_FALSE(endless);
  CHECK(endless.error().reason == "/dev/zero: is larger than 1 MiB");
}

TEST_CASE("a policy is read from a file", "[policy]") {
  std::string path = "/tmp/vm-policy-XXXXXX";
  const int file = mkstemp(path.data());
  REQUIRE(file >= 0);
  const std::string text = "deny prot wx\nallow all\n";
  REQUIRE(write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  const auto wrong = Policy::load(path);
  REQUIRE(ftruncate(file, 13) == 0);
  const auto right = Policy::load(path);
  close(file);
  unlink(path.c_str());
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().reason == path + ":2: \"all\": expected user, path or prot");
  REQUIRE(right);
  CHECK(right.value().where(right.value().rules().at(0)) == path + ":1");
}
