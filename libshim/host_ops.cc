#include "libshim/host_ops.h"

#include <errno.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "libshim/freebsd_host.h"
#include "libshim/syscall.h"

// libc's idea of the break, which a break moved behind its back would make wrong.
extern "C" void* __curbrk __attribute__((weak));

namespace shim {
namespace {

using protocol::HostOp;


long map_memory(const HostOp& op, int where) {
  const int promise = op.b != 0 ? MAP_NORESERVE : 0;
  return sys(SYS_mmap, op.address, op.bytes, op.a, MAP_PRIVATE | MAP_ANONYMOUS | promise | where, -1,
             0);
}

// On the range of the operation rather than the caller's: the rest of it is the server's.
long host_call_on(const HostOp& op, const protocol::TrapRequest& request) {
  uint64_t args[6];
  for (int i = 0; i < 6; ++i) args[i] = request.args[i];
  switch (request.call) {
    case protocol::kCallMmap:
    case protocol::kCallMremap:
    case protocol::kCallBrk:
    case protocol::kCallSbrk:
      break;
    default:
      args[0] = op.address;
      args[1] = op.bytes;
  }
  return host_call(request.call, request.abi, args);
}

// What is one mapping to the server can be several to the host. Before Linux 6.17 that moves only
// one at a time, and says EFAULT before it does anything: halves lead to the borders. If one does not go,
// what went comes back. `flags`: MREMAP_DONTUNMAP, or none.
long move_parts(uint64_t from, uint64_t bytes, uint64_t to, int flags = 0) {
  constexpr uint64_t kPage = 4096;
  const long moved = sys(SYS_mremap, from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to);
  if (moved != -EFAULT || bytes <= kPage) return moved;
  const uint64_t half = bytes / 2 / kPage * kPage;
  const long first = move_parts(from, half, to, flags);
  if (failed(first)) return first;
  const long second = move_parts(from + half, bytes - half, to + half, flags);
  if (!failed(second)) return first;
  const long back = move_parts(to, half, from);
  return failed(back) ? back : second;
}

long unregister(const HostOp& op, int userfaultfd) {
  uffdio_range range{op.address, op.bytes};
  return sys(SYS_ioctl, userfaultfd, UFFDIO_UNREGISTER, &range);
}

// Later it moves several, but stops in the middle with EFAULT where the second is registered with a
// userfaultfd. The move drops the registration anyway, and the range is inaccessible.
long move(const HostOp& op, int userfaultfd) {
  const long unregistered = unregister(op, userfaultfd);
  if (failed(unregistered)) return unregistered;
  return move_parts(op.address, op.bytes, op.a);
}

long register_range(uint64_t from, uint64_t bytes, uint64_t mode, int userfaultfd) {
  uffdio_register request{};
  request.range = {from, bytes};
  request.mode = mode;
  return sys(SYS_ioctl, userfaultfd, UFFDIO_REGISTER, &request);
}

// Private pages leave the range in one step, and it stays registered. Where they go the kernel joins them
// to a neighbour that is like them, and then takes the registration off the whole: the neighbour's pages
// would be the kernel's from then on. So they bear a mark until they are there that nothing else has, as
// this advice means nothing for memory and never gets to the host.
long take_away(const HostOp& op, int userfaultfd) {
  long result = sys(SYS_madvise, op.address, op.bytes, MADV_RANDOM);
  if (!failed(result)) {
    result = move_parts(op.address, op.bytes, op.a, MREMAP_DONTUNMAP);
    // What came back is not registered.
    if (failed(result)) {
      register_range(op.address, op.bytes, UFFDIO_REGISTER_MODE_MISSING, userfaultfd);
    } else {
      sys(SYS_madvise, op.a, op.bytes, MADV_NORMAL);
    }
  }
  sys(SYS_madvise, op.address, op.bytes, MADV_NORMAL);
  return result;
}

long copy_out(const HostOp& op, int descriptor) {
  uint64_t done = 0;
  while (done < op.bytes) {
    const long wrote =
        sys(SYS_pwrite64, descriptor, op.address + done, op.bytes - done, op.a + done);
    if (wrote == -EINTR) continue;
    if (failed(wrote)) return wrote;
    if (wrote == 0) return -ENOSPC;
    done += static_cast<uint64_t>(wrote);
  }
  return 0;
}

long run_one(const HostOp& op, HostOpContext& context) {
  switch (op.kind) {
    case HostOp::kReserve:
      return map_memory(op, MAP_FIXED);
    case HostOp::kClaim:
      return map_memory(op, MAP_FIXED_NOREPLACE);
    case HostOp::kMapBacking:
      return sys(SYS_mmap, op.address, op.bytes, op.c,
                 ((op.b & protocol::kMapClaim) != 0 ? MAP_FIXED_NOREPLACE : MAP_FIXED) |
                     MAP_NORESERVE |
                     ((op.b & protocol::kMapShared) != 0 ? MAP_SHARED : MAP_PRIVATE),
                 context.descriptor, op.a);
    case HostOp::kMapDescriptor:
      return sys(SYS_mmap, op.address, op.bytes, op.b, MAP_FIXED | MAP_SHARED, op.c, op.a);
    case HostOp::kRegister:
      return register_range(op.address, op.bytes, op.a, context.userfaultfd);
    case HostOp::kUnregister:
      return unregister(op, context.userfaultfd);
    case HostOp::kWriteProtect: {
      uffdio_writeprotect request{};
      request.range = {op.address, op.bytes};
      request.mode = UFFDIO_WRITEPROTECT_MODE_WP;
      context.tracks = true;
      long result;
      do {
        result = sys(SYS_ioctl, context.userfaultfd, UFFDIO_WRITEPROTECT, &request);
      } while (result == -EAGAIN);
      return result;
    }
    case HostOp::kProtect:
      return sys(SYS_mprotect, op.address, op.bytes, op.a);
    case HostOp::kRelease:
      return sys(SYS_munmap, op.address, op.bytes);
    case HostOp::kMove:
      return move(op, context.userfaultfd);
    case HostOp::kTakeAway:
      return take_away(op, context.userfaultfd);
    case HostOp::kCopyOut:
      return copy_out(op, context.descriptor);
    case HostOp::kAdvise:
      return sys(SYS_madvise, op.address, op.bytes, op.a);
    case HostOp::kLock:
      return op.a == 0 ? sys(SYS_mlock, op.address, op.bytes)
                       : sys(SYS_mlock2, op.address, op.bytes, op.a);
    case HostOp::kUnlock:
      return sys(SYS_munlock, op.address, op.bytes);
    case HostOp::kHostCall:
      context.host_value = host_call_on(op, *context.request);
      return context.value_from_host ? 0 : context.host_value;
    default:
      return -EINVAL;
  }
}

}  // namespace

long host_call(uint16_t number, uint16_t abi, const uint64_t (&args)[6]) {
  if (abi == protocol::kAbiFreebsd) return freebsd_host_call(number, args);
  switch (number) {
    case protocol::kCallMmap:
      return sys(SYS_mmap, args[0], args[1], args[2], args[3], args[4], args[5]);
    case protocol::kCallMunmap:
      return sys(SYS_munmap, args[0], args[1]);
    case protocol::kCallMremap:
      return sys(SYS_mremap, args[0], args[1], args[2], args[3], args[4]);
    case protocol::kCallMprotect:
      return sys(SYS_mprotect, args[0], args[1], args[2]);
    case protocol::kCallMsync:
      return sys(SYS_msync, args[0], args[1], args[2]);
    case protocol::kCallMadvise:
      return sys(SYS_madvise, args[0], args[1], args[2]);
    case protocol::kCallPosixMadvise:
      // POSIX_MADV_DONTNEED has the host's number for throwing data away; it means no such thing.
      return args[2] == MADV_DONTNEED ? 0 : sys(SYS_madvise, args[0], args[1], args[2]);
    case protocol::kCallMincore:
      return sys(SYS_mincore, args[0], args[1], args[2]);
    case protocol::kCallMlock:
      return sys(SYS_mlock, args[0], args[1]);
    case protocol::kCallMlock2:
      return sys(SYS_mlock2, args[0], args[1], args[2]);
    case protocol::kCallMunlock:
      return sys(SYS_munlock, args[0], args[1]);
    case protocol::kCallMlockall:
      return sys(SYS_mlockall, args[0]);
    case protocol::kCallMunlockall:
      return sys(SYS_munlockall);
    case protocol::kCallBrk: {
      const long reached = sys(SYS_brk, args[0]);
      if (&__curbrk != nullptr) __curbrk = reinterpret_cast<void*>(reached);
      return static_cast<uint64_t>(reached) < args[0] ? -ENOMEM : 0;
    }
    case protocol::kCallSbrk: {
      const long old = sys(SYS_brk, 0);
      const long wanted = old + static_cast<long>(args[0]);
      const long reached = args[0] == 0 ? old : sys(SYS_brk, wanted);
      if (&__curbrk != nullptr) __curbrk = reinterpret_cast<void*>(reached);
      return reached == wanted ? old : -ENOMEM;
    }
    default:
      return -ENOSYS;
  }
}

int run_host_ops(const HostOp* ops, uint32_t count, HostOpContext& context, int& error) {
  for (uint32_t i = 0; i < count; ++i) {
    const long result = run_one(ops[i], context);
    if (failed(result) && ops[i].may_fail == 0) {
      error = static_cast<int>(-result);
      return static_cast<int>(i);
    }
  }
  return -1;
}

}  // namespace shim
