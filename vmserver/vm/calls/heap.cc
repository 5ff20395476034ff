// sbrk, sstk and getpagesize, after the seed's functions; and brk, which the seed has not: the break
// belongs to the host, as libc's own heap does.
#include "vmserver/vm/calls/table.h"

namespace vm::calls {
namespace {

void pass_to_host(Call& call) {
  const hal::VirtualAddress address(call.argument(0));
  call.plan.add(hal::Step::Kind::host_call, hal::VirtualRange(address, address));
  Answer answer;
  answer.value_from_host = true;
  call.finish(answer);
}

}  // namespace

void brk(VmSpace&, Call& call) { pass_to_host(call); }

void sbrk(VmSpace&, Call& call) {
  if (call.rules->sbrk_error == Error::none) return pass_to_host(call);
  call.finish(call.rules->sbrk_error);
}

void sstk(VmSpace&, Call& call) { call.finish(call.rules->sstk_error); }

void notes(VmSpace&, Call& call) { call.finish(Error::none); }

void getpagesize(VmSpace&, Call& call) { call.finish(Error::none, hal::kPageSize); }

}  // namespace vm::calls
