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

template <class Code>
void append(Code& code, const void* bytes, size_t count) {
  memcpy(code.bytes + code.size, bytes, count);
  code.size += count;
}

template <class Code>
bool has_room(const Code& code, size_t count) {
  return code.size + count <= sizeof(code.bytes);
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

struct Instruction {
  size_t bytes = 0;         // 0: not one that functions are known to begin with
  size_t displacement = 0;  // where it has one from the instruction's end; 0: it has none
};

// What follows an opcode with a ModRM byte: that, a SIB byte, a displacement. 0: there is no room.
size_t operand_bytes(const uint8_t* at, size_t room, bool& from_end) {
  from_end = false;
  if (room == 0) return 0;
  const unsigned mode = at[0] >> 6;
  const unsigned base = at[0] & 7;
  size_t bytes = 1;
  if (mode == 3) return bytes;
  bool displaced = mode == 0 && base == 5;
  from_end = displaced;
  if (base == 4) {
    if (room < 2) return 0;
    displaced = mode == 0 && (at[1] & 7) == 5;
    ++bytes;
  }
  if (mode == 1) bytes += 1;
  if (mode == 2 || displaced) bytes += 4;
  return bytes;
}

// Of those that the beginnings of functions consist of: push, mov, lea, arithmetic, no jumps.
Instruction decode(const uint8_t* code, size_t room) {
  size_t at = 0;
  bool wide = false;
  bool half = false;
  for (; at < room; ++at) {
    const uint8_t prefix = code[at];
    if (prefix == 0x66) half = true;
    if (prefix != 0x66 && prefix != 0x64) break;  // operand size; fs
  }
  if (at < room && (code[at] & 0xf0) == 0x40) wide = (code[at++] & 8) != 0;  // REX
  if (at >= room) return {};
  size_t immediate = 0;
  const uint8_t opcode = code[at++];
  switch (opcode) {
    case 0x01: case 0x03: case 0x09: case 0x0b: case 0x21: case 0x23: case 0x29: case 0x2b:
    case 0x31: case 0x33: case 0x39: case 0x3b: case 0x63: case 0x84: case 0x85: case 0x88:
    case 0x89: case 0x8a: case 0x8b: case 0x8d:
      break;
    case 0x3d:  // cmp of a number with eax
      at += half ? 2 : 4;
      return at <= room ? Instruction{at, 0} : Instruction{};
    case 0x80: case 0x83: case 0xc6:
      immediate = 1;
      break;
    case 0x81: case 0xc7:
      immediate = half ? 2 : 4;
      break;
    case 0x0f:  // pxor, xorps, movups, movaps, movzbl; syscall
      if (at >= room) return {};
      switch (code[at++]) {
        case 0x05:
          return {at, 0};
        case 0x11: case 0x29: case 0x57: case 0xb6: case 0xef:
          break;
        default:
          return {};
      }
      break;
    default:
      if ((opcode & 0xf8) == 0x50) return {at, 0};  // push
      if ((opcode & 0xf8) == 0xb8 && !half) {       // mov of a number
        at += wide ? 8 : 4;
        return at <= room ? Instruction{at, 0} : Instruction{};
      }
      return {};
  }
  bool from_end = false;
  const size_t operand = operand_bytes(code + at, room - at, from_end);
  if (operand == 0) return {};
  Instruction instruction;
  if (from_end) instruction.displacement = at + 1;
  instruction.bytes = at + operand + immediate;
  return instruction.bytes <= room ? instruction : Instruction{};
}

// Whether `distance` fits where a jump or an operand keeps it.
bool is_near(int64_t distance) { return distance == static_cast<int32_t>(distance); }

Trampoline go_around(const Body& body, size_t replaced, uint64_t at) {
  const Trampoline none{};
  Trampoline around;
  size_t done = landing_pad(body);
  append(around, kEndbr64, done);
  while (done < replaced) {
    const Instruction instruction = decode(body.code + done, body.bytes - done);
    if (instruction.bytes == 0 || !has_room(around, instruction.bytes)) return none;
    uint8_t* const moved = around.bytes + around.size;
    append(around, body.code + done, instruction.bytes);
    if (instruction.displacement != 0) {
      const auto before = static_cast<int32_t>(word_at(moved + instruction.displacement));
      const int64_t distance =
          before + static_cast<int64_t>(body.address + done - (at + around.size - instruction.bytes));
      if (!is_near(distance)) return none;
      const auto now = static_cast<int32_t>(distance);
      memcpy(moved + instruction.displacement, &now, sizeof(now));
    }
    done += instruction.bytes;
  }
  if (!has_room(around, kNearBytes)) return none;
  const auto distance =
      static_cast<int64_t>(body.address + done - (at + around.size + kNearBytes));
  if (!is_near(distance)) return none;
  const auto near = static_cast<int32_t>(distance);
  append(around, &kJump, 1);
  append(around, &near, sizeof(near));
  return around;
}

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

bool depends_on_address(uint32_t word) {
  return (word & 0x1f000000) == 0x10000000 ||  // adr, adrp
         (word & 0x1c000000) == 0x14000000 ||  // b, bl, b.cond, cbz, tbz, br, svc and their kin
         (word & 0x3b000000) == 0x18000000;    // ldr of a literal
}

Trampoline go_around(const Body& body, size_t replaced, uint64_t at) {
  constexpr uint32_t kAdrp = 0x90000000;
  constexpr uint32_t kLoadOverOne = 0x58000040;  // ldr, 8 bytes from here
  constexpr uint32_t kBranchOverTwo = kBranch | 3;
  const Trampoline none{};
  Trampoline around;
  size_t done = landing_pad(body);
  if (done != 0 && word_at(body.code) == kPaciasp) return none;  // what it signs it checks
  append(around, body.code, done);
  for (; done < replaced; done += kWord) {
    if (done + kWord > body.bytes || !has_room(around, 16)) return none;
    const uint32_t word = word_at(body.code + done);
    if ((word & 0x9f000000) == kAdrp) {
      const uint32_t immediate = (word >> 29 & 3) | (word >> 3 & 0x1ffffc);
      const int64_t pages = static_cast<int32_t>(immediate << 11) >> 11;
      const uint64_t page = ((body.address + done) & ~uint64_t{0xfff}) +
                            static_cast<uint64_t>(pages * 4096);
      const uint32_t load = kLoadOverOne | (word & 31);
      append(around, &load, kWord);
      append(around, &kBranchOverTwo, kWord);
      append(around, &page, sizeof(page));
    } else if (depends_on_address(word)) {
      return none;
    } else {
      append(around, &word, kWord);
    }
  }
  static_cast<void>(at);  // from anywhere
  const uint64_t target = body.address + done;
  if (!has_room(around, 16)) return none;
  append(around, &kLoadNextToX16, kWord);
  append(around, &kBranchToX16, kWord);
  append(around, &target, sizeof(target));
  return around;
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

Trampoline go_around(Machine machine, const Body& body, size_t replaced, uint64_t at) {
  const bool redirected =
      machine == Machine::kX86_64 ? x86_64::is_redirected(body) : aarch64::is_redirected(body);
  if (redirected || replaced == 0) return {};
  return machine == Machine::kX86_64 ? x86_64::go_around(body, replaced, at)
                                     : aarch64::go_around(body, replaced, at);
}

Patch jump_to(Machine machine, const Body& body, uint64_t target) {
  return machine == Machine::kX86_64 ? x86_64::jump_to(body, target)
                                     : aarch64::jump_to(body, target);
}

}  // namespace shim
