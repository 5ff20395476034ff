#include "vmserver/client/plan_encoder.h"

#include <sys/mman.h>

#include "hal/linux/kernel_interface.h"

namespace server {
namespace {

using hal::Inherit;
using hal::Sharing;
using hal::Step;
using hal::VirtualRange;
using protocol::HostOp;

constexpr std::uint64_t kWipeOnFork = 18;
constexpr std::uint64_t kKeepOnFork = 19;
constexpr std::uint64_t kCold = 20;
constexpr std::uint64_t kPopulateRead = 22;
constexpr std::uint64_t kPopulateWrite = 23;

class Encoder {
 public:
  void step(const Step& step) {
    may_fail_ = step.may_fail;
    switch (step.kind) {
      case Step::Kind::replace:
        op(HostOp::kReserve, step.range, step.protection.bits(), step.enable ? 1 : 0);
        op(HostOp::kRegister, step.range, UFFDIO_REGISTER_MODE_MISSING);
        break;
      case Step::Kind::claim:
        op(HostOp::kClaim, step.range, step.protection.bits(), step.enable ? 1 : 0);
        op(HostOp::kRegister, step.range, UFFDIO_REGISTER_MODE_MISSING);
        break;
      case Step::Kind::map_backing:
        map_backing(step);
        break;
      case Step::Kind::map_device:
        op(HostOp::kMapDescriptor, step.range, step.page.byte_offset(), step.protection.bits(),
           static_cast<std::uint64_t>(step.descriptor));
        break;
      case Step::Kind::track:
        register_mapping(step.range, Sharing::shared_tracked);
        break;
      case Step::Kind::protect:
        op(HostOp::kProtect, step.range, step.protection.bits());
        break;
      case Step::Kind::give_back:
        op(HostOp::kRelease, step.range);
        break;
      case Step::Kind::move:
        // Inaccessible on the way: the kernel drops the registration with the move.
        op(HostOp::kProtect, step.range, PROT_NONE);
        op(HostOp::kMove, step.range, step.target.value());
        register_mapping(VirtualRange(step.target, step.target + step.range.bytes()),
                         step.sharing);
        break;
      case Step::Kind::take_away:
        op(HostOp::kTakeAway, step.range, step.target.value());
        op(HostOp::kProtect, VirtualRange(step.target, step.target + step.range.bytes()),
           PROT_READ);
        break;
      case Step::Kind::copy_out:
        descriptor_batch(step, true);
        op(HostOp::kCopyOut, step.range, step.page.byte_offset());
        break;
      case Step::Kind::manage:
        op(HostOp::kRegister, step.range, UFFDIO_REGISTER_MODE_MISSING);
        break;
      case Step::Kind::unmanage:
        op(HostOp::kUnregister, step.range);
        break;
      case Step::Kind::discard:
        op(HostOp::kAdvise, step.range, MADV_DONTNEED);
        break;
      case Step::Kind::lazy_free:
        op(HostOp::kAdvise, step.range, MADV_FREE);
        break;
      case Step::Kind::deactivate:
        op(HostOp::kAdvise, step.range, kCold);
        break;
      case Step::Kind::populate:
        op(HostOp::kAdvise, step.range, step.enable ? kPopulateWrite : kPopulateRead);
        break;
      case Step::Kind::lock:
        op(HostOp::kLock, step.range, step.enable ? MLOCK_ONFAULT : 0);
        break;
      case Step::Kind::unlock:
        op(HostOp::kUnlock, step.range);
        break;
      case Step::Kind::inherit:
        inherit(step);
        break;
      case Step::Kind::dump:
        op(HostOp::kAdvise, step.range, step.enable ? MADV_DODUMP : MADV_DONTDUMP);
        break;
      case Step::Kind::host_call:
        op(HostOp::kHostCall, step.range);
        break;
    }
  }

  std::vector<HostOpBatch> take() { return std::move(batches_); }

 private:
  void map_backing(const Step& step) {
    const bool shared =
        step.sharing == Sharing::shared || step.sharing == Sharing::shared_tracked;
    // A shared mapping that is never written is a private one to the kernel: a descriptor without
    // the right to write gives a shared mapping that userfaultfd refuses, and as long as nothing is
    // stored the two show the same pages.
    descriptor_batch(step, shared);
    op(HostOp::kMapBacking, step.range, step.page.byte_offset(),
       (shared ? protocol::kMapShared : protocol::kMapPrivate) |
           (step.enable ? protocol::kMapClaim : protocol::kMapPrivate),
       step.protection.bits());
    register_mapping(step.range, step.sharing);
  }

  // The next operation goes into a batch that brings this descriptor along.
  void descriptor_batch(const Step& step, bool writable) {
    HostOpBatch* batch = current();
    const bool full = batch->ops.size() == protocol::kMaxHostOps;
    if (full || (batch->backing &&
                 (batch->backing != step.backing || batch->writable != writable)))
      batch = open_batch();
    batch->backing = step.backing;
    batch->writable = writable;
  }

  void register_mapping(VirtualRange range, Sharing sharing) {
    if (sharing != Sharing::shared_tracked) {
      op(HostOp::kRegister, range, UFFDIO_REGISTER_MODE_MISSING);
      return;
    }
    op(HostOp::kRegister, range, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
    op(HostOp::kWriteProtect, range);
  }

  void inherit(const Step& step) {
    switch (step.inheritance) {
      case Inherit::none:
        op(HostOp::kAdvise, step.range, MADV_DONTFORK);
        break;
      case Inherit::zero:
        op(HostOp::kAdvise, step.range, MADV_DOFORK);
        op(HostOp::kAdvise, step.range, kWipeOnFork);
        break;
      case Inherit::copy:
      case Inherit::share:
        op(HostOp::kAdvise, step.range, MADV_DOFORK);
        op(HostOp::kAdvise, step.range, kKeepOnFork);
        break;
    }
  }

  void op(HostOp::Kind kind, VirtualRange range, std::uint64_t a = 0, std::uint64_t b = 0,
          std::uint64_t c = 0) {
    HostOpBatch* batch = current();
    if (batch->ops.size() == protocol::kMaxHostOps) batch = open_batch();
    batch->ops.push_back({.kind = kind,
                          .may_fail = may_fail_ ? 1U : 0U,
                          .address = range.start().value(),
                          .bytes = range.bytes(),
                          .a = a,
                          .b = b,
                          .c = c});
  }

  HostOpBatch* current() { return batches_.empty() ? open_batch() : &batches_.back(); }
  HostOpBatch* open_batch() {
    batches_.emplace_back();
    return &batches_.back();
  }

  std::vector<HostOpBatch> batches_;
  bool may_fail_ = false;  // of the step that is being encoded
};

}  // namespace

std::vector<HostOpBatch> encode(const hal::Plan& plan) {
  Encoder encoder;
  for (const Step& step : plan.steps()) encoder.step(step);
  return encoder.take();
}

}  // namespace server
