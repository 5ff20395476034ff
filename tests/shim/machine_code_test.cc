// Bodies of libc's functions: which are as expected, and how they are made to jump.
#include "libshim/machine_code.h"

#include <catch2/catch.hpp>
#include <vector>

using shim::Body;
using shim::Machine;

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t kAddress = 0x7f0000101a00;

Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

Body body_of(const Bytes& code) { return {code.data(), code.size(), kAddress}; }

Bytes bytes_of(const shim::Patch& patch) { return {patch.bytes, patch.bytes + patch.size}; }

Bytes words(const std::vector<std::uint32_t>& values) {
  Bytes bytes;
  for (const std::uint32_t value : values)
    for (int shift = 0; shift < 32; shift += 8)
      bytes.push_back(static_cast<std::uint8_t>(value >> shift));
  return bytes;
}

Bytes address_bytes(std::uint64_t address) {
  return words({static_cast<std::uint32_t>(address), static_cast<std::uint32_t>(address >> 32)});
}

namespace x86_64 {

bool makes_call(const Bytes& code, unsigned number) {
  return shim::makes_system_call(Machine::kX86_64, body_of(code), number);
}

const Bytes kEndbr64 = {0xf3, 0x0f, 0x1e, 0xfa};
// mov $11,%eax; syscall; cmp $-4095,%rax; jae; ret; …
const Bytes kMunmap = {0xb8, 0x0b, 0,    0,    0,    0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0,
                       0xff, 0xff, 0x73, 0x01, 0xc3, 0x48, 0x8b, 0x0d, 0xc9, 0x13, 0x0d,
                       0x00, 0xf7, 0xd8, 0x64, 0x89, 0x01, 0x48, 0x83, 0xc8, 0xff, 0xc3};
// mov %ecx,%r10d; test $0xfff,%r9d; jne; mov $9,%eax; syscall; …
const Bytes kMmap = {0x41, 0x89, 0xca, 0x41, 0xf7, 0xc1, 0xff, 0x0f, 0x00, 0x00, 0x75,
                     0x14, 0xb8, 0x09, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x48, 0x3d, 0x00,
                     0xf0, 0xff, 0xff, 0x77, 0x25, 0xc3, 0x0f, 0x1f, 0x40, 0x00};
// push %rbx; mov %rdi,%rbx; xor %edi,%edi; call 0x7f0000101900; ret
const Bytes kSbrk = {0x53, 0x48, 0x89, 0xfb, 0x31, 0xff, 0xe8, 0xf5,
                     0xfe, 0xff, 0xff, 0xc3, 0x90, 0x90, 0x90, 0x90};
constexpr std::uint64_t kBrk = 0x7f0000101900;

}  // namespace x86_64

namespace aarch64 {

bool makes_call(const Bytes& code, unsigned number) {
  return shim::makes_system_call(Machine::kAarch64, body_of(code), number);
}

constexpr std::uint32_t kBtiC = 0xd503245f;
constexpr std::uint32_t kPaciasp = 0xd503233f;
constexpr std::uint32_t kNop = 0xd503201f;
constexpr std::uint32_t kSvc = 0xd4000001;
// mov x8, #215; svc #0; cmn x0, #0xfff; b.cs; ret; b
const Bytes kMunmap = words({0xd2801ae8, kSvc, 0xb13ffc1f, 0x54000042, 0xd65f03c0, 0x17fd0ec2});
// tst x5, #0xfff; b.ne; sxtw x2, w2; sxtw x3, w3; sxtw x4, w4; mov x8, #222; svc #0; cmn; b.hi; ret
const Bytes kMmap = words({0xf2402cbf, 0x54000121, 0x93407c42, 0x93407c63, 0x93407c84, 0xd2801bc8,
                           kSvc, 0xb140041f, 0x54000128, 0xd65f03c0});
// stp x29, x30, [sp, #-48]!; mov x29, sp; bl -0x50; ret
const Bytes kSbrk = words({0xa9bd7bfd, 0x910003fd, 0x97ffffec, 0xd65f03c0});
constexpr std::uint64_t kBrk = kAddress + 8 - 0x50;

}  // namespace aarch64

}  // namespace

TEST_CASE("x86-64: a system call wrapper is known by its number and its syscall", "[code]") {
  using namespace x86_64;
  CHECK(makes_call(kMunmap, 11));
  CHECK(makes_call(kEndbr64 + kMunmap, 11));
  CHECK(makes_call(kMmap, 9));
  CHECK_FALSE(makes_call(kMunmap, 10));
  CHECK_FALSE(makes_call(kMmap, 11));
  CHECK_FALSE(makes_call({}, 11));
  CHECK_FALSE(makes_call(Bytes(kMunmap.begin(), kMunmap.begin() + 6), 11));

  Bytes without_syscall = kMunmap;
  without_syscall[5] = 0x90;
  CHECK_FALSE(makes_call(without_syscall, 11));
  CHECK_FALSE(makes_call(Bytes(200, 0x90) + kMunmap, 11));
}

