// What may be done with a page. The values are the ones that both FreeBSD and Linux use.
#pragma once

#include <cstdint>

namespace hal {

class Protection {
 public:
  constexpr Protection() = default;
  constexpr explicit Protection(std::uint8_t bits) : bits_(bits & 7) {}

  static constexpr Protection none() { return Protection(0); }
  static constexpr Protection read() { return Protection(1); }
  static constexpr Protection write() { return Protection(2); }
  static constexpr Protection execute() { return Protection(4); }
  static constexpr Protection all() { return Protection(7); }

  constexpr std::uint8_t bits() const { return bits_; }
  constexpr bool readable() const { return bits_ & 1; }
  constexpr bool writable() const { return bits_ & 2; }
  constexpr bool executable() const { return bits_ & 4; }
  /// Whether everything in `other` is allowed here too.
  constexpr bool allows(Protection other) const { return (other.bits_ & ~bits_) == 0; }
  constexpr Protection operator|(Protection other) const {
    return Protection(static_cast<std::uint8_t>(bits_ | other.bits_));
  }
  constexpr Protection without(Protection other) const {
    return Protection(static_cast<std::uint8_t>(bits_ & ~other.bits_));
  }
  constexpr bool operator==(const Protection&) const = default;

 private:
  std::uint8_t bits_ = 0;
};

}  // namespace hal
