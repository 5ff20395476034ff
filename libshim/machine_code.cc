#include "libshim/machine_code.h"

#include <string.h>

namespace shim {
namespace {

// A system call wrapper comes to the point: before it there is at most a look at the arguments.
constexpr size_t kSoon = 96;

uint32_t word_at(const uint8_t* code) {
  uint32_t word;
  memcpy(&word, code, sizeof(word));
  return word;
}

void append(Patch& patch, const void* bytes, size_t count) {
  memcpy(patch.bytes + patch.size, bytes, count);
  patch.size += count;
}

bool begins_with(const uint8_t* code, size_t bytes, const uint8_t* pattern, size_t length) {
  return bytes >= length && memcmp(code, pattern, length) == 0;
}

namespace x86_64 {

constexpr uint8_t kEndbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
constexpr uint8_t kMoveToEax = 0xb8;
constexpr uint8_t kSyscall[] = {0x0f, 0x05};
constexpr uint8_t kCall = 0xe8;
constexpr uint8_t kJump = 0xe9;
constexpr uint8_t kJumpThroughNext[] = {0xff, 0x25, 0, 0, 0, 0};  // jmp *0(%rip)
constexpr size_t kNearBytes = 5;
constexpr size_t kFarBytes = sizeof(kJumpThroughNext) + sizeof(uint64_t);

size_t landing_pad(const Body& body) {
  return begins_with(body.code, body.bytes, kEndbr64, sizeof(kEndbr64)) ? sizeof(kEndbr64) : 0;
}

// What hooking libraries and debuggers put there, and compilers do not.
bool is_redirected(const Body& body) {
  const size_t pad = landing_pad(body);
  if (body.bytes < pad + 2) return true;
  const uint8_t first = body.code[pad];
  const uint8_t second = body.code[pad + 1];
  switch (first) {
    case 0xcc:  // int3
    case 0xe8:  // call, jmp
    case 0xe9:
    case 0xeb:
    case 0x68:  // push; ret
      return true;
    case 0xff:  // jmp *
      return (second & 0x38) == 0x20;
    case 0x48:  // movabs to a register; jmp *register
    case 0x49:
      return (second & 0xf8) == 0xb8;
    default:
      return false;
  }
}

bool makes_system_call(const Body& body, unsigned number) {
  uint8_t expected[7] = {kMoveToEax};
  memcpy(expected + 1, &number, 4);
  memcpy(expected + 5, kSyscall, sizeof(kSyscall));
  for (size_t at = landing_pad(body); at < kSoon && at + sizeof(expected) <= body.bytes; ++at) {
    if (memcmp(body.code + at, expected, sizeof(expected)) == 0) return true;
  }
  return false;
}

bool calls_function(const Body& body, uint64_t callee) {
  for (size_t at = landing_pad(body); at + kNearBytes <= body.bytes; ++at) {
    if (body.code[at] != kCall) continue;
    const auto distance = static_cast<int32_t>(word_at(body.code + at + 1));
    if (body.address + at + kNearBytes + static_cast<uint64_t>(int64_t{distance}) == callee) {
      return true;
    }
  }
  return false;
}

Patch jump_to(const Body& body, uint64_t target) {
  Patch patch;
  const size_t pad = landing_pad(body);
  append(patch, kEndbr64, pad);
  const auto distance = static_cast<int64_t>(target - (body.address + pad + kNearBytes));
  const auto near = static_cast<int32_t>(distance);
  if (near == distance) {
    append(patch, &kJump, 1);
    append(patch, &near, sizeof(near));
  } else {
    append(patch, kJumpThroughNext, sizeof(kJumpThroughNext));
    append(patch, &target, sizeof(target));
  }
  if (patch.size > body.bytes) patch.size = 0;
  return patch;
}
static_assert(sizeof(kEndbr64) + kFarBytes <= sizeof(Patch::bytes));

}  // namespace x86_64

namespace aarch64 {

constexpr uint32_t kBtiC = 0xd503245f;
constexpr uint32_t kPaciasp = 0xd503233f;  // a landing pad, too
constexpr uint32_t kSvc0 = 0xd4000001;
constexpr uint32_t kMoveToX8 = 0xd2800008;  // movz x8, #0
constexpr uint32_t kMoveToW8 = 0x52800008;
constexpr unsigned kImmediateShift = 5;
constexpr uint32_t kBranch = 0x14000000;
constexpr uint32_t kBranchAndLink = 0x94000000;
constexpr uint32_t kBranchMask = 0xfc000000;
constexpr uint32_t kBranchOffset = 0x03ffffff;
constexpr uint32_t kLoadNextToX16 = 0x58000050;  // ldr x16, 8 bytes from here
constexpr uint32_t kBranchToX16 = 0xd61f0200;
constexpr int64_t kReach = int64_t{128} << 20;
constexpr size_t kWord = 4;

// The jump's target finds the return address as it was: a paciasp is not carried out, and what it
// is beside, a landing pad, a bti c is.
size_t landing_pad(const Body& body) {
  if (body.bytes < kWord) return 0;
  const uint32_t first = word_at(body.code);
  return first == kBtiC || first == kPaciasp ? kWord : 0;
}

bool is_redirected(const Body& body) {
  const size_t pad = landing_pad(body);
  if (body.bytes < pad + kWord) return true;
  const uint32_t first = word_at(body.code + pad);
  return (first & 0x7c000000) == kBranch ||     // b, bl
         (first & 0xfe000000) == 0xd6000000 ||  // br and its kin
         (first & 0xff00001e) == 0x58000010 ||  // ldr x16 or x17 from a literal
         (first & 0x1f00001e) == 0x10000010 ||  // adr, adrp to them
         (first & 0x7f80001e) == 0x52800010 ||  // movz to them
         (first & 0xffe0001f) == 0xd4200000;    // brk
}

bool makes_system_call(const Body& body, unsigned number) {
  if (number > 0xffff) return false;
  const uint32_t immediate = number << kImmediateShift;
  for (size_t at = 0; at < kSoon && at + 2 * kWord <= body.bytes; at += kWord) {
    const uint32_t move = word_at(body.code + at);
    if ((move == (kMoveToX8 | immediate) || move == (kMoveToW8 | immediate)) &&
        word_at(body.code + at + kWord) == kSvc0) {
      return true;
    }
  }
  return false;
}

bool calls_function(const Body& body, uint64_t callee) {
  for (size_t at = 0; at + kWord <= body.bytes; at += kWord) {
    const uint32_t word = word_at(body.code + at);
    if ((word & kBranchMask) != kBranchAndLink) continue;
    const int64_t distance = static_cast<int32_t>((word & kBranchOffset) << 6) >> 4;
    if (body.address + at + static_cast<uint64_t>(distance) == callee) return true;
  }
  return false;
}

Patch jump_to(const Body& body, uint64_t target) {
  Patch patch;
  const size_t pad = landing_pad(body);
  append(patch, &kBtiC, pad);
  const auto distance = static_cast<int64_t>(target - (body.address + pad));
  if (distance >= -kReach && distance < kReach) {
    const uint32_t branch = kBranch | (static_cast<uint32_t>(distance >> 2) & kBranchOffset);
    append(patch, &branch, kWord);
  } else {
    append(patch, &kLoadNextToX16, kWord);
    append(patch, &kBranchToX16, kWord);
    append(patch, &target, sizeof(target));
  }
  if (patch.size > body.bytes) patch.size = 0;
  return patch;
}

}  // namespace aarch64
}  // namespace

bool makes_system_call(Machine machine, const Body& body, unsigned number) {
  return machine == Machine::kX86_64
             ? !x86_64::is_redirected(body) && x86_64::makes_system_call(body, number)
             : !aarch64::is_redirected(body) && aarch64::makes_system_call(body, number);
}

bool calls_function(Machine machine, const Body& body, uint64_t callee) {
  return machine == Machine::kX86_64
             ? !x86_64::is_redirected(body) && x86_64::calls_function(body, callee)
             : !aarch64::is_redirected(body) && aarch64::calls_function(body, callee);
}

Patch jump_to(Machine machine, const Body& body, uint64_t target) {
  return machine == Machine::kX86_64 ? x86_64::jump_to(body, target)
                                     : aarch64::jump_to(body, target);
}

}  // namespace shim