TEST_CASE("x86-64: a body that begins with a jump is somebody else's", "[code]") {
  using namespace x86_64;
  const std::vector<Bytes> jumps = {
      {0xe9, 1, 2, 3, 4},
      {0xeb, 0x10},
      {0xff, 0x25, 0, 0, 0, 0},
      {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xff, 0xe0},
      {0x49, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8, 0x41, 0xff, 0xe3},
      {0x68, 1, 2, 3, 4, 0xc3},
      {0xcc},
  };
  for (const Bytes& jump : jumps) {
    CHECK_FALSE(makes_call(jump + kMmap, 9));
    CHECK_FALSE(makes_call(kEndbr64 + jump + kMmap, 9));
    CHECK_FALSE(shim::calls_function(Machine::kX86_64, body_of(jump + kSbrk), kBrk + jump.size()));
  }
}

TEST_CASE("x86-64: a caller is known by its direct call", "[code]") {
  using namespace x86_64;
  CHECK(shim::calls_function(Machine::kX86_64, body_of(kSbrk), kBrk));
  CHECK_FALSE(shim::calls_function(Machine::kX86_64, body_of(kSbrk), kBrk + 1));
  CHECK_FALSE(shim::calls_function(Machine::kX86_64, body_of(kMunmap), kBrk));
}

TEST_CASE("x86-64: a jump is short where that reaches, and absolute elsewhere", "[code]") {
  using namespace x86_64;
  const auto jump = [](const Bytes& code, std::uint64_t target) {
    return bytes_of(shim::jump_to(Machine::kX86_64, body_of(code), target));
  };
  CHECK(jump(kMunmap, kAddress + 5 + 0x1234) == Bytes{0xe9, 0x34, 0x12, 0, 0});
  CHECK(jump(kMunmap, kAddress + 5 - 1) == Bytes{0xe9, 0xff, 0xff, 0xff, 0xff});
  CHECK(jump(kEndbr64 + kMunmap, kAddress + 9 + 0x10) == kEndbr64 + Bytes{0xe9, 0x10, 0, 0, 0});
  CHECK(jump(kMunmap, kAddress + 5 + 0x7fffffff) == Bytes{0xe9, 0xff, 0xff, 0xff, 0x7f});

  const std::uint64_t far = kAddress + 5 + 0x80000000;
  const Bytes far_jump = Bytes{0xff, 0x25, 0, 0, 0, 0} + address_bytes(far);
  CHECK(jump(kMunmap, far) == far_jump);
  CHECK(jump(kEndbr64 + kMunmap, far).size() == 9);
  CHECK(jump(kEndbr64 + kMunmap, far + 4) ==
        kEndbr64 + Bytes{0xff, 0x25, 0, 0, 0, 0} + address_bytes(far + 4));
  CHECK(jump(Bytes(5, 0x90), kAddress + 0x100).size() == 5);
  CHECK(jump(Bytes(4, 0x90), kAddress + 0x100).empty());
  CHECK(jump(Bytes(13, 0x90), far).empty());
}

TEST_CASE("aarch64: a system call wrapper is known by its number and its svc", "[code]") {
  using namespace aarch64;
  CHECK(makes_call(kMunmap, 215));
  CHECK(makes_call(words({kBtiC}) + kMunmap, 215));
  CHECK(makes_call(words({kNop}) + kMunmap, 215));
  CHECK(makes_call(kMmap, 222));
  CHECK(makes_call(words({0x52801ae8, kSvc}), 215));
  CHECK_FALSE(makes_call(kMunmap, 216));
  CHECK_FALSE(makes_call(words({0xd2801ae8, kNop, kSvc}), 215));
  CHECK_FALSE(makes_call(words({0xd2801ae9, kSvc}), 215));
  CHECK_FALSE(makes_call({}, 215));
  CHECK_FALSE(makes_call(words({0xd2801ae8}), 215));
  CHECK_FALSE(makes_call(words(std::vector<std::uint32_t>(50, kNop)) + kMunmap, 215));
}

