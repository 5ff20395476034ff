// Machine code, as far as redirecting a function needs it: is this the body that is expected, and
// which bytes make it jump elsewhere?
//
// Pure functions over bytes, for both machines on either: they are tested where the project is
// built. A landing pad (endbr64, bti c) at the start of a function is kept.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace shim {

enum class Machine { kX86_64, kAarch64 };

#if defined(__x86_64__)
inline constexpr Machine kThisMachine = Machine::kX86_64;
#elif defined(__aarch64__)
inline constexpr Machine kThisMachine = Machine::kAarch64;
#endif

/// The body of a function: its bytes, readable at `code`, and the address that it runs at.
struct Body {
  const uint8_t* code;
  size_t bytes;
  uint64_t address;
};

/// Does it load this number where the kernel looks for it, and then, soon and at once, make the
/// system call? Not if it begins with somebody else's jump.
bool makes_system_call(Machine machine, const Body& body, unsigned number);

/// Does it call the function at this address directly? Not if it begins with somebody else's jump.
bool calls_function(Machine machine, const Body& body, uint64_t callee);

/// The bytes that replace a body's first ones.
struct Patch {
  uint8_t bytes[20];
  size_t size = 0;  ///< 0: the body has no room for a jump
};

/// Room for what goes ahead of a body whose first bytes were replaced.
inline constexpr size_t kTrampolineBytes = 64;

struct Trampoline {
  uint8_t bytes[kTrampolineBytes];
  size_t size = 0;  ///< 0: the body begins with something that cannot stand elsewhere
};

/// Code that does at address `at` what the body's first bytes did, as many as `replaced` reaches
/// into, and goes on behind them: to call it is to call the function as it was.
Trampoline go_around(Machine machine, const Body& body, size_t replaced, uint64_t at);

/// Makes the body jump to `target`: by a short jump where that reaches, else by one that reaches
/// everywhere. No register that carries an argument is changed.
Patch jump_to(Machine machine, const Body& body, uint64_t target);

}  // namespace shim
