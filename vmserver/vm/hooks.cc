#include "vmserver/vm/hooks.h"

#include <optional>
#include <string>

#include <spdlog/spdlog.h>

#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/policy.h"
#include "vmserver/vm/printable.h"
#include "vmserver/vm/vm_object.h"

namespace vm {
namespace {

using hal::Protection;

std::string letters(Protection protection) {
  std::string text = "---";
  if (protection.readable()) text[0] = 'r';
  if (protection.writable()) text[1] = 'w';
  if (protection.executable()) text[2] = 'x';
  return text;
}

// The host's names for memory without a file, such as [stack], are no paths.
std::string_view path_of(const MapEntry& entry) {
  const std::string& path =
      entry.source == Source::object ? entry.object->attributes().path : entry.path;
  return path.starts_with('/') ? std::string_view(path) : std::string_view();
}

/// One call's questions: the user is found out once, for all of its entries.
class Question {
 public:
  Question(const Policy& policy, Call& call) : policy_(policy), call_(call) {}

  Error ask(std::string_view path, Protection protection) {
    const Policy::Rule* rule = policy_.decide([this] { return user(); }, path, protection);
    if (rule == nullptr || !rule->deny) return Error::none;
    spdlog::warn("policy {} denies program {} of user {}: {} of {} with {}", policy_.where(*rule),
                 call_.pid(), user(), calls::name(call_.request.call),
                 path.empty() ? "memory" : printable(path), letters(protection));
    return Error::access;
  }

 private:
  std::uint32_t user() {
    if (!user_) user_ = call_.user_id();
    return *user_;
  }

  const Policy& policy_;
  Call& call_;
  std::optional<std::uint32_t> user_;
};

}  // namespace

Error ask_policy(VmSpace& space, Call& call, std::string_view path, Protection protection) {
  const Policy* policy = space.machine().options().policy.get();
  if (policy == nullptr) return Error::none;
  return Question(*policy, call).ask(path, protection);
}

Error ask_policy(VmSpace& space, Call& call, hal::VirtualRange range, Protection protection) {
  const Policy* policy = space.machine().options().policy.get();
  if (policy == nullptr) return Error::none;
  Question question(*policy, call);
  Error error = Error::none;
  space.map().for_each_in(range, [&](MapEntry& entry) {
    if (error == Error::none) error = question.ask(path_of(entry), protection);
  });
  return error;
}

void trace_mapped(VmSpace& space, Call& call, hal::VirtualRange range, Protection protection) {
  ExecTrace& trace = space.machine().exec_trace();
  if (!trace.wanted() || !protection.executable()) return;
  // A device that maps as anonymous memory is told as well: the seed looks at the descriptor.
  if (!call.file || call.abi->map_flags(call.argument(3)).anonymous) return;
  trace.tell({ExecEvent::Kind::mapped, call.pid(), range.start(), range.bytes(),
              call.file->attributes.path});
}

void trace_unmapped(VmSpace& space, std::int32_t pid, hal::VirtualRange range) {
  ExecTrace& trace = space.machine().exec_trace();
  if (!trace.wanted()) return;
  const MapEntry* first = nullptr;
  space.map().for_each_in(range, [&](MapEntry& entry) {
    if (first == nullptr && entry.protection.executable()) first = &entry;
  });
  if (first == nullptr) return;
  trace.tell({ExecEvent::Kind::unmapped, pid, range.start(), range.bytes(),
              std::string(path_of(*first))});
}

}  // namespace vm