TEST_CASE("aarch64: a body that begins with a jump is somebody else's", "[code]") {
  using namespace aarch64;
  const std::vector<std::uint32_t> jumps = {
      0x14000010,  // b
      0x58000050,  // ldr x16, #8
      0x58000051,  // ldr x17, #8
      0xd61f0200,  // br x16
      0x90000010,  // adrp x16
      0xd2800010,  // mov x16, #0
      0xd4200000,  // brk #0
  };
  for (const std::uint32_t jump : jumps) {
    CHECK_FALSE(makes_call(words({jump}) + kMmap, 222));
    CHECK_FALSE(makes_call(words({kBtiC, jump}) + kMmap, 222));
    CHECK_FALSE(shim::calls_function(Machine::kAarch64, body_of(words({jump}) + kSbrk), kBrk + 4));
  }
}

TEST_CASE("aarch64: a caller is known by its direct call", "[code]") {
  using namespace aarch64;
  CHECK(shim::calls_function(Machine::kAarch64, body_of(kSbrk), kBrk));
  CHECK_FALSE(shim::calls_function(Machine::kAarch64, body_of(kSbrk), kBrk + 4));
  CHECK_FALSE(shim::calls_function(Machine::kAarch64, body_of(kMunmap), kBrk));
}

TEST_CASE("aarch64: a jump is one branch where that reaches, and absolute elsewhere", "[code]") {
  using namespace aarch64;
  const auto jump = [](const Bytes& code, std::uint64_t target) {
    return bytes_of(shim::jump_to(Machine::kAarch64, body_of(code), target));
  };
  constexpr std::uint64_t kReach = std::uint64_t{128} << 20;
  CHECK(jump(kMunmap, kAddress + 0x100) == words({0x14000040}));
  CHECK(jump(kMunmap, kAddress - 4) == words({0x17ffffff}));
  CHECK(jump(kMunmap, kAddress + kReach - 4) == words({0x15ffffff}));
  CHECK(jump(kMunmap, kAddress - kReach) == words({0x16000000}));
  CHECK(jump(words({kBtiC}) + kMunmap, kAddress + 0x104) == words({kBtiC, 0x14000040}));
  // The return address stays as it is, and the place one that may be jumped to.
  CHECK(jump(words({kPaciasp}) + kMunmap, kAddress + 0x104) == words({kBtiC, 0x14000040}));

  const Bytes far_jump = words({0x58000050, 0xd61f0200}) + address_bytes(kAddress + kReach);
  CHECK(jump(kMunmap, kAddress + kReach) == far_jump);
  CHECK(jump(words({kNop, kNop, kNop}), kAddress + kReach).empty());
  CHECK(jump({}, kAddress).empty());
}

TEST_CASE("x86-64: what a body began with stands elsewhere, and goes on behind it", "[code]") {
  using namespace x86_64;
  constexpr std::uint64_t kElsewhere = kAddress + 0x200000;
  const auto around = [](const Bytes& code, std::size_t replaced = 5) {
    const shim::Trampoline made =
        shim::go_around(Machine::kX86_64, body_of(code), replaced, kElsewhere);
    return Bytes{made.bytes, made.bytes + made.size};
  };
  const auto jump_back = [](std::size_t at, std::size_t to) {
    const auto distance = static_cast<std::uint32_t>(kAddress + to - (kElsewhere + at + 5));
    return Bytes{0xe9} + words({distance});
  };
  // mov $40,%eax; syscall
  const Bytes simple = {0xb8, 40, 0, 0, 0, 0x0f, 0x05, 0xc3};
  CHECK(around(simple) == Bytes{0xb8, 40, 0, 0, 0} + jump_back(5, 5));
  CHECK(around(kEndbr64 + simple, 9) == kEndbr64 + Bytes{0xb8, 40, 0, 0, 0} + jump_back(9, 9));
  // cmpb $0,0x1234(%rip): the same byte from there. Whole instructions go along.
  const Bytes look = {0x80, 0x3d, 0x34, 0x12, 0, 0, 0, 0x74, 0x17, 0xb8, 0, 0, 0, 0};
  CHECK(around(look) == Bytes{0x80, 0x3d} + words({0x1234u - 0x200000u}) + Bytes{0} +
                            jump_back(7, 7));
  // xor %eax,%eax; syscall; cmp $-4095,%rax
  const Bytes call = {0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x90};
  CHECK(around(call) == Bytes(call.begin(), call.begin() + 10) + jump_back(10, 10));
  CHECK(around(call, 4) == Bytes{0x31, 0xc0, 0x0f, 0x05} + jump_back(4, 4));
  // push %rbp; mov %esi,%r10d; mov %rdi,%rbp; push %rbx
  const Bytes saves = {0x55, 0x41, 0x89, 0xf2, 0x48, 0x89, 0xfd, 0x53, 0x90};
  CHECK(around(saves) == Bytes(saves.begin(), saves.begin() + 7) + jump_back(7, 7));
  // sub $0x68,%rsp; mov %rdx,0x40(%rsp)
  const Bytes variadic = {0x48, 0x83, 0xec, 0x68, 0x48, 0x89, 0x54, 0x24, 0x40, 0x90};
  CHECK(around(variadic) == Bytes(variadic.begin(), variadic.begin() + 9) + jump_back(9, 9));
  // mov %fs:0x28,%rax has an address, but not one from its own.
  const Bytes guard = {0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0, 0x90};
  CHECK(around(guard) == Bytes(guard.begin(), guard.begin() + 9) + jump_back(9, 9));
}

