// One call: its request, the host operations that the server wants done for it, its answer; and the
// calls that the program does by itself and tells of.
#include "libshim/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "libshim/descriptors.h"
#include "libshim/host_ops.h"
#include "libshim/lock.h"
#include "libshim/own_calls.h"
#include "libshim/report.h"
#include "libshim/session_state.h"
#include "libshim/syscall.h"

namespace shim {
namespace {

// How often a call is made again whose room turned out not to be free.
constexpr unsigned kMostAttempts = 8;

protocol::TrapRequest make_request(protocol::CallNumber number, const uint64_t (&args)[6],
                                   protocol::Abi abi) {
  protocol::TrapRequest request{};
  request.magic = protocol::kMagic;
  request.call = number;
  request.abi = abi;
  for (int i = 0; i < 6; ++i) request.args[i] = args[i];
  if (number == protocol::kCallMmap || number == protocol::kCallOmmap) {
    request.limits[0] = limit_of(RLIMIT_AS, false);
    request.limits[1] = limit_of(RLIMIT_DATA, true);
    constexpr uint64_t kFreebsdStack = 0x400;
    const uint64_t grows_down = abi == protocol::kAbiFreebsd ? kFreebsdStack : MAP_GROWSDOWN;
    if ((args[3] & grows_down) != 0) request.limits[2] = limit_of(RLIMIT_STACK, false);
  } else if (number == protocol::kCallMlock || number == protocol::kCallMlock2 ||
             number == protocol::kCallMlockall) {
    request.limits[0] = limit_of(RLIMIT_MEMLOCK, false);
  }
  return request;
}

struct Outcome {
  Result result;
  bool again = false;  // nothing was done: the call is to be made once more
};

// Needs the lock. What comes next on the socket.
Received receive_answer(protocol::TrapReply& reply) {
  Received received;
  const bool came = self.linger.look([&] {
    received = receive(self.socket, &reply, sizeof(reply), MSG_DONTWAIT);
    return received.bytes != -EAGAIN;
  });
  return came ? received : receive(self.socket, &reply, sizeof(reply));
}

// Needs the lock. `no_room`: it failed because no number was left for a descriptor.
Outcome carry_out_once(protocol::TrapRequest& request, int descriptor, DataSink sink, void* context,
                       bool& no_room) {
  request.sequence = ++self.sequence;
  // Whoever is killed while waiting for the answer leaves none behind.
  self.lease = {};
  self.lock_credit = 0;
  give_up_kept();
  long sent = send_request(request, descriptor);
  if (sent == -EBADF && descriptor >= 0) {
    request.flags |= protocol::kRequestBadDescriptor;
    sent = send(self.socket, &request, sizeof(request), nullptr, 0);
  } else if (sent == -EINVAL && descriptor >= 0) {
    request.flags |= protocol::kRequestKernelObject;
    sent = send(self.socket, &request, sizeof(request), nullptr, 0);
  }
  if (failed(sent)) end_server_lost(false);

  Outcome outcome;
  Result& result = outcome.result;
  for (;;) {
    protocol::TrapReply reply;
    const Received received = receive_answer(reply);
    const protocol::TrapReplyHeader& header = reply.header;
    if (received.bytes < static_cast<long>(sizeof(header)) ||
        received.bytes != protocol::reply_bytes(header.op_count, header.data_bytes) ||
        header.op_count > protocol::kMaxHostOps) {
      end_server_lost(false);
    }
    if (header.sequence != request.sequence) {
      // The answer to somebody who was killed while waiting for it.
      close_descriptor(received.descriptor);
      continue;
    }
    no_room |= received.no_room;
    HostOpContext ops;
    ops.userfaultfd = self.userfaultfd;
    ops.descriptor = received.descriptor;
    ops.request = &request;
    ops.value_from_host = (header.flags & protocol::kReplyValueFromHost) != 0;
    int error = 0;
    const int failed_op = run_host_ops(reply.ops, header.op_count, ops, error);
    close_descriptor(received.descriptor);
    self.tracks |= ops.tracks;
    self.prepare_forks |= (header.flags & protocol::kReplyPrepareForks) != 0;

    const bool final = (header.flags & protocol::kReplyFinal) != 0;
    if (final && failed_op < 0) {
      self.lease = {header.lease_start, header.lease_end};
      self.lock_credit = header.lock_credit;
      if (request.call == protocol::kCallMlock) self.lock_limit = request.limits[0];
      if ((header.flags & protocol::kReplyAcknowledge) != 0 &&
          !say_done(self.socket, request.sequence, failed_op, error)) {
        end_server_lost(false);
      }
      outcome.again = (header.flags & protocol::kReplyAgain) != 0;
      result.error = header.error;
      result.value = static_cast<long>(header.value);
      if (result.error == 0 && ops.value_from_host) {
        if (failed(ops.host_value)) {
          result.error = static_cast<int>(-ops.host_value);
        } else {
          result.value = ops.host_value;
        }
      }
      // Behind the operations in the frame, wherever they end.
      const auto* data = reinterpret_cast<const uint8_t*>(&reply.ops[header.op_count]);
      if (result.error == 0 && sink != nullptr && !sink(context, data, header.data_bytes)) {
        result.error = EFAULT;
      }
      break;
    }
    if (!say_done(self.socket, request.sequence, failed_op, error)) end_server_lost(false);
  }
  return outcome;
}

Outcome carry_out(protocol::TrapRequest& request, int descriptor, DataSink sink, void* context) {
  bool no_room = false;
  Outcome outcome = carry_out_once(request, descriptor, sink, context, no_room);
  if (outcome.result.error == 0 || !no_room || self.spare < 0) return outcome;
  // The call left nothing behind: once more, with room.
  if (identity_of(self.spare) == self.userfaultfd_identity) close_descriptor(self.spare);
  outcome = carry_out_once(request, descriptor, sink, context, no_room);
  make_spare();
  return outcome;
}

// Whether the server may let it wait until a change of a file has ended: what gives stores to files.
bool waits_for_changes(const protocol::TrapRequest& request) {
  switch (request.call) {
    case protocol::kCallMmap:
      // FreeBSD's MAP_FIXED is the same number.
      return (request.args[3] & MAP_FIXED) != 0 && self.stores_into_files;
    case protocol::kCallMunmap:
    case protocol::kCallMremap:
    case protocol::kCallMsync:
    case protocol::kCallExit:
    case protocol::kCallUnlock:
      return self.stores_into_files;
    case protocol::kCallFileRead:
      return true;
    default:
      return false;
  }
}

// Whether a shared mapping of it can ever be stored into.
bool may_write(int descriptor) {
  const long flags = sys(SYS_fcntl, descriptor, F_GETFL);
  return failed(flags) || (flags & O_ACCMODE) != O_RDONLY;
}

// Needs the lock. What the program does by itself can be written down from here on.
void make_room_for_notes() {
  if (may_note()) return;
  constexpr uint64_t kNothing[6] = {};
  protocol::TrapRequest request = make_request(protocol::kCallNotes, kNothing, protocol::kAbiLinux);
  const Outcome outcome = carry_out(request, -1, nullptr, nullptr);
  if (outcome.result.error != 0 || !may_note()) end_server_lost(false);
  self.unheard = false;
}

Result call_in_turn(protocol::TrapRequest& request, int descriptor, DataSink sink, void* context) {
  self.lock.acquire();
  make_room_for_notes();
  Outcome outcome;
  if (did_by_itself(request, outcome.result)) {
    self.lock.release();
    return outcome.result;
  }
  self.own.before(request);
  // Before it is answered: from then on it can be stored into.
  if (request.call == protocol::kCallMmap && descriptor >= 0) {
    __atomic_store_n(&self.maps_files, true, __ATOMIC_RELAXED);
    if ((request.args[3] & MAP_SHARED) != 0 && may_write(descriptor)) {
      __atomic_store_n(&self.stores_into_files, true, __ATOMIC_RELAXED);
    }
  }
  for (unsigned attempt = 0; attempt < kMostAttempts; ++attempt) {
    outcome = carry_out(request, descriptor, sink, context);
    if (!outcome.again) break;
  }
  if (outcome.again) outcome.result = {0, ENOMEM};
  if (outcome.result.error == 0) {
    self.unheard = false;
    self.own.after(request, static_cast<uint64_t>(outcome.result.value));
  }
  self.lock.release();
  return outcome.result;
}

}  // namespace

long send_request(const protocol::TrapRequest& request, int descriptor) {
  const unsigned count = descriptor >= 0 ? 1 : 0;
  check_descriptors();
  const long sent = send(self.socket, &request, sizeof(request), &descriptor, count);
  if (sent != -ENOTSOCK && (sent != -EBADF || descriptor >= 0)) return sent;
  // Somebody who shares the table took the number since we looked.
  check_descriptors();
  return send(self.socket, &request, sizeof(request), &descriptor, count);
}

Result call(protocol::CallNumber number, const uint64_t (&args)[6], int descriptor,
            protocol::Abi abi, uint16_t flags, DataSink sink, void* context) {
  protocol::TrapRequest request = make_request(number, args, abi);
  request.flags = flags;
  if (Result result; concerns_nobody(request, result)) return result;
  SignalsBlocked blocked;
  const bool waits = waits_for_changes(request);
  if (waits) self.changing.acquire();
  const Result result = call_in_turn(request, descriptor, sink, context);
  if (waits) self.changing.release();
  return result;
}

void begin_changing() { self.changing.acquire(); }
void end_changing() { self.changing.release(); }

bool maps_files() { return __atomic_load_n(&self.maps_files, __ATOMIC_RELAXED); }
bool stores_into_files() { return __atomic_load_n(&self.stores_into_files, __ATOMIC_RELAXED); }

}  // namespace shim
