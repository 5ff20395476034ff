#include "vmserver/vm/call.h"

#include <utility>

#include "vmserver/vm/vm_space.h"

namespace vm {

void Call::run_plan(Next next) {
  if (space == nullptr || !space->pages_leave()) return send_plan(std::move(next));
  space->before_plan(plan, [this, next = std::move(next)]() mutable {
    send_plan([this, next = std::move(next)](Error error) {
      space->plan_done();
      next(error);
    });
  });
}

void Call::finish(const Answer& answer) {
  if (space == nullptr || !space->pages_leave()) return send_answer(answer);
  // Pages that are brought in by the plan itself may need room that only pages of the same range can
  // make: what comes before is over then.
  if (hal::Plan rest = VmSpace::part_that_touches(plan); !rest.empty()) {
    return run_plan([this, answer, rest = std::move(rest)](Error error) mutable {
      if (error != Error::none) return space->undo(*this, answer, error);
      plan = std::move(rest);
      finish(answer);
    });
  }
  space->let_leave();
  space->before_plan(plan, [this, answer] {
    Answer last = answer;
    last.acknowledged = space->awaits_plan();
    send_answer(last);
  });
}

}  // namespace vm
