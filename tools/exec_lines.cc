#include "tools/exec_lines.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "tools/map_table.h"

namespace tools {
namespace {

const char* name_of(protocol::ExecEvent::Kind kind) {
  return kind == protocol::ExecEvent::Kind::MAPPED ? "mapped" : "unmapped";
}

}  // namespace

std::string exec_text(protocol::ExecEvent::Reader event) {
  std::ostringstream text;
  if (event.getLost() != 0) text << "lost " << event.getLost() << '\n';
  text << name_of(event.getKind()) << ' ' << event.getPid() << " 0x" << std::hex
       << event.getAddress() << std::dec << ' ' << event.getBytes();
  if (event.getPath().size() != 0) text << ' ' << printable(event.getPath().cStr());
  text << '\n';
  return text.str();
}

std::string exec_json(protocol::ExecEvent::Reader event) {
  nlohmann::ordered_json object;
  object["event"] = name_of(event.getKind());
  object["pid"] = event.getPid();
  object["address"] = event.getAddress();
  object["bytes"] = event.getBytes();
  object["path"] = event.getPath().cStr();
  object["lost"] = event.getLost();
  // A path is any bytes; JSON is UTF-8.
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace tools
