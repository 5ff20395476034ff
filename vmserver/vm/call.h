// Call: one request of a program, from its arrival to its answer.
//
// A call checks first and acts second. It ends with exactly one finish(). Where the program itself
// has work to do before the call can go on, the handler puts that into `plan` and calls run_plan();
// the continuation is given the first error of the plan. The plan that is there at finish() goes
// along with the answer: the call is over for the program once it is done.
//
// No lock of the core may be held when run_plan() or finish() is called.
//
// Where pages leave programs (vm/pageout.h), a plan that takes something away waits for pages of the
// same range that are leaving, and none of the range leaves before the program has carried it out:
// VmSpace::before_plan().
//
// Between a change of the map and the moment when the program has carried out its plan the two
// differ. Where the program still shows an object's pages then, faults wait for that moment
// (VmSpace::plan_done()): what the map says now must not be entered there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "hal/host_file.h"
#include "hal/plan.h"
#include "protocol/trap_frame.h"
#include "vmserver/vm/abi.h"
#include "vmserver/vm/personality.h"
#include "vmserver/vm/result.h"

namespace vm {

struct Answer {
  Error error = Error::none;
  std::uint64_t value = 0;
  /// The value is what the host answers to the plan's host_call.
  bool value_from_host = false;
  /// From now on the program has to announce its forks (kCallFork).
  bool prepare_forks = false;
  /// What to unmap again when the plan that goes along fails.
  hal::VirtualRange undo;
  /// What the plan locks, which counts as wired already. If the plan fails, the personality says what
  /// becomes of that (Personality::Mlock).
  hal::VirtualRange wired;
  /// The plan claims `undo`. If something of the host's turns out to be there, the call ends in
  /// `occupied`, or, where that is none, is made again.
  bool claims = false;
  Error occupied = Error::none;
  /// The program makes the call again, from the start.
  bool again = false;
  /// The program says when it has carried out the plan that goes along: VmSpace::plan_done().
  bool acknowledged = false;
};

class VmSpace;

class Call {
 public:
  using Next = std::function<void(Error)>;

  virtual ~Call() = default;

  std::uint64_t argument(unsigned index) const { return request.args[index]; }

  /// Has the program carry out `plan` (which is empty afterwards) and then calls `next`.
  void run_plan(Next next);
  /// Ends the call.
  void finish(const Answer& answer);
  void finish(Error error, std::uint64_t value = 0) {
    Answer answer;
    answer.error = error;
    answer.value = value;
    finish(answer);
  }
  /// Whether the caller's effective user is root.
  virtual bool superuser() = 0;
  /// The caller's effective user now, or, when that cannot be told any more, as it was at first.
  /// As with superuser(), the host is asked.
  virtual std::uint32_t user_id() = 0;
  /// The calling process, or 0 when it has none here.
  virtual std::int32_t pid() const = 0;

  protocol::TrapRequest request{};
  const Abi* abi = nullptr;
  const Personality* rules = nullptr;
  /// What the descriptor argument names; nothing when none came with the request.
  std::optional<hal::HostFile> file;
  hal::Plan plan;
  std::vector<std::uint8_t> data;  ///< goes back with the answer (mincore)
  VmSpace* space = nullptr;        ///< whose call it is; set before it is handled

 protected:
  // What run_plan() and finish() come to.
  virtual void send_plan(Next next) = 0;
  virtual void send_answer(const Answer& answer) = 0;
};

}  // namespace vm
