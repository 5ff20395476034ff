#include "tools/map_table.h"

#include <capnp/message.h>

#include <catch2/catch.hpp>
#include <initializer_list>
#include <sstream>

namespace {

std::string flags(std::initializer_list<const char*> names) {
  capnp::MallocMessageBuilder message;
  auto list = message.initRoot<protocol::Entry>().initFlags(static_cast<unsigned>(names.size()));
  unsigned i = 0;
  for (const char* name : names) list.set(i++, name);
  return tools::flags_text(list.asReader());
}

}  // namespace

TEST_CASE("a protection is three letters", "[map]") {
  CHECK(tools::protection_text(0) == "---");
  CHECK(tools::protection_text(1) == "r--");
  CHECK(tools::protection_text(3) == "rw-");
  CHECK(tools::protection_text(5) == "r-x");
  CHECK(tools::protection_text(7) == "rwx");
}

TEST_CASE("each flag has its letter at its place, and unknown ones keep their name", "[map]") {
  CHECK(flags({}) == "------");
  CHECK(flags({"cow"}) == "-C----");
  CHECK(flags({"nocore", "nosync", "wired", "stack", "cow", "shared"}) == "SCDWNX");
  CHECK(flags({"shared", "new"}) == "S-----,new");
}

TEST_CASE("types have procstat's codes, and unknown ones keep their name", "[map]") {
  CHECK(tools::type_text("anonymous") == "df");
  CHECK(tools::type_text("shared") == "sw");
  CHECK(tools::type_text("file") == "vn");
  CHECK(tools::type_text("device") == "dv");
  CHECK(tools::type_text("host") == "ho");
  CHECK(tools::type_text("other") == "other");
}

TEST_CASE("a path cannot break a line of the table", "[map]") {
  CHECK(tools::printable("/tmp/caf\xc3\xa9 x") == "/tmp/caf\xc3\xa9 x");
  CHECK(tools::printable("a\nb\x1b\x7f") == "a\\012b\\033\\177");
}

TEST_CASE("the map has a heading and a line for each entry, columns in line", "[map]") {
  capnp::MallocMessageBuilder message;
  auto entries = message.initRoot<protocol::Control::MapResults>().initEntries(2);
  entries[0].setStart(0x400000);
  entries[0].setEnd(0x401000);
  entries[0].setProtection(5);
  entries[0].setMaximum(7);
  entries[0].setResidentPages(1);
  entries[0].setType("host");
  entries[0].setPath("/usr/bin/true");
  entries[1].setStart(0x7fffff000000);
  entries[1].setEnd(0x7fffffffe000);
  entries[1].setProtection(3);
  entries[1].setMaximum(3);
  entries[1].setResidentPages(123456);
  entries[1].initFlags(1).set(0, "stack");
  entries[1].setType("anonymous");

  std::ostringstream out;
  tools::print_map(out, 42, entries.asReader());
  CHECK(out.str() ==
        "    PID              START                END PRT MAX      RES FL     TP PATH\n"
        "     42           0x400000           0x401000 r-x rwx        1 ------ ho /usr/bin/true\n"
        "     42     0x7fffff000000     0x7fffffffe000 rw- rw-   123456 --D--- df\n");
}

TEST_CASE("the list of programs has a line for each, sizes in KiB", "[map]") {
  capnp::MallocMessageBuilder message;
  auto spaces = message.initRoot<protocol::Control::SpacesResults>().initSpaces(1);
  spaces[0].setPid(42);
  spaces[0].setParent(1);
  spaces[0].setUserId(1000);
  spaces[0].setPersonality("freebsd-7");
  spaces[0].setEntries(3);
  spaces[0].setBytes(64 << 20);
  spaces[0].setResidentPages(5);
  spaces[0].setFaults(6);
  spaces[0].setCommand("redis-server");

  std::ostringstream out;
  tools::print_spaces(out, spaces.asReader());
  CHECK(out.str() ==
        "    PID    PPID    UID PERSONALITY  ENTRIES         SIZE       RES    FAULTS COMMAND\n"
        "     42       1   1000 freebsd-7          3        65536         5         6 "
        "redis-server\n");
}
