#include "vmserver/vm/call.h"

#include <utility>

#include "vmserver/vm/vm_space.h"

namespace vm {

void Call::run_plan(Next next) {
  if (space == nullptr) return send_plan(std::move(next));
  auto settled = [this, next = std::move(next)](Error error) {
    space->plan_done();
    next(error);
  };
  if (!space->pages_leave()) return send_plan(std::move(settled));
  space->before_plan(plan, [this, settled = std::move(settled)]() mutable {
    send_plan(std::move(settled));
  });
}

void Call::finish(const Answer& answer) {
  if (space == nullptr) return send_answer(answer);
  if (!space->pages_leave()) {
    if (!space->awaits_plan()) return send_answer(answer);
    if (plan.empty()) space->plan_done();
  }
  // What touches pages comes after what makes them: their faults wait for that. And pages that are
  // brought in may need room that only pages of the same range can make.
  if (hal::Plan rest = VmSpace::part_that_touches(plan); !rest.empty()) {
    return run_plan([this, answer, rest = std::move(rest)](Error error) mutable {
      if (error != Error::none) return space->undo(*this, answer, error);
      plan = std::move(rest);
      finish(answer);
    });
  }
  const auto send = [this, answer] {
    Answer last = answer;
    last.acknowledged = space->awaits_plan();
    send_answer(last);
  };
  if (!space->pages_leave()) return send();
  space->let_leave();
  space->before_plan(plan, send);
}

}  // namespace vm
