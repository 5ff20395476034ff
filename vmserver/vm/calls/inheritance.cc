// minherit, after the seed's function and FreeBSD's vm_map_inherit().
#include "vmserver/vm/calls/inheritance.h"

#include "vmserver/vm/calls/checks.h"
#include "vmserver/vm/calls/table.h"
#include "vmserver/vm/vm_object.h"

namespace vm::calls {

using hal::Inherit;
using hal::Step;
using hal::VirtualRange;

void inherit_as(MapEntry& entry, Inherit inherit, hal::Plan& plan) {
  entry.inherit = inherit;
  plan.add(Step::Kind::inherit, entry.range).inheritance = inherit;
}

void minherit(VmSpace& space, Call& call) {
  RangeChecks checks(space, call);
  checks.inherit = call.abi->inheritance(static_cast<int>(call.argument(2)));
  if (checks.end_call(call.rules->minherit)) return;
  const VirtualRange range = *checks.range();
  const Inherit wanted = checks.inherit.value;
  Error error = Error::none;
  {
    const auto guard = space.lock();
    VmMap& map = space.map();
    space.refresh_host(range);
    map.for_each_in(range, [&](MapEntry& entry) {
      // Private memory would have to become an object, and shared memory private, in the child.
      // Neither is offered yet, and saying yes would lose data.
      const bool shared = entry.sharing != hal::Sharing::copy_on_write;
      if (wanted == Inherit::share && !shared) error = Error::not_supported;
      if (wanted == Inherit::copy && shared && entry.sharing != hal::Sharing::shared_read_only) {
        error = Error::not_supported;
      }
    });
    if (error == Error::none) {
      map.clip(range);
      map.for_each_in(range, [&](MapEntry& entry) { inherit_as(entry, wanted, call.plan); });
      map.simplify(range);
    }
  }
  call.finish(error);
}

}  // namespace vm::calls
