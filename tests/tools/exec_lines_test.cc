// The two forms of an event of `vmctl trace exec`.
#include <capnp/message.h>

#include <catch2/catch.hpp>

#include "tools/exec_lines.h"

namespace {

struct Event {
  capnp::MallocMessageBuilder message;
  protocol::ExecEvent::Builder event = message.initRoot<protocol::ExecEvent>();

  Event() {
    event.setKind(protocol::ExecEvent::Kind::UNMAPPED);
    event.setPid(12);
    event.setAddress(0x7f00'0000'1000);
    event.setBytes(8192);
    event.setPath("/a b");
  }
};

}  // namespace

TEST_CASE("an event is one line", "[exec]") {
  Event e;
  CHECK(tools::exec_text(e.event) == "unmapped 12 0x7f0000001000 8192 /a b\n");
  e.event.setPath("/two\nlines");
  CHECK(tools::exec_text(e.event) == "unmapped 12 0x7f0000001000 8192 /two\\012lines\n");
  e.event.setPath("");
  CHECK(tools::exec_text(e.event) == "unmapped 12 0x7f0000001000 8192\n");
}

TEST_CASE("missing events are a line of their own before the next", "[exec]") {
  Event e;
  e.event.setLost(3);
  CHECK(tools::exec_text(e.event) == "lost 3\nunmapped 12 0x7f0000001000 8192 /a b\n");
}

TEST_CASE("an event as JSON is one line, whatever its path holds", "[exec]") {
  Event e;
  CHECK(tools::exec_json(e.event) ==
        "{\"event\":\"unmapped\",\"pid\":12,\"address\":139637976731648,\"bytes\":8192,"
        "\"path\":\"/a b\",\"lost\":0}\n");
  e.event.setPath("/\xff\n");
  CHECK(tools::exec_json(e.event).find("\"/\xef\xbf\xbd\\n\"") != std::string::npos);
}