TEST_CASE("x86-64: what cannot stand elsewhere is left where it is", "[code]") {
  using namespace x86_64;
  const auto size_at = [](const Bytes& code, std::uint64_t at) {
    return shim::go_around(Machine::kX86_64, body_of(code), 5, at).size;
  };
  const std::uint64_t near = kAddress + 0x1000;
  // je; call; ret; int3; a body that ends; an instruction of no known kind.
  CHECK(size_at({0x74, 0x10, 0x90, 0x90, 0x90, 0x90}, near) == 0);
  CHECK(size_at({0x53, 0xe8, 1, 0, 0, 0, 0x90}, near) == 0);
  CHECK(size_at({0x53, 0xc3, 0x90, 0x90, 0x90, 0x90}, near) == 0);
  CHECK(size_at({0xcc, 0x53, 0x90, 0x90, 0x90, 0x90}, near) == 0);
  CHECK(size_at({0x53, 0x53}, near) == 0);
  CHECK(size_at({0xb8, 1, 0}, near) == 0);
  CHECK(size_at({0x0f, 0x0b, 0x90, 0x90, 0x90, 0x90}, near) == 0);
  // Too far away for the jump back, or for the operand.
  const Bytes simple = {0xb8, 40, 0, 0, 0, 0x0f, 0x05, 0xc3};
  CHECK(size_at(simple, near) != 0);
  CHECK(size_at(simple, kAddress + 0x90000000) == 0);
  const Bytes look = {0x80, 0x3d, 0, 0, 0, 0x80, 0, 0x74, 0x17};
  CHECK(size_at(look, kAddress - 0x100) != 0);
  CHECK(size_at(look, near) == 0);
}

TEST_CASE("aarch64: what a body began with stands elsewhere, and goes on behind it", "[code]") {
  using namespace aarch64;
  const auto around = [](const std::vector<std::uint32_t>& code) {
    const Bytes bytes = words(code);
    const shim::Trampoline made =
        shim::go_around(Machine::kAarch64, body_of(bytes), 4, 0x7e0000000000);
    return Bytes{made.bytes, made.bytes + made.size};
  };
  const auto back = [](std::size_t to) {
    return words({0x58000050, 0xd61f0200}) + address_bytes(kAddress + to);
  };
  constexpr std::uint32_t kSave = 0xa9bd7bfd;  // stp x29, x30, [sp, #-48]!
  CHECK(around({kSave, kNop}) == words({kSave}) + back(4));
  // The landing pad is not replaced, and both have one.
  {
    const Bytes bytes = words({kBtiC, kSave, kNop});
    const shim::Trampoline made =
        shim::go_around(Machine::kAarch64, body_of(bytes), 8, 0x7e0000000000);
    CHECK(Bytes(made.bytes, made.bytes + made.size) == words({kBtiC, kSave}) + back(8));
  }
  // adrp x3, 0x12 pages on: the page's address is loaded.
  const std::uint32_t page_of = 0x90000003 | (0x12u & 3) << 29 | (0x12u >> 2) << 5;
  CHECK(around({page_of, kNop}) == words({0x58000043, 0x14000003}) +
                                       address_bytes((kAddress & ~std::uint64_t{0xfff}) + 0x12000) +
                                       back(4));
  // 3 pages back
  const std::uint32_t before = 0x90000003 | (static_cast<std::uint32_t>(-3) & 3) << 29 |
                               (static_cast<std::uint32_t>(-3) >> 2 & 0x7ffff) << 5;
  CHECK(around({before, kNop}) == words({0x58000043, 0x14000003}) +
                                      address_bytes((kAddress & ~std::uint64_t{0xfff}) - 0x3000) +
                                      back(4));
  for (const std::uint32_t word : {0x10000000u /* adr */, 0x54000041u /* b.ne */, 0x34000040u /* cbz */,
                                   0x36000040u /* tbz */, 0x94000001u /* bl */, 0x58000041u /* ldr */,
                                   kSvc, 0xd65f03c0u /* ret */}) {
    CHECK(around({word, kNop}).empty());
  }
  CHECK(around({kPaciasp, kSave}).empty());
}
