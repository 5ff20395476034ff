// sbrk, sstk and getpagesize, after the seed's functions; and brk, which the seed has not: the
// break belongs to the host, as libc's own heap does.
#include "vmserver/vm/calls/table.h"

namespace vm::calls {

void brk(VmSpace&, Call& call) {
  const hal::VirtualAddress address(call.argument(0));
  call.plan.add(hal::Step::Kind::host_call, hal::VirtualRange(address, address));
  Answer answer;
  answer.value_from_host = true;
  call.finish(answer);
}

void sbrk(VmSpace& space, Call& call) { call.finish(space.machine().personality().sbrk_error); }

void sstk(VmSpace& space, Call& call) { call.finish(space.machine().personality().sstk_error); }

void getpagesize(VmSpace&, Call& call) { call.finish(Error::none, hal::kPageSize); }

}  // namespace vm::calls
